"""A stream read into the canonical form: the order of blocks, what servers really send, what cannot be read."""

from __future__ import annotations

from typing import Any

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import Usage
from nexus.dialects.canonical import (
    Begin,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.testing import anthropic_event


def read(*events: bytes) -> list[Any]:
    decoder = Anthropic().stream_decoder()
    return [*decoder.feed(b"".join(events)), *decoder.finish()]


START = anthropic_event("message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 4, "output_tokens": 1}})
STOP = anthropic_event("message_stop")
BEGUN = [Begin(model="m"), UsageSeen(usage=Usage(input_tokens=4, source="counted"))]
STOPPED = Finish(reason=FinishReason.STOP)


def block(index: int, **content: Any) -> bytes:
    return anthropic_event("content_block_start", index=index, content_block=content)


def delta(index: int, **content: Any) -> bytes:
    return anthropic_event("content_block_delta", index=index, delta=content)


def piece(index: int, text: str) -> bytes:
    return delta(index, type="input_json_delta", partial_json=text)


def test_blocks_that_close_all_at_the_end():
    events = read(
        START,
        block(0, type="text", text=""),
        delta(0, type="text_delta", text="I"),
        block(1, type="tool_use", id="t", name="get"),
        piece(1, "{}"),
        anthropic_event("content_block_stop", index=0),
        anthropic_event("content_block_stop", index=1),
        anthropic_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 3}),
        STOP,
    )
    assert events == [
        *BEGUN,
        TextDelta(text="I"),
        ToolCallStart(index=0, id="t", name="get"),
        ToolCallDelta(index=0, arguments="{}"),
        UsageSeen(usage=Usage(input_tokens=4, output_tokens=3, source="reported")),
        Finish(reason=FinishReason.TOOL_CALLS),
    ]


def test_calls_are_counted_apart_from_blocks():
    events = read(
        START,
        block(3, type="tool_use", id="a", name="one", input={}),
        block(5, type="tool_use", name="two"),
        piece(5, "2"),
        piece(3, "1"),
        STOP,
    )
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [(start.index, start.name) for start in starts] == [(0, "one"), (1, "two")]
    assert starts[1].id
    assert [e for e in events if isinstance(e, ToolCallDelta)] == [
        ToolCallDelta(index=1, arguments="2"),
        ToolCallDelta(index=0, arguments="1"),
    ]
    assert events[-1] == Finish(reason=FinishReason.TOOL_CALLS)


@pytest.mark.parametrize("stop", [True, False])
def test_arguments_that_came_with_the_start(stop: bool):
    given = block(0, type="tool_use", id="a", name="get", input={"x": "é"})
    events = read(START, given, anthropic_event("content_block_stop", index=0) if stop else b"", STOP)
    assert ToolCallDelta(index=0, arguments='{"x":"é"}') in events
    pieces = [e for e in read(START, given, piece(0, '{"y":1}'), STOP) if isinstance(e, ToolCallDelta)]
    assert pieces == [ToolCallDelta(index=0, arguments='{"y":1}')]


def test_thinking_in_all_its_forms():
    events = read(
        START,
        block(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="c2ln"),
        block(1, type="redacted_thinking", data="xyz"),
        block(2, type="text", text="so"),
        STOP,
    )
    assert events == [
        *BEGUN,
        ReasoningDelta(text="hm"),
        ReasoningSignature(signature="c2ln"),
        RedactedReasoning(data="xyz"),
        TextDelta(text="so"),
        STOPPED,
    ]


def test_what_nobody_knows_is_passed_over():
    events = read(
        b": a comment\n\n",
        anthropic_event("ping"),
        START,
        anthropic_event("hologram", index="three", delta="x", message=7),
        delta(0, type="citations_delta", citation={"cited_text": "x"}),
        delta(0, type="hologram_delta", text={"x": 1}),
        block(1, type="hologram", text={"x": 1}, id=7),
        block(2, type="server_tool_use", id="s", name="web_search", input={}),
        piece(2, '{"query":'),
        anthropic_event("content_block_stop", index=2),
        delta(0, type="text_delta", text=""),
        STOP,
        b"data: [DONE]\n\n",
        delta(0, type="text_delta", text="after the end"),
    )
    assert events == [*BEGUN, STOPPED]


def test_a_stream_without_its_beginning_has_one():
    events = read(delta(0, type="text_delta", text="x"), STOP)
    assert events == [Begin(), TextDelta(text="x"), STOPPED]


def test_a_stop_sequence_is_told():
    ended = anthropic_event("message_delta", delta={"stop_reason": "stop_sequence", "stop_sequence": "END"})
    assert read(START, ended, STOP)[-1] == Finish(reason=FinishReason.STOP_SEQUENCE, stop_sequence="END")


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b""])
def test_the_last_boundary_may_be_missing(ends: bytes):
    assert read(START, STOP.rstrip() + ends)[-1] == STOPPED


def test_half_a_surrogate_pair_does_no_harm():
    wire = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d!"}}\n\n'
    assert TextDelta(text="\ufffd!") in read(START, wire, STOP)


@pytest.mark.parametrize(
    ("wire", "code", "said"),
    [
        (anthropic_event("error", error={"type": "overloaded_error", "message": "Overloaded"}), "error_event", "Overloaded"),
        (b'data: {"error":{"code":500,"message":"out of memory"}}\n\n', "error_event", "out of memory"),
        (b"data: {not JSON}\n\n", "malformed", "cannot be read"),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\xff"}}\n\n', "malformed", "cannot be read"),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":7}}\n\n', "malformed", "cannot be read"),
        (b"data: []\n\n", "malformed", "cannot be read"),
        (block(0, type="tool_use", id="x"), "malformed", "without a name"),
    ],
)
def test_a_failure_is_the_last_event(wire: bytes, code: str, said: str):
    *before, failure = read(START, wire, delta(0, type="text_delta", text="more"), STOP)
    assert before == BEGUN
    assert isinstance(failure, Failure)
    assert failure.code == code
    assert said in failure.message
