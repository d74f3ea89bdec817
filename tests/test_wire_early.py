"""Streams that must begin before a backend has answered: signs of life, failover behind them, and an error event where all fails."""

from __future__ import annotations

import asyncio
import gzip

import pytest

import nexus.watch
from nexus.testing import Hang, Held, Respond, Slow, Stream, a_body, sse, until

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, STREAMED

EVENT = sse({"choices": [{"index": 0, "delta": {"content": "x"}}]})
LAST = sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
DONE = sse("[DONE]")
ALIVE = b": keep-alive\n\n"
SOON = {"stream_keepalive_seconds": 0.1}


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch):
    monkeypatch.setattr(nexus.watch, "LOOK_SECONDS", 0.01)


async def pending(line):
    """The head of an answer that began early, and its first sign of life."""
    head = await line.reader.readuntil(b"\r\n\r\n")
    lines = head.decode().lower().split("\r\n")
    assert lines[0] == "http/1.1 200 ok"
    assert "x-nexus-pending: true" in lines
    assert "content-type: text/event-stream" in lines
    assert any(line.startswith("x-nexus-request-id: ") for line in lines)
    assert not any(line.startswith("x-nexus-backend") for line in lines)
    assert await chunk(line) == ALIVE


async def chunk(line):
    """The next piece of a stream; b"" at its proper end."""
    async with asyncio.timeout(5):
        size = int((await line.reader.readuntil(b"\r\n"))[:-2], 16)
        return (await line.reader.readexactly(size + 2))[:-2]


async def rest(line):
    """All that comes to the proper end of the stream, without the signs of life at its beginning."""
    body = b""
    while piece := await chunk(line):
        body += piece
    while body.startswith(ALIVE):
        body = body[len(ALIVE) :]
    return body


@pytest.mark.parametrize("way", WAYS)
async def test_a_slow_backend_and_signs_of_life_until_it_answers(tmp_path, way):
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, way=way, server=SOON) as house, house.line() as line:
        up.next(Held(gate, Stream([EVENT, LAST])), path=CHAT)
        await line.ask(STREAMED, CHAT, "X-Request-Id: slow-one")
        await pending(line)
        assert await chunk(line) == ALIVE
        gate.set()
        assert await rest(line) == EVENT + LAST + DONE
        story = await house.get("/nexus/requests/slow-one")
        assert (story["outcome"], story["answered_by"]["backend"], story["status"]) == ("ok", "a", 200)
        unsent = story["unsent_headers"]
        assert (unsent["X-Nexus-Backend"], unsent["X-Nexus-Attempts"], unsent["X-Nexus-Model"]) == ("a", "1", "tiny")
        assert "X-Nexus-Request-Id" not in unsent
        await line.ask(a_body("tiny"))  # the connection goes on
        assert (await line.hear()).status == 200


async def test_signs_of_life_stand_between_events_only(tmp_path):
    half, other = EVENT[:20], EVENT[20:]
    gates = [asyncio.Event() for _ in range(3)]
    async with tiny() as up, open_house(tmp_path, up, server=SOON) as house, house.line() as line:
        up.on(CHAT, Stream([EVENT, gates[0], half, gates[1], other + half, gates[2], other, LAST]), method="POST")
        await line.ask(STREAMED)
        await line.reader.readuntil(b"\r\n\r\n")
        for gate, whole in zip(gates, (EVENT, b"", EVENT), strict=True):
            assert whole in (b"", await chunk(line))
            assert [await chunk(line), await chunk(line)] == [ALIVE, ALIVE]
            gate.set()
        assert await rest(line) == EVENT + LAST + DONE
        assert house.ledger.outcomes == ["ok"]


async def test_failover_goes_on_behind_a_stream_that_has_begun(tmp_path):
    gate = asyncio.Event()
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b, server=SOON) as house, house.line() as line:
        script = iter([Held(gate, Respond(503)), Stream([EVENT, LAST])])
        for up in (a, b):
            up.on(CHAT, lambda received: next(script), method="POST")
        await line.ask(STREAMED, CHAT, "X-Request-Id: moved")
        await pending(line)
        gate.set()
        assert await rest(line) == EVENT + LAST + DONE
        story = await house.get("/nexus/requests/moved")
        assert [attempt["outcome"] for attempt in story["attempts"]] == ["failed", "ok"]
        assert story["reason"] == "failover"


