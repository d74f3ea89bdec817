"""Clients that leave, at every moment a request has: nothing goes on for them, upstream or here, standalone and embedded."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from nexus.testing import Hang, Held, Respond, Slow, Stream, a_body, sse, until

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED, post

EVENT = sse({"choices": [{"index": 0, "delta": {"content": "x"}}]})
ENDS = ("close", "reset", "half")


@contextlib.asynccontextmanager
async def leaving(house, body, end="close"):
    """A client that asks and leaves at the end: properly, with a reset, or by closing its side only."""
    async with house.line() as line:
        await line.ask(body)
        yield line
        if end == "half":
            line.writer.write_eof()
            await until(lambda: house.ledger.answered)
        elif end == "reset":
            line.writer.transport.abort()


def said_to_have_left(house, *, claims):
    assert house.ledger.outcomes == ["left"] * claims
    (answered,) = house.ledger.answered
    assert (answered.outcome, answered.code) == ("client_left", "client_left")
    return answered


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("body", [GOOD, STREAMED], ids=["whole", "stream"])
@pytest.mark.parametrize("way", WAYS)
async def test_before_the_first_byte(tmp_path, way, body, end):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, Hang(), method="POST")
        async with leaving(house, body, end):
            await up.until(lambda: up.calls(CHAT))
        await up.until(lambda: up.disconnected == 1, 1)
        await house.settled()
        assert said_to_have_left(house, claims=1).status == 499
        assert house.ledger.finished[0].sent


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("way", WAYS)
async def test_in_the_middle_of_a_stream(tmp_path, way, end):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, Stream([EVENT], done=False, end="hang"), method="POST")
        async with leaving(house, STREAMED, end) as line:
            await line.reader.readuntil(EVENT)
        await up.until(lambda: up.disconnected == 1, 1)
        await house.settled()
        assert said_to_have_left(house, claims=1).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_in_the_middle_of_a_stream_that_keeps_coming(tmp_path, way):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, Stream([EVENT] * 5000, interval=0.005), method="POST")
        async with leaving(house, STREAMED) as line:
            await line.reader.readuntil(EVENT)
        await up.until(lambda: up.disconnected == 1, 1)
        await house.settled()
        said_to_have_left(house, claims=1)


@pytest.mark.parametrize("way", WAYS)
async def test_between_the_head_and_the_end_of_a_whole_answer(tmp_path, way):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, Stream([b'{"choices":', asyncio.Event()], headers={"Content-Type": "application/json"}), method="POST")
        async with leaving(house, GOOD):
            await up.until(lambda: up.calls(CHAT))
        await up.until(lambda: up.disconnected == 1, 1)
        await house.settled()
        said_to_have_left(house, claims=1)


@pytest.mark.parametrize("way", WAYS)
async def test_while_it_waits_in_the_queue(tmp_path, way):
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"max_concurrent": 1}) as house:
        up.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
        async with house.line() as first:
            await first.ask()
            await until(lambda: house.in_flight == 1)
            async with leaving(house, GOOD):
                await until(lambda: len(house.gateway.waiting) == 1)
            await until(lambda: len(house.gateway.waiting) == 0, 1)
            assert house.gateway.waiting.bytes == 0
            assert said_to_have_left(house, claims=0).queue_seconds > 0
            gate.set()
            assert (await first.hear()).status == 200
        assert len(up.calls(CHAT)) == 1
        assert (await house.post()).status == 200


@pytest.mark.parametrize("way", WAYS)
async def test_in_the_very_moment_its_turn_comes(tmp_path, way):
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"max_concurrent": 1}) as house:
        for _ in range(10):
            gate = asyncio.Event()
            up.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
            async with house.line() as first:
                await first.ask()
                await until(lambda: house.in_flight == 1)
                async with leaving(house, GOOD):
                    await until(lambda: len(house.gateway.waiting) == 1)
                    gate.set()
                assert (await first.hear()).status == 200
            await house.settled()
        assert (await house.post()).status == 200


@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("way", WAYS)
async def test_while_it_sends_its_body(tmp_path, way, framing):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        async with house.line() as line:
            chunked = framing == "chunked"
            header = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000"
            piece = b"x" * 50_000
            await line.say(post(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece, line.prefix + CHAT, header))
            await until(lambda: house.state()["bytes held"] == 50_000)
        await house.settled()
        assert said_to_have_left(house, claims=0).status == 499
        assert not up.calls(CHAT)


@pytest.mark.parametrize("way", WAYS)
async def test_between_two_attempts(tmp_path, way):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b, way=way) as house:
        script = iter([Respond(500), Hang()])
        for up in (a, b):
            up.on(CHAT, lambda received: next(script), method="POST")
        async with leaving(house, STREAMED):
            await until(lambda: a.calls(CHAT) and b.calls(CHAT))
        await until(lambda: a.disconnected + b.disconnected == 1, 1)
        await house.settled()
        assert house.ledger.outcomes == ["failed", "left"]
        assert house.ledger.answered[0].outcome == "client_left"


@pytest.mark.parametrize("way", WAYS)
async def test_a_crowd_that_leaves_at_once(tmp_path, way):
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"max_concurrent": 20}) as house:
        up.on(CHAT, Slow(30, Respond(json={})), method="POST")
        async with contextlib.AsyncExitStack() as stack:
            for n in range(60):
                line = await stack.enter_async_context(house.line())
                await line.ask(a_body("tiny", stream=bool(n % 2)))
            await until(lambda: len(house.gateway.waiting) == 40 and len(up.calls(CHAT)) == 20)
        await house.settled()
        await up.until(lambda: up.in_flight == 0)
        assert len(house.ledger.answered) == 60
        assert {e.outcome for e in house.ledger.answered} == {"client_left"}
