"""A character whose halves come in two events is whole for every client, and half a one is U+FFFD: in both dialects' streams."""

from __future__ import annotations

import itertools
import json

import pytest
from nexus_anthropic.stream_in import Decoder as AnthropicDecoder

from nexus.dialects import halves
from nexus.dialects.canonical import (
    Begin,
    Failure,
    Finish,
    FinishReason,
    ReasoningDelta,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.dialects.halves import Halves
from nexus.dialects.openai_stream import Decoder as OpenAIDecoder
from nexus.model import Usage

FIRST, SECOND = "\ud83d", "\ude00"
USED = UsageSeen(usage=Usage(input_tokens=1, output_tokens=1, source="reported"))
FINISH = Finish(reason=FinishReason.STOP)


def joined(*events: StreamEvent) -> list[StreamEvent]:
    """Each event comes alone."""
    halves = Halves()
    return [put for event in events for put in halves.joined([event])] + halves.rest()


def text(said: str) -> TextDelta:
    return TextDelta(text=said)


def arguments(index: int, said: str) -> ToolCallDelta:
    return ToolCallDelta(index=index, arguments=said)


@pytest.mark.parametrize(
    ("came", "put"),
    [
        ([text("a" + FIRST), text(SECOND + "b")], [text("a"), text("😀b")]),
        ([text(FIRST), text(SECOND)], [text("😀")]),
        ([text(FIRST), text(SECOND + FIRST), text(SECOND)], [text("😀"), text("😀")]),
        ([text(FIRST), USED, text(SECOND)], [USED, text("😀")]),
        ([text("a" + FIRST), text("b")], [text("a"), text("\ufffdb")]),
        ([text("a" + FIRST), FINISH], [text("a"), text("\ufffd"), FINISH]),
        ([text("a" + FIRST)], [text("a"), text("\ufffd")]),
        ([text(SECOND + "a"), text(FIRST + "b")], [text("\ufffda"), text("\ufffdb")]),
        ([ReasoningDelta(text=FIRST), text(SECOND)], [ReasoningDelta(text="\ufffd"), text("\ufffd")]),
        ([ReasoningDelta(text=FIRST), ReasoningDelta(text=SECOND)], [ReasoningDelta(text="😀")]),
        (
            [arguments(0, "x" + FIRST), arguments(1, "y" + FIRST), arguments(0, SECOND), arguments(1, SECOND)],
            [arguments(0, "x"), arguments(1, "y"), arguments(0, "😀"), arguments(1, "😀")],
        ),
        ([arguments(0, FIRST), text("t"), arguments(0, SECOND)], [text("t"), arguments(0, "😀")]),
        ([arguments(0, FIRST), FINISH], [arguments(0, "\ufffd"), FINISH]),
        ([ToolCallStart(index=0, id=FIRST, name="f" + SECOND)], [ToolCallStart(index=0, id="\ufffd", name="f\ufffd")]),
        ([text(FIRST), Failure(message="no " + FIRST)], [text("\ufffd"), Failure(message="no \ufffd")]),
    ],
)
def test_halves_that_follow_each_other_are_one_character(came: list[StreamEvent], put: list[StreamEvent]) -> None:
    assert joined(*came) == put


def openai(*deltas: dict[str, object]) -> bytes:
    chunks = [{"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    return b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"


def anthropic(*deltas: dict[str, object]) -> bytes:
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": {"id": "c", "model": "m"}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        {"type": "message_stop"},
    ]
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


STREAMS = {
    "openai": (OpenAIDecoder, openai({"content": "a" + FIRST}, {"content": SECOND + "b"}, {"content": "c"})),
    "anthropic": (
        AnthropicDecoder,
        anthropic(*({"type": "text_delta", "text": said} for said in ("a" + FIRST, SECOND + "b", "c"))),
    ),
}


@pytest.mark.parametrize("dialect", STREAMS)
def test_halves_in_neighbouring_deltas_are_one_character_wherever_the_stream_is_cut(dialect: str) -> None:
    decoder_of, wire = STREAMS[dialect]
    for cut in range(len(wire)):
        decoder = decoder_of()
        events = [*decoder.feed(wire[:cut]), *decoder.feed(wire[cut:]), *decoder.finish()]
        assert events == [Begin(model="m"), text("a"), text("😀b"), text("c"), FINISH], cut


@pytest.mark.parametrize("dialect", STREAMS)
def test_a_stream_whose_characters_are_whole_again_is_read_as_quickly_as_any_other(dialect: str) -> None:
    decoder_of, wire = STREAMS[dialect]
    decoder = decoder_of()
    decoder.feed(wire)
    assert decoder._halves is None


def test_windows_part_no_character(monkeypatch):
    monkeypatch.setattr(halves, "_WINDOW", 3)
    for letters in itertools.product(("x", "\ud83d", "\ude00", "漢"), repeat=7):
        text = "".join(letters)
        said = Halves().joined([TextDelta(text=text + "."), TextDelta(text="!")])
        whole = (text + ".").encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        assert [event.text for event in said] == [whole, "!"]
