"""Calls that a server mixes, written one after another: what waits comes in order, and its cost is in proportion."""

from __future__ import annotations

import json
from itertools import zip_longest

import pytest
from nexus_anthropic.stream_out import Encoder

from nexus.api import BackendError
from nexus.dialects.arguments import Arguments
from nexus.dialects.canonical import (
    Begin,
    Finish,
    FinishReason,
    ReplyContext,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from nexus.dialects.held import Held
from nexus.dialects.jsontext import object_of

from .growing import LIMIT, growth

CONTEXT = ReplyContext(request_id="r1", model="public")
TEXTS = [
    "{}",
    ' {"a": [1, {"b": "}"}], "c": "\\"}\\\\"} ',
    '{"path": "C:\\\\", "quote": "\\"{["}',
    '{"é😀": {"deep": {"deeper": []}}}',
    "null",
    "[1]",
    "{city: Paris}",
    '{"a": 1}}',
    "}",
    "",
    '"{}"',
]


@pytest.mark.parametrize("text", TEXTS)
def test_arguments_are_complete_as_soon_as_they_are_an_object(text: str) -> None:
    """Wherever they are cut.  What is not an object never is: that is judged at the end."""
    for size in range(1, len(text) + 1):
        arguments, so_far, complete = Arguments(Held()), "", False
        for at in range(0, len(text), size):
            so_far += text[at : at + size]
            arguments.add(text[at : at + size])
            complete = complete or (so_far.strip()[:1] == "{" and object_of(so_far) is not None)
            assert arguments.complete == complete, so_far
        assert arguments.text == text


def test_arguments_may_be_looked_at_late() -> None:
    arguments = Arguments(Held())
    for character in TEXTS[1]:
        arguments.add(character)
    assert arguments.complete


def written(events: list[StreamEvent]) -> list[dict[str, object]]:
    encoder = Encoder(CONTEXT)
    wire = b"".join(encoder.encode(event) for event in [Begin(), *events]) + encoder.finish()
    return [json.loads(frame.split(b"data: ")[1]) for frame in wire.split(b"\n\n")[:-1]]


def mixed(calls: int, argument: str) -> list[StreamEvent]:
    """Calls that all begin at once and grow in turns of one character."""
    starts: list[StreamEvent] = [ToolCallStart(index=index, id=f"c{index}", name=f"f{index}") for index in range(calls)]
    texts = [json.dumps({"text": argument, "n": index}) for index in range(calls)]
    turns = zip_longest(*texts)
    return starts + [ToolCallDelta(index=index, arguments=piece) for turn in turns for index, piece in enumerate(turn) if piece]


def test_very_many_calls_at_once_come_one_after_another() -> None:
    """More than Python may call within each other."""
    events = written([*mixed(2_000, "x"), Finish(reason=FinishReason.TOOL_CALLS)])
    blocks = [event["content_block"]["name"] for event in events if event["type"] == "content_block_start"]
    assert blocks == [f"f{index}" for index in range(2_000)]
    said: dict[int, str] = {}
    for event in events:
        if event["type"] == "content_block_delta":
            said[event["index"]] = said.get(event["index"], "") + event["delta"]["partial_json"]
    assert [json.loads(text)["n"] for text in said.values()] == list(range(2_000))


def test_words_between_mixed_calls_keep_their_place() -> None:
    one, two = (ToolCallStart(index=index, id=f"c{index}", name=f"f{index}") for index in (0, 1))
    events = written(
        [
            one,
            TextDelta(text="between "),
            TextDelta(text="them"),
            two,
            ToolCallDelta(index=1, arguments="{}"),
            ToolCallDelta(index=0, arguments="{"),
            ToolCallDelta(index=0, arguments="}"),
            TextDelta(text="after"),
        ]
    )
    kinds = [event["content_block"]["type"] for event in events if event["type"] == "content_block_start"]
    assert kinds == ["tool_use", "text", "tool_use", "text"]
    texts = [event["delta"]["text"] for event in events if event.get("delta", {}).get("type") == "text_delta"]
    assert texts == ["between ", "them", "after"]


def test_a_call_that_goes_on_after_it_was_complete_is_malformed() -> None:
    encoder = Encoder(CONTEXT)
    for event in mixed(2, "x"):
        encoder.encode(event)
    with pytest.raises(BackendError, match="went on after"):
        encoder.encode(ToolCallDelta(index=0, arguments="more"))


def one_call_while_another_waits(size: int) -> None:
    """Every piece ends as a whole object might."""
    encoder = Encoder(CONTEXT)
    for event in (Begin(), *mixed(2, "")[:2], ToolCallDelta(index=0, arguments='{"a": "')):
        encoder.encode(event)
    encoder.encode(ToolCallDelta(index=1, arguments="{}"))
    for _ in range(size):
        encoder.encode(ToolCallDelta(index=0, arguments="}"))
    encoder.encode(ToolCallDelta(index=0, arguments='"}'))
    encoder.finish()


def calls_that_all_wait(size: int) -> None:
    encoder = Encoder(CONTEXT)
    for event in mixed(size, "x"):
        encoder.encode(event)
    encoder.finish()


@pytest.mark.parametrize("work", [one_call_while_another_waits, calls_that_all_wait])
def test_what_waits_costs_in_proportion(work) -> None:
    assert growth(work, 50) < LIMIT


def test_what_waited_in_very_many_small_pieces_is_written_in_few_large_ones():
    text, arguments = "é" * 40_000, '{"x":"' + "y" * 40_000 + '"}'
    encoder = Encoder(CONTEXT)
    events = [Begin(model="m"), ToolCallStart(index=0, id="a", name="t"), ToolCallDelta(index=0, arguments="{")]
    events += [TextDelta(text=letter) for letter in text]
    events += [ToolCallStart(index=1, id="b", name="u"), *(ToolCallDelta(index=1, arguments=letter) for letter in arguments)]
    before = b"".join(map(encoder.encode, events))
    assert b"text_delta" not in before
    released = encoder.encode(ToolCallDelta(index=0, arguments="}"))
    told = [json.loads(line[6:]) for line in released.split(b"\n") if line.startswith(b"data: ")]
    deltas = [event["delta"] for event in told if event["type"] == "content_block_delta"]
    assert "".join(delta.get("text", "") for delta in deltas) == text
    assert "".join(delta.get("partial_json", "") for delta in deltas) == "}" + arguments
    assert len(deltas) < 10
    assert encoder.finish().endswith(b'data: {"type":"message_stop"}\n\n')
