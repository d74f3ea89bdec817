"""What is written in one turn of the loop leaves together, in order, and never to a connection that has gone."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from nexus.downstream.head import Head
from nexus.downstream.visit import SMALL_BYTES, DirectVisit
from nexus.outbox import Outbox
from nexus.slices import SLICE, in_slices
from nexus.testing import a_body

from .wire import open_house, tiny


@attrs.define(eq=False)
class Transport:
    """Keeps what is written."""

    written: list[bytes] = attrs.field(factory=list)
    closing: bool = False
    waiting: int = 0

    def is_closing(self) -> bool:
        return self.closing

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def get_write_buffer_size(self) -> int:
        return self.waiting


@attrs.define(eq=False)
class Connection:
    """As much of a connection as a whole answer asks: notes which way it left."""

    transport: Transport = attrs.field(factory=Transport)
    posted: list[bytes] = attrs.field(factory=list)
    written: list[bytes] = attrs.field(factory=list)
    full: bool = False

    def post(self, data: bytes) -> None:
        self.posted.append(data)

    def write_behind(self, data: bytes) -> None:
        self.written.append(data)


def crowded() -> Outbox:
    outbox = Outbox()
    outbox.company = 2
    return outbox


async def test_who_is_alone_writes_at_once():
    outbox, here = Outbox(), Transport()
    outbox.company = 1
    outbox.write(here, b"a")
    assert here.written == [b"a"]


async def test_letters_leave_when_the_turn_is_over_and_before_what_becomes_due_later():
    outbox = crowded()
    here, there, gone = Transport(), Transport(), Transport()
    outbox.write(here, b"a")
    seen: list[tuple[bytes, ...]] = []
    asyncio.get_running_loop().call_soon(lambda: seen.append((*here.written, *there.written)))
    outbox.write(there, b"b")
    outbox.write(here, b"c")
    outbox.write(gone, b"d")
    gone.closing = True
    assert (here.written, there.written) == ([], [])
    await asyncio.sleep(0)
    assert seen == [(b"a", b"c", b"b")]
    assert gone.written == []
    outbox.write(here, b"e")
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


@pytest.mark.parametrize(
    ("size", "waiting", "posted"), [(10, 0, True), (SMALL_BYTES, 0, False), (10, 1, False)], ids=["short", "long", "client behind"]
)
async def test_only_a_short_answer_to_a_client_that_keeps_up_may_leave_with_others(size, waiting, posted):
    connection = Connection(Transport(waiting=waiting))
    visit = DirectVisit(connection, Head("POST", "/", "", {}, 0), "", b"", lambda: 0.0)
    await visit.whole(200, {}, b"x" * size)
    assert (bool(connection.posted), bool(connection.written)) == (posted, not posted)
    assert visit.complete


async def test_one_connection_that_cannot_be_written_to_is_one(caplog):
    class Broken(Transport):
        def write(self, data: bytes) -> None:
            raise RuntimeError

        def abort(self) -> None:
            self.closing = True

    outbox, broken, other = crowded(), Broken(), Transport()
    outbox.write(broken, b"a")
    outbox.write(other, b"b")
    await asyncio.sleep(0)
    assert (broken.closing, other.written) == (True, [b"b"])
    assert "could not be written to" in caplog.text


async def test_a_look_at_many_holds_nobody_up():
    turns, seen = 0, []

    async def others() -> None:
        nonlocal turns
        while len(seen) < 10 * SLICE:
            turns += 1
            await asyncio.sleep(0)

    things = set(range(10 * SLICE))

    def look(thing: int) -> None:
        seen.append(thing)
        things.discard(thing + 1)  # whoever goes meanwhile is looked at all the same

    await asyncio.gather(in_slices(things, look), others())
    assert sorted(seen) == list(range(10 * SLICE))
    assert turns >= 9
