"""Slow backends and slow clients: every deadline has its own answer, and nobody's slowness fills the memory."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from urllib.parse import urlsplit

import pytest

import nexus.webserver
from nexus.model import Health, Probed
from nexus.testing import Hang, Respond, Slow, Stream, openai_server, sse, until
from nexus.testing.acts import Act

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED, post

MESSAGES = "/v1/messages"
EVENT = sse({"choices": [{"index": 0, "delta": {"content": "x"}}]})
LAST = [sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})]


class HeadThenHang(Act):
    """An answer that begins and says nothing."""

    async def play(self, wire):
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        await asyncio.Event().wait()


@pytest.mark.parametrize("act", [Hang(), HeadThenHang()], ids=["hang", "head"])
async def test_a_stream_without_a_first_event_in_time_is_a_504(tmp_path, act):
    limits = {"first_byte_timeout_seconds": 0.3}
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream=limits) as house:
        up.on(CHAT, act, method="POST")
        got = await house.post(STREAMED)
        assert (got.status, got.error["code"], got.error["type"]) == (504, "all_attempts_timed_out", "timeout_error")
        assert house.ledger.outcomes == ["timeout"]
        assert house.ledger.finished[0].code == "first_byte_timeout"
        await up.until(lambda: up.disconnected == 1)


async def test_the_deadline_is_for_all_attempts_together_and_blames_nobody_who_was_not_asked(tmp_path):
    limits = {"first_byte_timeout_seconds": 0.3}
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b, quick=True, upstream=limits) as house:
        for up in (a, b):
            up.on(CHAT, Hang(), method="POST")
        got = await house.post(STREAMED)
        assert (got.status, got.headers["x-nexus-attempts"]) == (504, "1")
        assert len(a.calls(CHAT)) + len(b.calls(CHAT)) == 1


async def test_what_is_left_of_the_deadline_is_the_next_ones(tmp_path):
    limits = {"first_byte_timeout_seconds": 3.0}
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b, quick=True, upstream=limits) as house:
        script = iter([Slow(0.2, Respond(503)), Slow(0.2, Stream(LAST))])
        for up in (a, b):
            up.on(CHAT, lambda received: next(script), method="POST")
        got = await house.post(STREAMED)
        assert (got.status, got.headers["x-nexus-attempts"]) == (200, "2")


async def test_a_whole_answer_has_its_own_deadline(tmp_path):
    limits = {"first_byte_timeout_seconds": 0.1, "answer_timeout_seconds": 1.0}
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream=limits) as house:
        up.on(CHAT, Slow(0.2, Respond(json={"choices": [{"message": {}}]})), method="POST")
        assert (await house.post()).status == 200
        up.on(CHAT, Hang(), method="POST")
        got = await house.post()
        assert (got.status, got.error["code"]) == (504, "all_attempts_timed_out")
        assert house.ledger.outcomes == ["ok", "timeout"]


async def test_a_stream_that_falls_silent_ends_with_an_error_event(tmp_path):
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream={"idle_timeout_seconds": 0.3}) as house:
        up.on(CHAT, Stream([EVENT, EVENT], done=False, end="hang"), method="POST")
        got = await house.post(STREAMED)
        assert got.status == 200
        assert got.body.startswith(EVENT * 2)
        assert got.last_error["code"] == "backend_broke_off"
        assert "0.3 s" in got.last_error["message"]
        assert (house.ledger.finished[0].outcome, house.ledger.finished[0].code) == ("timeout", "idle_timeout")
        assert house.ledger.answered[0].outcome == "broken"


async def test_a_stream_may_last_longer_than_every_deadline(tmp_path):
    limits = {"first_byte_timeout_seconds": 1.0, "answer_timeout_seconds": 1.0, "idle_timeout_seconds": 1.0}
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream=limits) as house:
        up.on(CHAT, Stream([EVENT] * 8 + LAST, 0.15), method="POST")
        assert (await house.post(STREAMED)).body.count(b"data:") == 10
        assert house.ledger.outcomes == ["ok"]


async def test_nobody_listens_and_the_next_one_answers(tmp_path):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.stop_listening()
        a.cut_connections()
        for _ in range(4):
            assert (await house.post()).status == 200
        b.kill()
        got = await house.post()
        assert (got.status, got.error["code"]) == (502, "all_attempts_failed")
        assert {e.code for e in house.ledger.finished} <= {"", "connect_refused", "reset"}


class Torrent(Act):
    """A stream of `count` events of 64 KiB; `sent` is how many of them the socket has taken."""

    def __init__(self, count):
        self.count = count
        self.sent = 0
        self.event = b'data: {"choices":[{"delta":{"content":"%b"}}]}\n\n' % (b"x" * 65_480)

    async def play(self, wire):
        await wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(self.count):
            await wire.send(b"%x\r\n%b\r\n" % (len(self.event), self.event))
            self.sent += 1
        done = LAST[0] + sse("[DONE]")
        await wire.send(b"%x\r\n%b\r\n0\r\n\r\n" % (len(done), done))


async def stalled(torrent):
    """Wait until the torrent has not moved for a while; how far it came."""
    before = -1
    while torrent.sent != before or not before:
        before = torrent.sent
        await asyncio.sleep(0.3)
    return before


@pytest.mark.parametrize(("way", "events"), [("standalone", 3200), ("embedded", 800)], ids=["200 MiB", "embedded"])
async def test_a_client_that_does_not_read_stops_the_backend_and_not_the_clock(tmp_path, way, events):
    torrent = Torrent(events)
    async with tiny() as up, open_house(tmp_path, up, way=way, quick=True, upstream={"idle_timeout_seconds": 0.3}) as house:
        up.on(CHAT, torrent, method="POST")
        async with house.line() as line:
            line.writer.transport.pause_reading()
            await line.ask(STREAMED)
            sent = await stalled(torrent)
            assert sent < 320, "more than 20 MiB are under way for a client that reads nothing"
            await asyncio.sleep(0.5)  # longer than the backend may be silent: but it is we who do not listen
            assert torrent.sent == sent
            assert house.in_flight == 1
            line.writer.transport.resume_reading()
            size, tail = 0, b""
            async with asyncio.timeout(30):
                while not tail.endswith(b"0\r\n\r\n"):
                    data = await line.reader.read(2**20)
                    assert data, "the stream was cut"
                    size += len(data)
                    tail = (tail + data)[-1000:]
            assert b"[DONE]" in tail
            assert b'"error"' not in tail
            assert size > events * len(torrent.event)
        assert house.ledger.outcomes == ["ok"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_does_not_read_and_then_leaves(tmp_path, way):
    torrent = Torrent(3200)
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, torrent, method="POST")
        async with house.line() as line:
            line.writer.transport.pause_reading()
            await line.ask(STREAMED)
            await stalled(torrent)
        await up.until(lambda: up.disconnected == 1, 2)
        await house.settled()
        assert house.ledger.outcomes == ["left"]


async def test_a_client_that_reads_slowly_gets_no_keep_alive_in_between(tmp_path):
    torrent = Torrent(300)
    async with tiny() as up, open_house(tmp_path, up, server={"stream_keepalive_seconds": 0.1}) as house:
        up.on(CHAT, torrent, method="POST")
        async with house.line() as line:
            line.writer.transport.pause_reading()
            await line.ask(STREAMED)
            await stalled(torrent)
            await asyncio.sleep(1.0)
            line.writer.transport.resume_reading()
            got = await line.hear(20)
            assert got.whole
            assert got.body == torrent.event * 300 + LAST[0] + sse("[DONE]")


# ---------------------------------------------------------------- a client that takes nothing


@contextlib.asynccontextmanager
async def deaf(house, request: bytes):
    """A client that asks, and reads only where it is told to."""
    parts = urlsplit(house.url)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    try:
        await loop.sock_connect(sock, (parts.hostname, parts.port))
        await loop.sock_sendall(sock, request)
        yield sock
    finally:
        sock.close()


BIG = sse({"choices": [{"index": 0, "delta": {"content": "x" * 100_000}}]})
LONG = Stream([BIG] * 300, done=False, end="hang")
WHOLE = Respond(json={"choices": [{"message": {"role": "assistant", "content": "x" * 12_000_000}}]})


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("act", "body", "path"),
    [(LONG, STREAMED, CHAT), (WHOLE, GOOD, CHAT), (LONG, STREAMED, MESSAGES), (WHOLE, GOOD, MESSAGES)],
    ids=["stream", "whole", "translated stream", "translated whole"],
)
async def test_a_client_that_takes_nothing_gives_its_slot_back(tmp_path, way, act, body, path, monkeypatch):
    monkeypatch.setattr("nexus.watch.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("nexus.downstream.listener.SWEEP_SECONDS", 0.1)
    own = {"send_timeout_seconds": 0.5}
    async with tiny() as up, open_house(tmp_path, up, way=way, server=own, a={"max_concurrent": 1}, quick=True) as house:
        up.next(act, path=CHAT)
        prefix = urlsplit(house.url).path
        async with deaf(house, post(body[:-1] + b',"max_tokens":9}', prefix + path)):
            await until(lambda: house.in_flight == 1)
            await until(lambda: house.in_flight == 0, timeout=20)
            await until(lambda: len(house.ledger.answered) == 1)
            told = house.ledger.outcomes[0], house.ledger.answered[0].outcome
            assert told == ("ok" if act is WHOLE else "left", "client_left")
        assert (await house.post()).status == 200


HUGE = {"choices": [{"index": 0, "delta": {"content": "x" * 12_000_000}, "finish_reason": "stop"}]}
AT_ONCE = Respond(
    body=sse(HUGE) + sse("[DONE]"), headers={"Content-Type": "text/event-stream"}
)  # its end comes with its only event


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("act", "body", "path"),
    [(WHOLE, GOOD, CHAT), (WHOLE, GOOD, MESSAGES), (AT_ONCE, STREAMED, CHAT)],
    ids=["whole", "translated whole", "stream"],
)
async def test_a_client_that_takes_nothing_keeps_no_slot_of_a_server_that_has_said_all(tmp_path, way, act, body, path):
    """And it gets its answer all the same, whenever it wants it."""
    async with tiny() as up, open_house(tmp_path, up, way=way, a={"max_concurrent": 1}, quick=True) as house:
        up.next(act, path=CHAT)
        async with house.line() as line:
            line.writer.transport.pause_reading()
            await line.ask(body[:-1] + b',"max_tokens":9}', path)
            await up.until(lambda: up.calls(CHAT))
            assert (await house.post()).status == 200
            assert [answered.outcome for answered in house.ledger.answered] == ["ok"]  # the first has not ended yet
            line.writer.transport.resume_reading()
            got = await line.hear(20)
            assert (got.status, got.whole, len(got.body) > 12_000_000) == (200, True, True)
        await until(lambda: len(house.ledger.answered) == 2)
        assert house.ledger.outcomes == ["ok", "ok"]
        assert [answered.outcome for answered in house.ledger.answered] == ["ok", "ok"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [GOOD, STREAMED], ids=["whole", "stream"])
async def test_who_leaves_what_had_all_been_said_has_left(tmp_path, way, body):
    async with tiny() as up, open_house(tmp_path, up, way=way, quick=True) as house:
        act = WHOLE if body is GOOD else Stream([sse({"choices": [{"index": 0, "delta": {"content": "x" * 12_000_000}}]})])
        up.next(act, path=CHAT)
        async with deaf(house, post(body, urlsplit(house.url).path + CHAT)):
            await until(lambda: house.ledger.finished or act is not WHOLE)
            await up.until(lambda: not up.in_flight)
            assert not house.ledger.answered
        await until(lambda: house.ledger.answered)
        assert house.ledger.answered[0].outcome == "client_left"
        assert house.ledger.answered[0].attempts[-1].outcome == house.ledger.outcomes[0]
        if act is WHOLE:
            assert house.ledger.outcomes == ["ok"]


@pytest.mark.parametrize("way", WAYS)
async def test_a_client_that_takes_a_little_now_and_then_is_served(tmp_path, way, monkeypatch):
    monkeypatch.setattr("nexus.watch.LOOK_SECONDS", 0.01)
    monkeypatch.setattr("nexus.downstream.listener.SWEEP_SECONDS", 0.1)
    async with tiny() as up, open_house(tmp_path, up, way=way, server={"send_timeout_seconds": 0.8}) as house:
        up.next(Stream([BIG] * 300), path=CHAT)
        loop, heard, began = asyncio.get_running_loop(), 0, asyncio.get_running_loop().time()
        async with deaf(house, post(STREAMED, urlsplit(house.url).path + CHAT)) as sock:
            while loop.time() - began < 3:  # far longer than it may take nothing
                heard += len(await loop.sock_recv(sock, 65536))
                await asyncio.sleep(0.1)
            assert house.in_flight == 1
            while data := await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 10):
                heard += len(data)
                if data.endswith(b"0\r\n\r\n"):
                    break
        assert heard > 300 * len(BIG)
        await until(lambda: house.ledger.outcomes == ["ok"])


@pytest.mark.parametrize("way", WAYS)
async def test_the_live_feed_is_for_many_readers_and_waits_for_none(tmp_path, way, monkeypatch):
    async with tiny() as up, open_house(tmp_path, up, way=way, server={"send_timeout_seconds": 0.5}) as house:
        feed = house.gateway.components["feed"]
        url, prefix = house.url + "/nexus/events", urlsplit(house.url).path
        head = f"GET {prefix}/nexus/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
        async with contextlib.AsyncExitStack() as stack:
            readers = [await stack.enter_async_context(house.client.get(url)) for _ in range(5)]
            await stack.enter_async_context(deaf(house, head))
            await until(lambda: len(feed) == 6)
            assert readers[0].headers["Content-Type"] == "text/event-stream"
            assert (await house.post()).status == 200
            for reader in readers:
                heard = b""
                while b"event: answered\n" not in heard:
                    heard += await asyncio.wait_for(reader.content.readany(), 5)
                assert [line for line in heard.split(b"\n") if line.startswith(b"event: ")][-3:] == [
                    b"event: claimed", b"event: finished", b"event: answered",
                ]  # fmt: skip
            big = Probed(at=0.0, backend="x" * 200_000, health=Health.HEALTHY, seconds=0.0, models=0)
            flood = asyncio.get_running_loop().create_task(_flood(feed, big))
            drain = [asyncio.get_running_loop().create_task(reader.content.read()) for reader in readers]
            await until(lambda: len(feed) == 5, timeout=20)  # the deaf one is cut off
            flood.cancel()
            for task in drain:
                task.cancel()
        await until(lambda: len(feed) == 0)


async def test_the_rest_of_a_page_that_nobody_takes_holds_no_connection(tmp_path, monkeypatch):
    """It is too short to make its writer wait, and the connection closes behind it."""
    monkeypatch.setattr("nexus.webserver.SWEEP_SECONDS", 0.1)
    wires = []

    class Small(nexus.webserver.WebConnection):
        def connection_made(self, transport):
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            super().connection_made(transport)
            wires.append(transport)

    monkeypatch.setattr(nexus.webserver, "WebConnection", Small)
    async with openai_server([f"a-model-with-quite-a-long-name-{n:04}" for n in range(400)]) as up:
        async with open_house(tmp_path, up, server={"send_timeout_seconds": 0.5}) as house:
            async with deaf(house, b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"):
                await until(lambda: any(wire.get_write_buffer_size() for wire in wires))
                (wire,) = [wire for wire in wires if wire.get_write_buffer_size()]
                await until(lambda: wire.is_closing())
                await until(lambda: not wire.get_write_buffer_size(), timeout=10)


async def _flood(feed, event) -> None:
    while True:
        feed.see(event)
        await asyncio.sleep(0.01)
