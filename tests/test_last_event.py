"""What ends a stream: a finish reason where nothing follows it, and not where content does; a last event that never comes is not
waited for."""

from __future__ import annotations

import asyncio
import json

import pytest

from nexus import reply
from nexus.dialects.openai import OpenAI
from nexus.dialects.openai_reader import StreamReader
from nexus.errors import BackendError
from nexus.testing import Stream, sse

from .cases import case
from .survivors import ANTHROPIC, NAMED, OPENAI, TABLES, WORDS, ask, survivor

clients = pytest.mark.parametrize("client", TABLES, ids=lambda table: table.dialect)
DONE = b"data: [DONE]\n\n"
HEARTBEATS = {
    "comments": b": keep-alive\n\n",
    "empty events": b"data:\n\n",
    "events that say nothing": sse({"choices": [], "object": "heartbeat"}),
    "deltas that say nothing": sse({"choices": [{"index": 0, "delta": {}, "finish_reason": None}]}),
}


def chunk(delta, finish=None, index=0):
    return sse({"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": finish}]})


BEGUN = chunk({"role": "assistant", "content": ""})
STOP = chunk({}, "stop")


@pytest.fixture
def soon(monkeypatch):
    monkeypatch.setattr(reply, "LAST_EVENT_SECONDS", 0.2)


def text_of(client, body):
    """The words of a stream that ended properly."""
    ended = b"event: message_stop" if client is ANTHROPIC else b'"finish_reason"'
    assert ended in body, body
    assert b'"error"' not in body
    said = [json.loads(line[6:]) for line in body.splitlines() if line.startswith(b"data: {")]
    if client is ANTHROPIC:
        return "".join(event["delta"].get("text", "") for event in said if event["type"] == "content_block_delta")
    return "".join(choice["delta"].get("content") or "" for event in said for choice in event["choices"])


async def hear(at, client, *events, **how):
    async with asyncio.timeout(8):
        heard = await ask(at, client, Stream(events, done=False, **how))
    assert heard.status == 200, heard.body
    return heard.body


