"""What a translated stream keeps has a bound: a call that never ends, and what waits behind it, end the stream with an error."""

from __future__ import annotations

import gc
import json
import tracemalloc

import pytest
from nexus_anthropic.stream_in import Decoder as FromAnthropic
from nexus_anthropic.stream_out import Encoder as ToAnthropic

from nexus.dialects import held
from nexus.dialects.canonical import (
    Begin,
    Failure,
    ReasoningDelta,
    ReplyContext,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from nexus.dialects.openai_stream import Decoder as FromOpenAI
from nexus.errors import BackendError
from nexus.testing import Stream, sse

from .survivors import ANTHROPIC, OPENAI, ask, survivor

MOST = 1024 * 1024
CONTEXT = ReplyContext(request_id="r", model="m")


@pytest.fixture(autouse=True)
def bound(monkeypatch):
    monkeypatch.setattr(held, "MOST_HELD", MOST)


def chunk(**delta):
    return sse({"choices": [{"index": 0, "delta": delta, "finish_reason": None}]})


def call(arguments, index=0, name="f"):
    return {"index": index, "id": f"c{index}", "function": {"name": name, "arguments": arguments}}


UNFINISHED = [chunk(role="assistant"), chunk(tool_calls=[call('{"a":')])]


def call_start(number):
    return ToolCallStart(index=number, id=f"c{number}", name="f")


ENDLESS = {
    "text": lambda n: TextDelta(text=f"{n} "),
    "long text": lambda n: TextDelta(text=f"{n}" * 10_000),
    "text of wide characters": lambda n: TextDelta(text=f"{n}😀" * 1_000),
    "thinking": lambda n: ReasoningDelta(text=f"{n} "),
    "calls": lambda n: call_start(n + 1),
    "its own arguments": lambda n: ToolCallDelta(index=0, arguments=f"{n},"),
}


def endlessly(encoder, event):
    for number in range(MOST):
        encoder.encode(event(number))


@pytest.mark.parametrize("what", ENDLESS)
def test_what_a_writer_keeps_is_bounded_in_memory(what):
    gc.collect()
    tracemalloc.start()
    encoder = ToAnthropic(CONTEXT)
    try:
        for event in (Begin(), call_start(0), ToolCallDelta(index=0, arguments='{"a":[')):
            encoder.encode(event)
        with pytest.raises(BackendError) as raised:
            endlessly(encoder, ENDLESS[what])
        assert tracemalloc.get_traced_memory()[0] < 1.25 * MOST
    finally:
        tracemalloc.stop()
    assert raised.value.code == "too_large"


@pytest.mark.parametrize(
    ("decoder", "event"),
    [
        (FromOpenAI, lambda n: chunk(tool_calls=[{"index": 0, "function": {"arguments": f"{n},"}}])),
        (FromOpenAI, lambda n: chunk(tool_calls=[call("{}", index=n + 1)])),
        (FromOpenAI, lambda n: chunk(tool_calls=[{"index": 0, "function": {"name": f"{n}"}}])),
        (
            FromAnthropic,
            lambda n: sse(
                {"type": "content_block_start", "index": n, "content_block": {"type": "tool_use", "name": "f", "input": {"a": n}}}
            ),
        ),
    ],
    ids=["arguments", "calls", "a name", "given arguments"],
)
def test_what_a_reader_keeps_is_bounded_in_memory(decoder, event):
    gc.collect()
    tracemalloc.start()
    reading = decoder()
    try:
        for event_before in UNFINISHED[: decoder is FromOpenAI and 2]:
            reading.feed(event_before)
        number, failed = 0, []
        while not failed:
            failed = [said for said in reading.feed(event(number)) if isinstance(said, Failure)]
            number += 1
            assert number < MOST
        assert tracemalloc.get_traced_memory()[0] < 1.25 * MOST
    finally:
        tracemalloc.stop()
    assert (failed[0].code, reading.over) == ("too_large", True)


def test_what_was_let_go_counts_no_more():
    """One call after another, each with text behind it: far more than the bound in all."""
    encoder = ToAnthropic(CONTEXT)
    encoder.encode(Begin())
    wire = b""
    for number in range(20):
        wire += encoder.encode(call_start(number)) + encoder.encode(ToolCallDelta(index=number, arguments='{"a":"'))
        encoder.encode(TextDelta(text="~" * (MOST // 4)))
        wire += encoder.encode(ToolCallDelta(index=number, arguments='"}'))
    wire += encoder.finish()
    assert wire.count(b"~") == 20 * (MOST // 4)
    assert b"message_stop" in wire


async def test_the_client_is_told_that_the_stream_broke_off(tmp_path):
    text = [chunk(content="y" * 1000) for _ in range(2 * MOST // 1000)]
    async with survivor(OPENAI, tmp_path) as at:
        heard = await ask(at, ANTHROPIC, Stream([*UNFINISHED, *text], end="hang", done=False))
    assert heard.status == 200
    last = json.loads(heard.body.strip().split(b"data: ")[-1])
    assert last["type"] == "error"
    assert "tool calls keep more than" in last["error"]["message"]
    assert b"message_stop" not in heard.body
