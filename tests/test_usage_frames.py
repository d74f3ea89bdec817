"""Usage that servers report, in whatever shape: what a client gets of it that did not ask, and what is counted."""

from __future__ import annotations

import json
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_anthropic.reader import StreamReader as AnthropicStream
from nexus_anthropic.reader import WholeReader as AnthropicWhole
from nexus_anthropic.usage import usage_object as anthropic_object

from nexus.dialects.figures import MOST
from nexus.dialects.openai_reader import StreamReader, WholeReader
from nexus.dialects.openai_usage import usage_in, usage_object, usage_of
from nexus.model import CHAT, EMBEDDING, Usage

from .canonical_anything import json_values

COUNTS = {"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13}
USED = Usage(input_tokens=11, output_tokens=2, source="reported")
DONE = b"data: [DONE]\n\n"


def event(**fields):
    return b"data: %b\n\n" % json.dumps({"id": "c", "object": "chat.completion.chunk", **fields}).encode()


def chunk(delta, finish=None, **fields):
    return event(choices=[{"index": 0, "delta": delta, "finish_reason": finish}], **fields)


BEGUN = chunk({"role": "assistant", "content": ""})
WORD = chunk({"content": "word"})
STOP = chunk({}, "stop")
USAGE_ALONE = {
    "no choice": event(choices=[], usage=COUNTS),
    "LiteLLM's": event(choices=[{"index": 0, "delta": {}}], usage=COUNTS),
    "choices null": event(choices=None, usage=COUNTS),
    "choices missing": event(usage=COUNTS),
    "a finish reason of null": chunk({}, usage=COUNTS),
    "an empty finish reason": chunk({}, "", usage=COUNTS),
    "a delta of null": event(choices=[{"index": 0, "delta": None, "finish_reason": None, "logprobs": None}], usage=COUNTS),
    "an empty text": chunk({"content": "", "tool_calls": [], "reasoning_content": None}, usage=COUNTS),
    "the role again": chunk({"role": "assistant", "content": ""}, usage=COUNTS),
    "of the completions API": event(choices=[{"index": 0, "text": "", "finish_reason": None}], usage=COUNTS),
    "with times": event(choices=[], usage=COUNTS, timings={"prompt_n": 11, "predicted_n": 2}),
    "an error of null": event(choices=[], error=None, usage=COUNTS),
    "of all answers": event(choices=[{"index": 0, "delta": {}}, {"index": 1, "delta": {}}], usage=COUNTS),
}
MORE_THAN_USAGE = {
    "a finish reason": chunk({}, "stop", usage=COUNTS),
    "a word": chunk({"content": "last"}, usage=COUNTS),
    "a thought": chunk({"reasoning_content": "hm"}, usage=COUNTS),
    "a call": chunk({"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}, usage=COUNTS),
    "an error": event(error={"message": "out of memory"}, usage=COUNTS),
    "of another answer": event(choices=[{"index": 0, "delta": {}}, {"index": 1, "delta": {"content": "x"}}], usage=COUNTS),
    "what nobody knows": event(choices=[{"index": 0, "delta": {}, "novelty": 7}], usage=COUNTS),
}


def through(wire, size=10**6, *, hide=True):
    reader = StreamReader(7, hide_usage=hide)
    out = b"".join(reader.feed(wire[at : at + size]) for at in range(0, len(wire), size))
    return out + reader.finish(), reader.usage()


def test_who_did_not_ask_gets_no_usage_frame():
    for name, frame in USAGE_ALONE.items():
        for times, told, size in product((1, 2), (b"", STOP), (1, 50, 10**6)):
            case = f"{name}, {times} times, {'after' if told else 'before'} the finish reason, in pieces of {size}"
            wire = BEGUN + WORD + told + frame * times + (b"" if told else STOP) + DONE
            assert through(wire, size) == (BEGUN + WORD + STOP + DONE, USED), case
            assert through(wire, size, hide=False) == (wire, USED), case


@pytest.mark.parametrize("frame", MORE_THAN_USAGE.values(), ids=MORE_THAN_USAGE)
def test_what_carries_more_than_usage_stays_as_it_is(frame):
    reader = StreamReader(7, hide_usage=True)
    assert reader.feed(BEGUN + WORD + frame) == BEGUN + WORD + frame
    assert reader.usage() == USED


def test_the_role_is_news_to_a_client_that_has_heard_nothing():
    first = chunk({"role": "assistant", "content": ""}, usage=COUNTS)
    wire = first + WORD + STOP + DONE
    assert through(wire) == (wire, USED)


def test_usage_of_null_in_each_frame_hides_nothing():
    wire = chunk({"role": "assistant"}, usage=None) + chunk({"content": "a"}, usage=None) + chunk({}, "stop", usage=None)
    assert through(wire + event(choices=[], usage=COUNTS) + DONE) == (wire + DONE, USED)


# ---- what is counted


@pytest.mark.parametrize(
    ("said", "used"),
    [
        (COUNTS, {"input_tokens": 11, "output_tokens": 2}),
        ({"prompt_tokens": 11, "total_tokens": 13}, {"input_tokens": 11, "output_tokens": 2}),
        ({"completion_tokens": 2, "total_tokens": 13}, {"input_tokens": 11, "output_tokens": 2}),
        ({"prompt_tokens": 11, "completion_tokens": 2}, {"input_tokens": 11, "output_tokens": 2}),
        ({"prompt_tokens": 11.0, "completion_tokens": 2.9}, {"input_tokens": 11, "output_tokens": 2}),
        ({"prompt_tokens": "11", "completion_tokens": "2"}, {"input_tokens": 11, "output_tokens": 2}),
        ({"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": -1}, {"input_tokens": 11, "output_tokens": 2}),
        ({"prompt_tokens": 11, "completion_tokens": None, "total_tokens": 5}, {"input_tokens": 11}),
        ({**COUNTS, "prompt_tokens_details": None, "completion_tokens_details": None}, {"input_tokens": 11, "output_tokens": 2}),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 8}}, {"input_tokens": 11, "output_tokens": 2, "cached_tokens": 8}),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": 99}}, {"input_tokens": 11, "output_tokens": 2, "cached_tokens": 11}),
        ({**COUNTS, "prompt_tokens_details": {"cached_tokens": "x"}}, {"input_tokens": 11, "output_tokens": 2}),
        ({**COUNTS, "prompt_tokens_details": []}, {"input_tokens": 11, "output_tokens": 2}),
    ],
)
def test_what_is_said_in_an_odd_way_counts(said, used):
    expected = Usage(**used, source="reported")
    assert usage_of(said) == usage_in(json.dumps(said).encode()) == expected


