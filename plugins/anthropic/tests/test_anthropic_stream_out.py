"""The canonical form written as a stream: one block after another, calls that wait for each other, how it ends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import BackendError, Usage
from nexus.dialects.canonical import (
    Begin,
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    ReplyContext,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)

CONTEXT = ReplyContext(request_id="r1", id="made", model="public", input_estimate=9)
TOLD = Usage(input_tokens=10, output_tokens=4, cached_tokens=6, reasoning_tokens=2, source="reported")


def written(*events: Any) -> list[dict[str, Any]]:
    """The events of a written stream, after checking that every one is named by its `event:` line."""
    encoder = Anthropic().stream_encoder(CONTEXT)
    wire = b"".join([*map(encoder.encode, events), encoder.finish()])
    found = []
    for frame in wire.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def outline(*events: Any) -> list[Any]:
    """The blocks of a written stream, in a few letters: `+` opens, `-` closes, deltas as their text."""
    marks = []
    for event in written(Begin(), *events):
        if event["type"] == "content_block_start":
            marks.append(f"+{event['index']} {event['content_block']['type']}")
        elif event["type"] == "content_block_stop":
            marks.append(f"-{event['index']}")
        elif event["type"] == "content_block_delta":
            kind = event["delta"].pop("type")
            (value,) = event["delta"].values()
            assert kind in ("text_delta", "thinking_delta", "signature_delta", "input_json_delta")
            marks.append(f"{event['index']}:{value}")
    return marks


def call(index: int, name: str = "get") -> ToolCallStart:
    return ToolCallStart(index=index, id=f"id{index}", name=name)


def said(index: int, text: str) -> ToolCallDelta:
    return ToolCallDelta(index=index, arguments=text)


def test_a_whole_stream():
    events = written(Begin(model="m"), TextDelta(text="é"), Finish(reason=FinishReason.LENGTH), UsageSeen(usage=TOLD))
    start, opened, text, closed, ended, stop = events
    assert start["message"] == {
        "id": "msg_made",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0},
    }
    assert opened == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert text == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "é"}}
    assert closed == {"type": "content_block_stop", "index": 0}
    assert ended["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert ended["usage"] == {
        "input_tokens": 4,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 6,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    assert stop == {"type": "message_stop"}


def test_blocks_come_one_after_another():
    assert outline(
        ReasoningDelta(text="h"),
        ReasoningDelta(text="m"),
        ReasoningSignature(signature="s"),
        RedactedReasoning(data="x"),
        TextDelta(text="a"),
        call(0),
        said(0, '{"x"'),
        said(0, ":1}"),
        call(1),
        said(1, "{}"),
        TextDelta(text="b"),
        ReasoningDelta(text="c"),
        TextDelta(text="d"),
    ) == [
        *("+0 thinking", "0:h", "0:m", "0:s", "-0"),
        *("+1 redacted_thinking", "-1"),
        *("+2 text", "2:a", "-2"),
        *("+3 tool_use", '3:{"x"', "3::1}", "-3"),
        *("+4 tool_use", "4:{}", "-4"),
        *("+5 text", "5:b", "-5"),
        *("+6 thinking", "6:c", "-6"),
        *("+7 text", "7:d", "-7"),
    ]


def test_thinking_that_is_not_shown_is_a_signature_alone():
    assert outline(ReasoningSignature(signature="s"), TextDelta(text="a")) == ["+0 thinking", "0:s", "-0", "+1 text", "1:a", "-1"]


def test_mixed_calls_wait_for_each_other():
    assert outline(call(0), said(0, '{"a"'), call(1), said(1, '{"b"'), said(0, ":1}"), said(1, ":2}"), TextDelta(text="t")) == [
        *("+0 tool_use", '0:{"a"', "0::1}", "-0"),
        *("+1 tool_use", '1:{"b"', "1::2}", "-1"),
        *("+2 text", "2:t", "-2"),
    ]


def test_what_still_waits_at_the_end_is_written_call_by_call():
    assert outline(
        call(0), call(1), call(2), said(2, "{"), said(1, "{}"), TextDelta(text="a"), TextDelta(text="b"), said(2, "}")
    ) == [
        *("+0 tool_use", "-0"),
        *("+1 tool_use", "1:{}", "-1"),
        *("+2 tool_use", "2:{", "2:}", "-2"),
        *("+3 text", "3:a", "3:b", "-3"),
    ]


def test_blanks_after_the_arguments_are_nothing():
    assert outline(call(0), said(0, "{}"), call(1), said(1, "{}"), said(0, "\n"))[-1] == "-1"
    with pytest.raises(BackendError):
        outline(call(0), said(0, "{}"), call(1), said(1, "{}"), said(0, "x"))


@pytest.mark.parametrize("pieces", [("no JSON",), ("[1]",), ('{"a":', '"')])
def test_arguments_that_are_no_object_are_no_normal_end(pieces: tuple[str, ...]):
    events = (call(0), *(said(0, text) for text in pieces))
    with pytest.raises(BackendError) as caught:
        outline(*events, Finish(reason=FinishReason.TOOL_CALLS))
    assert caught.value.code == "malformed"
    assert outline(*events, Finish(reason=FinishReason.LENGTH))[-1] == "-0"


def test_a_stream_that_says_nothing_has_an_empty_block():
    assert outline(Finish(reason=FinishReason.STOP)) == ["+0 text", "-0"]


def test_usage_that_nobody_reported_is_counted():
    usage = written(Begin(), TextDelta(text="a"), TextDelta(text="b"))[-2]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (9, 2)


@pytest.mark.parametrize(("called", "reason"), [(False, "end_turn"), (True, "tool_use")])
def test_a_stream_without_a_reason_has_the_one_that_fits(called: bool, reason: str):
    events = [call(0)] if called else [TextDelta(text="x")]
    assert written(Begin(), *events)[-2]["delta"]["stop_reason"] == reason
