"""What servers of OpenAI's kind answer beside a plain text: it reaches an Anthropic client in its order, or is named as lost."""

from __future__ import annotations

import json

import pytest

from nexus.dialects.canonical import Answer, RefusalDelta, ReplyContext, Text, TextDelta
from nexus.errors import BackendError

from .test_translate_odd import CLAUDE, HI, OPENAI, data, openais, translated

WORDS = {"type": "text", "text": "The answer."}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def blocks(wire):
    """The blocks that a stream tells, in the shape of a whole answer's."""
    made = []
    for event in (json.loads(line[6:]) for line in wire.splitlines() if line.startswith(b"data: ")):
        if event["type"] == "content_block_start":
            made.append(event["content_block"])
        elif event["type"] == "content_block_delta":
            kind = event["delta"]["type"].removesuffix("_delta")
            made[-1][kind] = made[-1][kind] + event["delta"][kind]
    return made


def whole(wire):
    made = translated(CLAUDE, OPENAI, home=True, stream=False)
    reader = made.reader("r", "m", 1)
    reader.feed(wire)
    return json.loads(reader.finish()), made.told


def streamed(wire):
    reader = translated(CLAUDE, OPENAI, home=True, stream=True).reader("r", "m", 1)
    return blocks(reader.feed(wire) + reader.finish())


def both(message):
    """The blocks of a message, which are the same streamed, and what is named as lost."""
    body, lost = whole(openais(message, "stop", stream=False))
    assert streamed(openais(message, "stop", stream=True)) == body["content"]
    return body["content"], lost


def said(text):
    return {"type": "text", "text": text}


def thought(text):
    return {"type": "thinking", "thinking": text, "signature": ""}


# ---------------------------------------------------------------- parts


@pytest.mark.parametrize(
    "part",
    [
        {"type": "reasoning", "text": "Hm."},
        {"type": "reasoning", "reasoning": "Hm."},
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
        {"type": "reasoning", "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "thinking", "thinking": "Hm."},
        {"type": "thinking", "thinking": [{"type": "text", "text": "H"}, {"type": "text", "text": "m."}], "closed": True},
    ],
)
def test_reasoning_among_the_parts_is_reasoning(part):
    assert both({"content": [part, WORDS]}) == ([thought("Hm."), said("The answer.")], "")


def test_parts_keep_their_order():
    again = {"type": "thinking", "thinking": "Again."}
    parts = [{"type": "reasoning", "text": "Hm."}, WORDS, again, {"type": "text", "text": "More."}]
    assert both({"content": parts})[0] == [thought("Hm."), said("The answer."), thought("Again."), said("More.")]


def test_thinking_beside_parts_that_hold_none_is_kept():
    assert both({"reasoning_content": "Hm.", "content": [WORDS]})[0] == [thought("Hm."), said("The answer.")]


def test_thinking_that_is_told_twice_is_told_once():
    message = {"reasoning_content": "Hm.", "reasoning": "Hm.", "content": [{"type": "thinking", "thinking": "Hm."}, WORDS]}
    assert both(message)[0] == [thought("Hm."), said("The answer.")]


@pytest.mark.parametrize("name", ["reasoning", "reasoning_content"])
def test_thinking_may_be_in_parts_of_its_own(name):
    assert both({name: [{"type": "text", "text": "Hm."}], "content": "The answer."})[0] == [thought("Hm."), said("The answer.")]


@pytest.mark.parametrize(
    ("part", "lost"),
    [
        (PICTURE, "image_url"),
        ({"type": "reference", "reference_ids": [1]}, "reference"),
        ({"type": "redacted_thinking", "data": "x"}, "redacted_thinking"),
        ({"type": "something <new>"}, "unknown_field"),
        ({"type": 7}, "content_part"),
        ({"type": ["text"]}, "content_part"),
        (7, "content_part"),
        ({"type": "text", "text": "", "annotations": [{"url": "u"}]}, "annotations"),
        ({"type": "text", "text": {"value": "x"}}, "content_part"),
        ({"type": "thinking", "thinking": "", "signature": "sealed"}, "signature"),
        ({"type": "text", "text": None, "annotations": []}, ""),
    ],
)
def test_a_part_without_a_place_is_named_and_the_words_stay(part, lost):
    assert both({"content": [part, WORDS, part]}) == ([said("The answer.")], lost)


def test_words_between_which_something_is_lost_are_one_text():
    assert whole(openais({"content": [WORDS, PICTURE, WORDS]}, "stop", stream=False))[0]["content"] == [said("The answer." * 2)]


@pytest.mark.parametrize("content", [WORDS, ["The ", "answer."], [{"text": "The answer."}]])
def test_parts_may_be_simpler_than_they_should_be(content):
    assert both({"content": content}) == ([said("The answer.")], "")


def test_thinking_that_is_nested_without_end_is_passed_over():
    nested = "x"
    for _ in range(200):
        nested = [nested]
    assert both({"content": [{"type": "thinking", "thinking": nested}, WORDS]})[0] == [said("The answer.")]


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    "message",
    [
        {"content": "So far.", "refusal": "I will not."},
        {"content": [{"type": "text", "text": "So far."}, {"type": "refusal", "refusal": "I will not."}]},
        {"content": "So far.", "refusal": [{"type": "text", "text": "I will not."}]},
    ],
)
def test_a_refusal_beside_a_text_is_a_block_of_its_own(message):
    assert both(message) == ([said("So far."), said("I will not.")], "")


