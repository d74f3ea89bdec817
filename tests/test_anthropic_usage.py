"""What messages tell of their tokens in part: what they do not tell is counted."""

from __future__ import annotations

import json

import pytest
from nexus_anthropic.answers import read_answer
from nexus_anthropic.reader import StreamReader, WholeReader

from nexus.dialects.calls import Calls
from nexus.dialects.canonical import ReplyContext
from nexus.dialects.translate import TranslatedStream
from nexus.model import Usage
from nexus.testing.conformance import spoken


def wire(begun, ended, pieces=3):
    events = [
        {"type": "message_start", "message": {"id": "m", "role": "assistant", "model": "x", "content": [], "usage": begun}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}] * pieces,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": ended},
        {"type": "message_stop"},
    ]
    return b"".join(b"event: %b\ndata: %b\n\n" % (e["type"].encode(), json.dumps(e).encode()) for e in events)


NULLS = {"input_tokens": None, "output_tokens": None, "cache_read_input_tokens": None, "cache_creation_input_tokens": None}
FIRST = {"input_tokens": 11, "output_tokens": 1}
STREAMS = [
    (NULLS, NULLS, Usage(input_tokens=7, output_tokens=3, source="counted")),
    (None, None, Usage(input_tokens=7, output_tokens=3, source="counted")),
    ({}, {}, Usage(input_tokens=7, output_tokens=3, source="counted")),
    (FIRST, NULLS, Usage(input_tokens=11, output_tokens=3, source="counted")),
    (FIRST, {}, Usage(input_tokens=11, output_tokens=3, source="counted")),
    (FIRST, {"output_tokens": "n/a"}, Usage(input_tokens=11, output_tokens=3, source="counted")),
    (FIRST, {"output_tokens": 5}, Usage(input_tokens=11, output_tokens=5, source="reported")),
    (FIRST, {**NULLS, "output_tokens": 5}, Usage(input_tokens=11, output_tokens=5, source="reported")),
    (NULLS, {**NULLS, "output_tokens": 5}, Usage(input_tokens=7, output_tokens=5, source="counted")),
    (NULLS, {"input_tokens": 11, "output_tokens": 5}, Usage(input_tokens=11, output_tokens=5, source="reported")),
    ({"cache_read_input_tokens": 9, "input_tokens": 0}, {"output_tokens": 5},
     Usage(input_tokens=9, cached_tokens=9, output_tokens=5, source="reported")),
]  # fmt: skip


@pytest.mark.parametrize(("begun", "ended", "used"), STREAMS)
def test_what_a_stream_does_not_tell_is_counted(begun, ended, used):
    reader = StreamReader(7)
    reader.feed(wire(begun, ended))
    reader.finish()
    assert reader.usage() == used


@pytest.mark.parametrize(("begun", "ended", "used"), STREAMS)
async def test_what_a_stream_does_not_tell_is_counted_where_it_is_translated(begun, ended, used):
    context = ReplyContext(request_id="r", model="m", created=1, wants_usage=True, input_estimate=7)
    async with spoken() as dialects:
        reader = TranslatedStream(dialects["openai"], dialects["anthropic"], context, Calls())
    out = reader.feed(wire(begun, ended)) + reader.finish()
    assert reader.usage() == used
    assert b'"prompt_tokens":%d,"completion_tokens":%d,' % (used.input_tokens, used.output_tokens) in out


@pytest.mark.parametrize(
    ("said", "inputs", "outputs"),
    [
        (NULLS, None, None),
        ({**NULLS, "input_tokens": 11}, 11, None),
        ({**NULLS, "output_tokens": 5}, None, 5),
        ({**NULLS, **FIRST}, 11, 1),
        ({"input_tokens": 0, "output_tokens": 0}, None, None),
    ],
)
def test_what_a_whole_message_does_not_tell_is_counted(said, inputs, outputs):
    message = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "word " * 80}], "usage": said}
    body = json.dumps(message).encode()
    reader = WholeReader(7)
    reader.feed(body)
    reader.finish()
    whole = inputs is not None and outputs is not None
    assert reader.usage() == Usage(
        input_tokens=inputs or 7, output_tokens=outputs or len(body) // 8, source="reported" if whole else "counted"
    )
    answer, _ = read_answer(body)
    assert (answer.usage.source == "reported") is whole
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (inputs or 0, outputs or 0)