UNTOLD = [None, "n/a", True, [], {}, -2, 1e300]


@pytest.mark.parametrize("nothing", UNTOLD)
@pytest.mark.parametrize("names", [(), ("total_tokens",)])
def test_a_figure_that_is_none_is_as_absent(nothing, names):
    """What is reported counts; what is not is counted, in a stream and in a whole body."""
    said = {"prompt_tokens": 11, "completion_tokens": nothing, **dict.fromkeys(names, nothing)}
    assert usage_of(said) == usage_in(json.dumps(said).encode()) == Usage(input_tokens=11, source="counted")
    wire = BEGUN + WORD + WORD + WORD + STOP + event(choices=[], usage=said) + DONE
    assert through(wire)[1] == Usage(input_tokens=11, output_tokens=3, source="counted")
    assert through(chunk({"content": "a"}, usage=COUNTS) + STOP + event(choices=[], usage=said) + DONE)[1] == USED
    said = {"prompt_tokens": nothing, "completion_tokens": 2}
    wire = BEGUN + WORD + WORD + WORD + STOP + event(choices=[], usage=said) + DONE
    assert through(wire)[1] == Usage(input_tokens=7, output_tokens=2, source="counted")


def test_a_whole_answer_of_which_a_part_is_reported():
    body = json.dumps(
        {"choices": [{"message": {"content": "word " * 80}}], "usage": {"prompt_tokens": 11, "completion_tokens": None}}
    )
    reader = WholeReader(7, CHAT)
    reader.feed(body.encode())
    reader.finish()
    assert reader.usage() == Usage(input_tokens=11, output_tokens=len(body) // 8, source="counted")


@pytest.mark.parametrize("usage", [{"prompt_tokens": 5}, {"prompt_tokens": 5, "completion_tokens": None}, {"total_tokens": 5}])
def test_what_writes_nothing_has_no_output_to_count(usage):
    reader = WholeReader(7, EMBEDDING)
    reader.feed(json.dumps({"data": [{"embedding": [0.5] * 99}], "usage": usage}).encode())
    reader.finish()
    assert reader.usage() == Usage(input_tokens=5, source="reported")


@pytest.mark.parametrize(
    "said", [{}, {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, {"prompt_tokens": 1e300}, None, 7, []]
)
def test_noughts_and_nonsense_are_no_report(said):
    assert usage_of(said) is usage_in(json.dumps(said).encode()) is None


def test_noughts_until_a_server_knows_do_not_replace_what_it_said():
    noughts = dict.fromkeys(COUNTS, 0)
    wire = chunk({"content": "a"}, usage=noughts) + chunk({}, "stop", usage=COUNTS) + event(choices=[], usage=noughts) + DONE
    assert through(wire)[1] == USED
    assert through(chunk({"content": "a"}, usage=noughts) + STOP + DONE)[1] == Usage(
        input_tokens=7, output_tokens=1, source="counted"
    )


figures = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["12", MOST, MOST + 1])
    | json_values
)
OPENAI = st.fixed_dictionaries(
    {},
    optional={
        "prompt_tokens": figures,
        "completion_tokens": figures,
        "total_tokens": figures,
        "prompt_tokens_details": figures | st.fixed_dictionaries({}, optional={"cached_tokens": figures}),
        "completion_tokens_details": figures | st.fixed_dictionaries({}, optional={"reasoning_tokens": figures}),
    },
)
ANTHROPIC = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": figures,
        "output_tokens": figures,
        "cache_read_input_tokens": figures,
        "cache_creation_input_tokens": figures,
        "output_tokens_details": figures | st.fixed_dictionaries({}, optional={"thinking_tokens": figures}),
    },
)