@pytest.mark.parametrize("content", [None, ""])
def test_a_refusal_alone_is_the_text(content):
    assert both({"content": content, "refusal": "I will not."})[0] == [said("I will not.")]


def test_the_pieces_of_a_refusal_are_one_block_apart_from_the_text():
    deltas = [{"content": "So "}, {"content": "far."}, {"refusal": "I will"}, {"refusal": " not."}]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    wire = data([*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]) + b"data: [DONE]\n\n"
    assert streamed(wire) == [said("So far."), said("I will not.")]


def test_a_refusal_is_written_where_openais_clients_look_for_it():
    context = ReplyContext(request_id="r", model="m")
    answer = Answer(parts=(Text(text="So far."), Text(text="I will not.", refusal=True)))
    message = json.loads(OPENAI.write_answer(answer, context)[0])["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == ("So far.", "I will not.")
    alone = json.loads(OPENAI.write_answer(Answer(parts=answer.parts[1:]), context)[0])["choices"][0]["message"]
    assert (alone["content"], alone["refusal"]) == (None, "I will not.")
    encoder = OPENAI.stream_encoder(context)
    wire = encoder.encode(TextDelta(text="So far.")) + encoder.encode(RefusalDelta(text="I will not."))
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in wire.splitlines() if line]
    assert deltas == [{"content": "So far."}, {"refusal": "I will not."}]


def test_an_earlier_refusal_goes_to_a_server_as_words():
    turn = {"role": "assistant", "content": "So far.", "refusal": "I will not."}
    made = translated(OPENAI, CLAUDE, messages=[*HI, turn, *HI])
    assert json.loads(made.body)["messages"][1]["content"] == [said("So far."), said("I will not.")]


# ---------------------------------------------------------------- choices


def choice(index, text, stream):
    return {**index, "delta" if stream else "message": {"content": text}, "finish_reason": "stop"}


def chosen(*choices):
    """The text of an answer, and of the stream, with these choices."""
    body, lost = whole(json.dumps({"choices": [choice(index, text, False) for index, text in choices]}).encode())
    wire = data([{"choices": [choice(index, text, True) for index, text in choices]}]) + b"data: [DONE]\n\n"
    assert streamed(wire) == body["content"]
    return body["content"][0]["text"], lost


@pytest.mark.parametrize("index", [{"index": 1}, {"index": 7}, {"index": "1"}, {"index": None}, {"index": 1.5}, {}])
def test_the_only_choice_is_the_answer_whatever_its_index(index):
    assert chosen((index, "one")) == ("one", "")


def test_of_several_the_lowest_is_the_answer_and_the_others_are_named():
    assert chosen(({"index": 3}, "three"), ({"index": 1}, "one"), ({"index": 2}, "two")) == ("one", "choices")


def test_a_stream_stays_with_the_choice_that_it_began_with():
    chunks = [{"choices": [choice({"index": index}, text, True)]} for index, text in ((1, "one"), (0, "zero"), (1, " more"))]
    assert streamed(data(chunks) + b"data: [DONE]\n\n") == [said("one more")]


@pytest.mark.parametrize("choices", [[], None, {}, [None], [{"index": 0}], [{"index": 0, "message": "x"}]])
def test_choices_without_a_message_are_no_answer(choices):
    with pytest.raises(BackendError, match="no message"):
        whole(json.dumps({"choices": choices}).encode())