LATE = {
    "all fail": (Respond(500, json={"error": {"message": "out of memory"}}), "all_attempts_failed"),
    "rejected": (Respond(400, json={"error": {"message": "no such tool"}}), "backend_rejected"),
    "rejected as too long": (
        Respond(400, json={"error": {"message": "request (90 tokens) exceeds the available context size (80 tokens)"}}),
        "context_length_exceeded",
    ),
    "rejected in a packed body": (
        Respond(400, body=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"}),
        "backend_rejected",
    ),
    "error first": (Stream([{"error": {"message": "out of memory"}}]), "all_attempts_failed"),
}


@pytest.mark.parametrize("what", LATE)
async def test_an_error_behind_a_stream_that_has_begun_is_an_error_event(tmp_path, what):
    act, code = LATE[what]
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, server=SOON) as house, house.line() as line:
        up.on(CHAT, Held(gate, act), method="POST")
        await line.ask(STREAMED)
        await pending(line)
        gate.set()
        body = await rest(line)
        assert body.startswith(b'data: {"error":')
        assert body.count(b"data:") == 1
        assert f'"code":"{code}"'.encode() in body
        assert any(said in body for said in (b"no such tool", b"out of memory", b"prompt is too long: 90 tokens > 80", b"with 400"))
        assert house.ledger.outcomes == ["rejected" if what.startswith("rejected") else "failed"]
        assert (house.ledger.answered[0].outcome, house.ledger.answered[0].code) == ("broken", code)
        assert house.ledger.answered[0].unsent["X-Nexus-Attempts"] == "1"
        assert (await house.post()).status in (400, 502)


@pytest.mark.parametrize("way", WAYS)
async def test_signs_of_life_while_it_waits_in_the_queue(tmp_path, way):
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, way=way, server=SOON, a={"max_concurrent": 1}) as house:
        up.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
        async with house.line() as first, house.line() as line:
            await first.ask()
            await until(lambda: house.in_flight == 1)
            up.on(CHAT, Stream([EVENT, LAST]), method="POST")
            await line.ask(STREAMED)
            await pending(line)
            assert len(house.gateway.waiting) == 1
            gate.set()
            assert await rest(line) == EVENT + LAST + DONE
            assert (await first.hear()).status == 200


async def test_a_wait_that_is_too_long_ends_in_an_error_event(tmp_path):
    async with (
        tiny() as up,
        open_house(tmp_path, up, server=SOON, a={"max_concurrent": 1}, queue={"max_wait_seconds": 0.6}) as house,
    ):
        up.on(CHAT, Hang(), method="POST")
        async with house.line() as first, house.line() as line:
            await first.ask()
            await until(lambda: house.in_flight == 1)
            await line.ask(STREAMED)
            await pending(line)
            assert b'"code":"queue_timeout"' in await rest(line)


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_leaves_a_stream_that_began_early(tmp_path, way):
    async with tiny() as up, open_house(tmp_path, up, way=way, server=SOON) as house:
        up.on(CHAT, Hang(), method="POST")
        async with house.line() as line:
            await line.ask(STREAMED)
            await pending(line)
        await up.until(lambda: up.disconnected == 1, 1)
        await house.settled()
        assert house.ledger.outcomes == ["left"]
        assert house.ledger.answered[0].outcome == "client_left"


async def test_a_whole_answer_never_begins_early(tmp_path):
    async with tiny() as up, open_house(tmp_path, up, server=SOON) as house:
        up.on(CHAT, Slow(0.6, Respond(500)), method="POST")
        got = await house.post()
        assert (got.status, got.error["code"]) == (502, "all_attempts_failed")


async def test_signs_of_life_and_answers_that_come_in_the_same_moment(tmp_path):
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, server={"stream_keepalive_seconds": 0.01}) as house:
        answer = Stream([EVENT, LAST], 0.05)
        up.on(CHAT, lambda received: Held(gate, Slow(0.005 * (len(up.calls(CHAT)) % 20), answer)), method="POST")
        answers = asyncio.gather(*(house.post(STREAMED) for _ in range(100)))
        await until(lambda: any(visit.early for watch in house.watches for visit in watch._visits))
        gate.set()
        for got in await answers:
            assert got.status == 200
            assert got.body.replace(ALIVE, b"") == EVENT + LAST + DONE
        assert any("x-nexus-pending" in got.headers for got in answers.result())
