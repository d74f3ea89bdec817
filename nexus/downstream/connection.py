"""One connection with a client: one request after the other, in one task.  What is not for us goes to aiohttp."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Protocol, cast

from nexus.downstream.head import METHODS, Head, read_head
from nexus.downstream.text import error_of
from nexus.downstream.visit import DirectVisit
from nexus.errors import Problem
from nexus.outbox import Outbox

END_OF_HEAD = b"\r\n\r\n"
MAX_HEAD_BYTES = 16 * 1024
AHEAD_BYTES = 64 * 1024  # of requests that a client sends before it has the answer to the one before
SILENCE_SECONDS = 30.0  # until the first request of a connection must be there, or all of a head that has begun
KEEPALIVE_SECONDS = 75.0
LINGER_SECONDS = 1.0  # for a client to read its answer where the rest of its body was not read

Answer = Callable[[DirectVisit], Awaitable[None]]


class Host(Protocol):
    """What a connection needs of its listener.  `scratch` is where all connections receive: it is copied before the next one does."""

    loop: asyncio.AbstractEventLoop
    scratch: memoryview
    outbox: Outbox

    def now(self) -> float: ...
    def has_place_for(self, connection: Connection) -> bool: ...
    def admit(self, head: Head) -> Answer | None: ...
    def refuse(self, head: Head) -> Answer | None: ...
    def ordinary(self) -> asyncio.Protocol: ...
    def opened(self, connection: Connection) -> None: ...
    def closed(self, connection: Connection) -> None: ...
    def stalled(self, connection: Connection) -> None: ...
    def flowing(self, connection: Connection) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """It reads heads by itself, for a request has to be plain to be taken; `_held` is what has come of the next one.

    `full` says that the client is slow, and that whoever writes has to wait until all is `drained`; `surplus` that it is one too many,
    to be told so while that lasts.
    """

    __slots__ = (
        "_answer",
        "_dismissed",
        "_drained",
        "_held",
        "_host",
        "_last",
        "_next",
        "_peer",
        "_served",
        "_since",
        "_visit",
        "full",
        "surplus",
        "task",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, host: Host) -> None:
        self._host = host
        self._held = b""
        self._visit: DirectVisit | None = None
        self._answer: Answer | None = None
        self._next: asyncio.Future[None] | None = None  # the task waits for a request
        self._drained: asyncio.Future[None] | None = None
        self._dismissed = False  # it closes as soon as it is answered
        self._last = False  # whatever comes now is no request
        self._served = False
        self._since = 0.0
        self._peer = ""
        self.full = False
        self.surplus = False
        self.task: asyncio.Task[None] | None = None

    # ---- what a visit calls

    def write(self, data: bytes) -> None:
        """Raises ConnectionError where the client has gone."""
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self.transport.write(data)

    def write_behind(self, data: bytes) -> None:
        """Write it after all that has been posted.  Raises ConnectionError where the client has gone."""
        self._host.outbox.flush()
        self.write(data)

    def post(self, data: bytes) -> None:
        """Write what is small and complete, perhaps together with others.  Raises ConnectionError where the client has gone."""
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._host.outbox.write(self.transport, data)

    async def drained(self) -> None:
        """Wait for a slow client; for one writer at a time.  Raises ConnectionError where it goes."""
        self._drained = asyncio.get_running_loop().create_future()
        await self._drained
        if self.transport.is_closing():
            raise ConnectionResetError("the client is gone")

    def cancel(self) -> None:
        if self.task is not None:
            self.task.cancel()

    # ---- what the listener calls

    @property
    def silent_since(self) -> float | None:
        """Since when it waits for a request, or for the rest of one; None while one is answered."""
        return self._since if self._visit is None or self._visit.waits else None

    @property
    def in_body(self) -> bool:
        """Whether it waits for the rest of a body."""
        return self._visit is not None and self._visit.waits

    def dismiss(self, problem: Problem) -> None:
        """Close it, for it is silent: where a request has begun, that is answered with `problem`."""
        if self._visit is not None:
            self._dismissed = True
            self._visit.dismiss(problem)
            return
        if self._held and not self.transport.is_closing():
            self._host.outbox.flush()
            self.transport.write(error_of(problem))
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            self.transport.close()

    def check(self, now: float) -> None:
        """Close it if nothing has come for too long."""
        if self._visit is not None or now - self._since < self._patience():
            return
        if self.transport.is_closing():  # for as long as a look takes: what it was last sent is not read
            self.transport.abort()
        else:
            self.transport.close()

    def _patience(self) -> float:
        if self._last:
            return LINGER_SECONDS
        return KEEPALIVE_SECONDS if self._served and not self._held else SILENCE_SECONDS

    def close(self) -> None:
        """The gateway stops: what is complete may still leave."""
        if self._visit is None or self._visit.complete:
            self.transport.close()
        else:
            self.transport.abort()

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        name = transport.get_extra_info("peername")
        self._peer = str(name[0]) if name else ""
        if (sock := transport.get_extra_info("socket")) is not None:  # who lost power does not say goodbye
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._since = self._host.now()
        self._host.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._host.scratch

    def buffer_updated(self, nbytes: int) -> None:
        if self._last:
            return
        data = bytes(self._host.scratch[:nbytes])
        visit = self._visit
        if visit is None:
            self._begin(data)
        else:
            if visit.waits:
                self._since = self._host.now()
            if data := visit.received(data):
                self._ahead(data)

    def eof_received(self) -> None:
        """Who has no more to say has gone; what it did not take yet may keep the connection for a while."""
        if self._visit is not None and not self._visit.complete:
            self.cancel()

    def connection_lost(self, exc: Exception | None) -> None:
        self._host.closed(self)
        self.cancel()
        self.resume_writing()

    def pause_writing(self) -> None:
        self.full = True
        self._host.stalled(self)

    def resume_writing(self) -> None:
        self.full = False
        self._host.flowing(self)
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # ---- a request

    def _begin(self, data: bytes) -> None:
        if not self._held:
            self._since = self._host.now()
        before = max(0, len(self._held) - len(END_OF_HEAD))
        held = self._held = self._held + data
        end = held.find(END_OF_HEAD, before)
        if end >= 0:
            self._take(end + len(END_OF_HEAD))
        elif (
            len(held) > MAX_HEAD_BYTES
            or not held.startswith(tuple(method[: len(held)] for method in METHODS))
            or held.count(b"\n") != held.count(b"\r\n")
        ):
            self._hand_over()

    def _take(self, end: int) -> None:
        """The head is complete: begin to answer, with as much of the body as has come."""
        held = self._held
        head = read_head(held[:end]) if end <= MAX_HEAD_BYTES else None
        if self.surplus:
            self.surplus = not self._host.has_place_for(self)
        admit = self._host.refuse if self.surplus else self._host.admit
        answer = admit(head) if head is not None else None
        if head is None or answer is None:
            self._hand_over()
            return
        after = end + head.length
        self._held = b""
        self._visit = DirectVisit(self, head, self._peer, held[end:after], self._host.now)
        if len(held) > after:
            self._ahead(held[after:])
        elif len(held) < after:
            self._since = self._host.now()
        self._answer = answer
        if self._next is not None:
            self._next.set_result(None)
        elif self.task is None:
            self.task = self._host.loop.create_task(self._work())

    def _ahead(self, data: bytes) -> None:
        """What comes before the answer has gone has to wait, and a client that sends much of it, too."""
        self._held += data
        if len(self._held) > AHEAD_BYTES:
            self.transport.pause_reading()

    async def _work(self) -> None:
        """Answer what comes.  One task for all of it: to make one for each request would cost more than to read its head."""
        try:
            while True:
                while self._visit is not None:
                    await self._serve(self._visit)
                self._next = self._host.loop.create_future()
                await self._next
                self._next = None
        finally:
            self.task = self._next = None
            if self._visit is not None:  # taken, and now nobody answers it
                self.transport.abort()

    async def _serve(self, visit: DirectVisit) -> None:
        assert self._answer is not None
        self._host.outbox.company += 1
        try:
            await self._answer(visit)
        except ConnectionError:
            pass
        except Exception as error:
            self._host.failed(error)
        finally:
            self._host.outbox.company -= 1
            self._ended(visit)

    def _ended(self, visit: DirectVisit) -> None:
        self._visit = self._answer = None
        self._served = True
        self._last = visit.last
        self._since = self._host.now()
        if self.transport.is_closing():
            return
        if not visit.complete:
            self.transport.abort()
            return
        if self._dismissed:
            self._host.outbox.flush()
            self.transport.close()
            return
        self.transport.resume_reading()
        held, self._held = self._held, b""
        if held and not self._last:
            self._begin(held)

    def _hand_over(self) -> None:
        """To aiohttp, which has been told nothing yet, with all that has come."""
        self.cancel()
        held, self._held = self._held, b""
        self._host.closed(self)
        ordinary = self._host.ordinary()
        self.transport.set_protocol(ordinary)
        ordinary.connection_made(self.transport)
        ordinary.data_received(held)