@clients
async def test_after_the_finish_reason_a_heartbeat_keeps_nobody_waiting(client, soon, tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        for name, heartbeat in HEARTBEATS.items():
            for last, text in ((STOP, "hi "), (chunk({"content": "there"}, "stop"), "hi there")):
                with case(name, text):
                    body = await hear(at, client, BEGUN, chunk({"content": "hi "}), last, *[heartbeat] * 400, interval=0.05)
                    assert text_of(client, body) == text


@clients
async def test_nor_does_silence(client, soon, tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        body = await hear(at, client, BEGUN, chunk({"content": "hi"}), STOP, end="hang")
        assert text_of(client, body) == "hi"


@clients
async def test_an_empty_answer_ends_as_soon(client, soon, tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        assert text_of(client, await hear(at, client, BEGUN, STOP, end="hang")) == ""


@clients
async def test_what_follows_soon_is_still_read(client, soon, tmp_path):
    """Usage mostly stands behind the finish reason."""
    async with survivor(OPENAI, tmp_path) as at:
        usage = sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
        at.upstream.default = Stream([BEGUN, chunk({"content": "hi"}), STOP, usage], done=False, end="hang", interval=0.02)
        heard = await at.ask(client, client.bytes_of(client.simplest, stream=True))
        assert text_of(client, heard.body) == "hi"
        async with at.gateway.client.get(f"/nexus/requests/{heard.id}") as answer:
            assert (await answer.json())["usage"]["source"] == "reported"


@clients
async def test_a_finish_reason_in_every_chunk_ends_nothing(client, soon, tmp_path):
    """Not even where the server is slow."""
    async with survivor(OPENAI, tmp_path) as at:
        for reason in ("", "stop", "length", None):
            with case(reason):
                gate = asyncio.Event()
                asyncio.get_running_loop().call_later(0.6, gate.set)
                words = [chunk({"content": word}, reason) for word in ("Hel", "lo ", "world")]
                begun = [chunk({"role": "assistant", "content": ""}, reason), *words[:2]]
                body = await hear(at, client, *begun, gate, words[2], chunk({}, "stop"), DONE)
                assert text_of(client, body) == "Hello world"


@clients
async def test_a_finish_reason_beside_the_role_ends_nothing(client, soon, tmp_path):
    """The prompt may not even have been read."""
    gate = asyncio.Event()
    asyncio.get_running_loop().call_later(0.6, gate.set)
    async with survivor(OPENAI, tmp_path) as at:
        begun = chunk({"role": "assistant", "content": ""}, "stop")
        body = await hear(at, client, begun, gate, chunk({"content": "hi"}, "stop"), DONE)
        assert text_of(client, body) == "hi"


@clients
async def test_a_server_that_never_says_done_ends_with_its_body(client, tmp_path):
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    last = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": usage})
    async with survivor(OPENAI, tmp_path) as at:
        for how in ({}, {"framing": "close"}):
            assert text_of(client, await hear(at, client, BEGUN, chunk({"content": "hi"}), last, **how)) == "hi"


@clients
async def test_an_anthropic_server_that_never_stops_its_message_is_cut(client, soon, tmp_path):
    async with survivor(ANTHROPIC, tmp_path) as at:
        frames = ANTHROPIC.exchange(NAMED["plain"]).frames
        ping = b'event: ping\ndata: {"type":"ping"}\n\n'
        assert b"message_stop" in frames[-1]
        heard = await hear(at, client, *ANTHROPIC.begun(WORDS), *frames[-3:-1], *[ping] * 400, interval=0.05)
        assert heard.count(b"broke off") == 1
        assert b"message_stop" not in heard
        assert b"[DONE]" not in heard


# ---- cut or not

CUT = {
    "before a finish reason": [BEGUN, chunk({"content": "a"})],
    "at an empty one": [BEGUN, chunk({"content": "a"}, "")],
    "after content that followed one": [BEGUN, chunk({"content": "a"}, "stop"), chunk({"content": "b"})],
    "after a call that followed one": [
        BEGUN,
        chunk({"content": "a"}, "stop"),
        chunk({"tool_calls": [{"index": 0, "id": "x", "function": {"name": "f", "arguments": "{"}}]}),
    ],
}
ENDED = {
    "at a finish reason": [BEGUN, chunk({"content": "a"}), STOP],
    "at one with content": [BEGUN, chunk({"content": "a"}, "stop")],
    "at the last of many": [BEGUN, chunk({"content": "a"}, "stop"), chunk({"content": "b"}), STOP],
    "at a chunk that says nothing": [BEGUN, chunk({"content": "a"}, "stop"), chunk({"content": ""})],
    "done without a reason": [BEGUN, chunk({"content": "a"}), DONE],
}


SIZES = (1, 7, 10**6)  # bytes of a piece


def ends(wire, size, make):
    reader = make()
    try:
        for at in range(0, len(wire), size):
            reader.feed(wire[at : at + size])
        reader.finish()
    except BackendError as error:
        assert error.code == "cut"  # noqa: PT017 - what is asked for
        return False
    return True


@pytest.mark.parametrize("make", [lambda: StreamReader(1, hide_usage=True), OpenAI().stream_decoder], ids=["native", "translated"])
@pytest.mark.parametrize("ended", [False, True])
def test_a_stream_is_cut_unless_it_said_why_it_ended(ended, make):
    for name, frames in (ENDED if ended else CUT).items():
        for size in SIZES:
            assert ends(b"".join(frames), size, make) is ended, (name, size)


@pytest.mark.parametrize("size", SIZES)
def test_several_answers_have_several_finish_reasons(size):
    def make():
        return StreamReader(1, hide_usage=False, choices=2)

    one = [BEGUN, chunk({"content": "a"}), chunk({"content": "b"}, None, 1), STOP]
    assert not ends(b"".join(one), size, make)
    assert not ends(b"".join([*one, STOP]), size, make)
    assert ends(b"".join([*one, chunk({}, "stop", 1)]), size, make)
    assert ends(
        b"".join([*one[:3], sse({"choices": [{"index": 0, "finish_reason": "stop"}, {"index": 1, "finish_reason": "stop"}]})]),
        size,
        make,
    )
    waits = make()
    waits.feed(b"".join(one))
    assert not waits.ending
    waits.feed(chunk({}, "length", 1))
    assert waits.ending


def test_where_nobody_knows_how_many_answers_come_none_is_the_last():
    """The completions API streams one for each of its prompts."""
    reader = StreamReader(1, hide_usage=False, choices=0)
    reader.feed(sse({"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}))
    assert not reader.ending
    assert reader.finish() == b""