def is_sane(usage: Usage) -> bool:
    """What ledgers, prices and encoders need of it."""
    counts = (usage.input_tokens, usage.output_tokens, usage.cached_tokens, usage.reasoning_tokens)
    told = [usage_object(usage), anthropic_object(usage)]
    numbers = [value for each in told for value in each.values() if not isinstance(value, dict)]
    return (
        all(type(count) is int and 0 <= count <= 3 * MOST for count in counts)
        and usage.cached_tokens <= usage.input_tokens
        and all(number >= 0 for number in numbers)
    )


@given(OPENAI | figures)
def test_no_usage_of_an_openai_server_harms_an_answer(said):
    body = json.dumps({"choices": [{"message": {"content": "x"}}], "usage": said}).encode()
    whole = WholeReader(7, "chat")
    assert whole.feed(body) == body
    try:
        json.dumps(said, allow_nan=False)
        whole.finish()
    except ValueError:  # no JSON: not a figure of any kind
        return
    assert is_sane(whole.usage())
    wire = BEGUN + WORD + STOP + event(choices=[], usage=said) + DONE
    out, usage = through(wire)
    assert is_sane(usage)
    assert out == (BEGUN + WORD + STOP + DONE if isinstance(said, dict) else wire)


@given(ANTHROPIC | figures, ANTHROPIC | figures)
def test_no_usage_of_an_anthropic_server_harms_an_answer(first, last):
    try:
        json.dumps([first, last], allow_nan=False)
    except ValueError:
        return
    whole = AnthropicWhole(7)
    whole.feed(json.dumps({"type": "message", "content": [], "usage": first}).encode())
    whole.finish()
    assert is_sane(whole.usage())
    events = [
        {"type": "message_start", "message": {"usage": first}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
        {"type": "message_stop"},
    ]
    wire = b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()) for each in events)
    stream = AnthropicStream(7)
    assert stream.feed(wire) + stream.finish() == wire
    assert is_sane(stream.usage())


def test_a_call_whose_arguments_come_with_its_start_counts():
    block = {"type": "tool_use", "id": "t", "name": "f", "input": {"a": 1}}
    events = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_stop"},
    ]
    stream = AnthropicStream(7)
    for each in events:
        stream.feed(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), json.dumps(each).encode()))
    stream.finish()
    assert stream.usage() == Usage(input_tokens=7, output_tokens=1, source="counted")
