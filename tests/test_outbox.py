"""What is written in one turn of the loop leaves together, in order, and never to a connection that has gone."""

from __future__ import annotations

import asyncio

import attrs
from aiohttp import HttpVersion11

import nexus.whole
from nexus.outbox import Outbox
from nexus.testing import a_body
from nexus.whole import SMALL_BYTES, whole

from .wire import open_house, tiny


@attrs.define(eq=False)
class Transport:
    """Keeps what is written."""

    written: list[bytes] = attrs.field(factory=list)
    closing: bool = False

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return 0


class Http:
    """As much of a request as a whole answer asks."""

    version = HttpVersion11
    keep_alive = True

    def __init__(self) -> None:
        self.transport = Transport()
        self.writer = self
        self.waited = False

    async def drain(self) -> None:
        self.waited = True


async def test_letters_leave_when_the_turn_is_over_and_before_what_becomes_due_later():
    outbox = Outbox(asyncio.get_running_loop())
    here, there, gone = Transport(), Transport(), Transport()
    outbox.put(here, b"a")
    seen: list[tuple[bytes, ...]] = []
    asyncio.get_running_loop().call_soon(lambda: seen.append((*here.written, *there.written)))
    outbox.put(there, b"b")
    outbox.put(here, b"c")
    outbox.put(gone, b"d")
    gone.closing = True
    assert (here.written, there.written) == ([], [])
    await asyncio.sleep(0)
    assert seen == [(b"a", b"c", b"b")]
    assert gone.written == []
    outbox.put(here, b"e")
    await asyncio.sleep(0)
    assert here.written == [b"a", b"c", b"e"]


async def test_many_at_once_each_get_their_answer_and_connections_end_as_they_should(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:

        async def client(number: int) -> None:
            last = number % 5
            async with house.line() as line:
                for turn in range(5):
                    head = ("Connection: close",) if turn == last else ()
                    await line.ask(a_body("tiny"), "/v1/chat/completions", *head, f"X-Request-Id: {number}-{turn}")
                    said = await line.hear()
                    assert (said.status, said.headers["x-nexus-request-id"]) == (200, f"{number}-{turn}")
                    if turn == last:
                        assert await line.reader.read() == b""
                        return

        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(client(number))


async def test_a_long_answer_is_written_at_once_and_waited_for():
    outbox, http = Outbox(asyncio.get_running_loop()), Http()
    for size, at_once in ((10, False), (SMALL_BYTES, True)):
        answer = whole(http, 200, {}, b"x" * size, outbox)
        await answer.prepare(http)
        assert bool(http.transport.written) is at_once
        await asyncio.sleep(0)
        assert (len(http.transport.written), http.waited) == (1, at_once)
        http.transport.written.clear()


async def test_where_handlers_begin_at_once_an_answer_has_left_before_its_handler_ends(monkeypatch):
    monkeypatch.setattr(nexus.whole, "EAGER", True)
    http = Http()
    await whole(http, 200, {}, b"x", Outbox(asyncio.get_running_loop())).prepare(http)
    assert len(http.transport.written) == 1


async def test_one_connection_that_cannot_be_written_to_is_one(caplog):
    class Broken(Transport):
        def write(self, data: bytes) -> None:
            raise RuntimeError

        def abort(self) -> None:
            self.closing = True

    outbox, broken, other = Outbox(asyncio.get_running_loop()), Broken(), Transport()
    outbox.put(broken, b"a")
    outbox.put(other, b"b")
    await asyncio.sleep(0)
    assert (broken.closing, other.written) == (True, [b"b"])
    assert "could not be written to" in caplog.text
