"""Who uses which connection, and for how long one may be kept.  Bytes and parsing are the connection's and the answer's."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Self

from nexus.errors import BackendError, Shortage
from nexus.outbox import Outbox
from nexus.slices import in_slices
from nexus.upstream import request
from nexus.upstream.answer import Answer, Limits
from nexus.upstream.connection import LOOK_SECONDS, NEVER, Connection, Deadlines
from nexus.upstream.dial import dial
from nexus.upstream.guards import Guard, Guarded, Guards

_SCRATCH_BYTES = 65536
_MAX_TARGETS = 1024
_DISTRUST_SECONDS = 1.0
_LEAST_LOOK_SECONDS = 0.05  # between two looks, for each is one at every connection
_CLOCK_SECONDS = 0.001  # a timer may ring a little early by another clock, and nothing would be due


class Pool:
    """Connections to every backend, kept alive between exchanges; `nexus.api.Upstream`.

    It belongs to the event loop that first uses it.  Deadlines are enforced by `run`, about 0.05 s late at most where the loop is not
    held up, or by whoever calls `sweep` instead.  All durations are in seconds.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        connect_timeout: float = 5.0,
        max_idle_per_origin: int = 64,
        idle_seconds: float = 30.0,
        max_header_bytes: int = 65536,
        max_headers: int = 256,
        read_ahead_bytes: int = 65536,
        ssl_context: Callable[[], ssl.SSLContext] = ssl.create_default_context,
    ) -> None:
        self.clock = clock
        self.limits = Limits(max_header_bytes=max_header_bytes, max_headers=max_headers, read_ahead_bytes=read_ahead_bytes)
        self.scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._connect_timeout = connect_timeout
        self._max_idle = max_idle_per_origin
        self._idle_seconds = idle_seconds
        self._make_context = ssl_context
        self._context: ssl.SSLContext | None = None
        self._targets: dict[tuple[str, str], request.Target] = {}
        self._idle: dict[request.Address, list[Connection]] = {}
        self._distrusted: dict[request.Address, float] = {}
        self._connections: set[Connection] = set()
        self._guards = Guards(self._renew)
        self.outbox = Outbox()
        self.loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self.due = -NEVER  # when the connections are looked at next; nobody does before `run`
        self._looked = 0.0
        self._alarm: asyncio.TimerHandle | None = None
        self._nap: asyncio.Future[None] | None = None

    @property
    def open_connections(self) -> int:
        """Connections whose socket is open, idle ones included."""
        return len(self._connections)

    @property
    def idle_connections(self) -> int:
        """Connections that wait to be used again."""
        return sum(map(len, self._idle.values()))

    async def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        first_byte_by: float | None = None,
        answer_by: float | None = None,
        idle_timeout: float | None = None,
        connect_timeout: float | None = None,
        private: bool = False,
    ) -> Exchange:
        """Send one request and return its answer once the head is there; see `nexus.api.Upstream`.

        `first_byte_by` holds until the first byte of the body, for servers send a head long before they have a token; from
        then on, or without it, `idle_timeout` does.  Raises ValueError at once for a method, URL or header that cannot be sent.
        """
        target = self._targets.get((method, url)) or self._target(method, url)
        head = request.render(target, headers, len(body))
        exchange = Exchange(self, target.method == "HEAD")
        await exchange.begin(
            target.address, head, body, Deadlines(first_byte_by, answer_by, idle_timeout, connect_timeout), private
        )
        return exchange

    def _target(self, method: str, url: str) -> request.Target:
        """Kept, for to take a URL apart takes 4 µs."""
        if len(self._targets) >= _MAX_TARGETS:
            self._targets.clear()
        target = self._targets[method, url] = request.target(method, url)
        return target

    def sweep(self, now: float) -> None:
        """Fail what is overdue, close what was idle for too long.  `now` is a moment of the pool's clock."""
        for connection in tuple(self._connections):
            self._check(now, connection)

    def _check(self, now: float, connection: Connection) -> None:
        if connection.answer is not None:
            self.hurry(connection.check(now))
        elif now - connection.idle_since >= self._idle_seconds:
            connection.drop()
            self._forget(connection)

    async def run(self) -> None:
        """Sweep once a second and whenever a deadline is due, for ever, without holding up thousands of streams."""
        self._looked = self.clock()
        self.due = self._looked + LOOK_SECONDS
        try:
            while True:
                await self._until_due()
                self._looked = now = self.clock()
                self.due = now + LOOK_SECONDS
                await in_slices(self._connections, partial(self._check, now))
        finally:
            self.due = -NEVER

    async def _until_due(self) -> None:
        self._nap = asyncio.get_running_loop().create_future()
        try:
            self._set_alarm()
            await self._nap
        finally:
            self._nap = None
            if self._alarm is not None:
                self._alarm.cancel()

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        seconds = max(self.due, self._looked + _LEAST_LOOK_SECONDS) - self.clock()
        self._alarm = asyncio.get_running_loop().call_later(max(seconds, 0.0) + _CLOCK_SECONDS, self._wake)

    def _wake(self) -> None:
        if self._nap is not None and not self._nap.done():
            self._nap.set_result(None)

    def hurry(self, by: float) -> None:
        """Something is due at this moment, which may be before the next look."""
        if by < self.due:
            self.due = by
            if self._nap is not None:
                self._set_alarm()

    async def close(self) -> None:
        """Close every connection, fail every open exchange, and wait until the sockets are closed."""
        self._closed = True
        for connection in tuple(self._connections):
            connection.fail("cut", "was left because the gateway stops")
        self._idle.clear()
        while self._connections:  # noqa: ASYNC110 - an aborted transport is gone within a few turns of the loop
            await asyncio.sleep(0)

    def guard(self, url: str, guard: Guard) -> Guarded:
        """From now on `guard` judges where the origin of `url` leads, before it is connected to."""
        return self._guards.add(request.target("GET", url).address, guard)

    # ---- for exchanges

    def take(self, address: request.Address, private: bool = False) -> Connection | None:
        """The connection that was used last: the others may then grow old and be closed.  None for what is private where the address
        leads elsewhere now: whoever connects anew hears of it."""
        idle = self._idle.get(address)
        if private and not self._guards.private(address):
            return None
        while idle:
            connection = idle.pop()
            if not connection.closing:
                connection.reused = True
                return connection
        return None

    async def connect(self, address: request.Address, deadlines: Deadlines, private: bool = False) -> Connection:
        """A new connection.  Raises BackendError, also where a deadline would pass before the connect timeout, and `address_moved` where
        what is `private` would go to an address that is not."""
        timeout, early = self._patience(deadlines)
        judged = self._guards.dialing(address, private)
        try:
            try:
                connection = await dial(lambda: Connection(self, address), address, self._tls(address), timeout, judged)
            except Shortage:
                await self._give_way()
                connection = await dial(lambda: Connection(self, address), address, self._tls(address), timeout, judged)
        except BackendError as error:
            if early is None or error.code != "connect_timeout":
                raise
            raise BackendError(early, error.hint) from None
        if connection.closing or self._closed:
            connection.drop()
            raise BackendError("reset", f"{address} closed the connection before it was asked")
        connection.spent |= not judged.holds
        return connection

    async def _give_way(self) -> None:
        """Close what is idle: whoever is to be asked now needs its descriptor more.  Raises Shortage where nothing is."""
        if not self._idle:
            raise Shortage("too many open files")
        for idle in tuple(self._idle.values()):
            for connection in tuple(idle):
                connection.drop()
        self._idle.clear()
        await asyncio.sleep(0)  # an aborted transport closes its socket in the next turn
        await asyncio.sleep(0)

    def _renew(self, address: request.Address) -> None:
        """The name has come to lead elsewhere: a connection from before serves whom it serves, and nobody after."""
        for connection in self._idle.pop(address, ()):
            connection.drop()
        for connection in self._connections:
            connection.spent |= connection.address == address

    def _patience(self, deadlines: Deadlines) -> tuple[float, str | None]:
        """How long to try to connect, and the code where it is a deadline that ends it."""
        now = self.clock()
        patience: float = self._connect_timeout if deadlines.connect_timeout is None else deadlines.connect_timeout
        code = None
        for by, name in ((deadlines.first_byte_by, "first_byte_timeout"), (deadlines.answer_by, "answer_timeout")):
            if by is not None and by - now < patience:
                patience, code = max(by - now, 0.0), name
        return patience, code

    def _tls(self, address: request.Address) -> ssl.SSLContext | None:
        if not address.tls:
            return None
        if self._context is None:
            self._context = self._make_context()
        return self._context

    def bind(self) -> asyncio.AbstractEventLoop:
        """The loop that this pool belongs to: the first that used it.  Raises RuntimeError in another."""
        if self._closed:
            raise BackendError("connect_failed", "the gateway is stopping")
        running = asyncio.get_running_loop()
        if self.loop is None:
            self.loop = running
        if self.loop is not running:
            raise RuntimeError("a Pool belongs to the event loop that first used it: make one per loop")
        return running

    @property
    def under_way(self) -> int:
        """How many exchanges hold a connection."""
        return self.outbox.company

    # ---- for connections

    def opened(self, connection: Connection) -> None:
        connection.idle_since = self.clock()  # a sweep may come before the request does
        self._connections.add(connection)

    def released(self, connection: Connection) -> None:
        idle = self._idle.setdefault(connection.address, [])
        if (
            self._closed
            or connection.spent
            or len(idle) >= self._max_idle
            or (self._distrusted and self._distrusts(connection.address))
        ):
            connection.drop()
        else:
            connection.idle_since = self.clock()
            idle.append(connection)

    def _distrusts(self, address: request.Address) -> bool:
        until = self._distrusted.get(address)
        if until is not None and self.clock() >= until:
            del self._distrusted[address]
            return False
        return until is not None

    def stale(self, connection: Connection) -> None:
        """A kept connection had died: so have the others, most likely, and whoever asks again must not meet them one by one.

        Nor one that is released meanwhile, so none is kept for a second: llama.cpp's server closes every connection on which it
        has streamed, after having promised to keep it.
        """
        self._distrusted[connection.address] = self.clock() + _DISTRUST_SECONDS
        for other in self._idle.pop(connection.address, ()):
            other.drop()

    def lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        idle = self._idle.get(connection.address)
        if idle and connection in idle:
            idle.remove(connection)
        if not idle:
            self._idle.pop(connection.address, None)


class Exchange:
    """The answer to one HTTP exchange: `await answer.read()` until it gives b"".  `status` and `headers` are the answer's."""

    __slots__ = ("__weakref__", "_answer", "_connection", "_pool", "headers", "status")

    def __init__(self, pool: Pool, head_only: bool) -> None:
        self._pool = pool
        self._answer = Answer(pool.limits, head_only)
        self._connection: Connection | None = None
        self.status = 0
        self.headers: tuple[tuple[str, str], ...] = ()

    async def begin(self, address: request.Address, head: bytes, body: bytes, deadlines: Deadlines, private: bool) -> None:
        """Send the request and wait for the head of the answer."""
        loop = self._pool.bind()
        connection = self._pool.take(address, private) or await self._pool.connect(address, deadlines, private)
        self._connection = connection
        self._pool.outbox.company += 1
        answer = self._answer
        try:
            connection.send(answer, head, body, deadlines)
            del head, body  # an answer may take long, and nobody needs them
            while not answer.head_done:
                if answer.error is not None:
                    raise answer.problem()
                answer.waiter = loop.create_future()
                await answer.waiter
        except BaseException:
            self._leave()
            raise
        self.status, self.headers = answer.status, answer.headers

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        self._leave()

    async def aclose(self) -> None:
        """Leave it.  Before the end of the body that closes the connection."""
        self._leave()

    def _leave(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        self._pool.outbox.company -= 1
        if connection.answer is self._answer:
            connection.drop()

    async def read(self) -> bytes:
        """The next bytes, as many as have arrived; b"" at the proper end.  Raises BackendError on any other end.

        A read that was cancelled loses nothing: the next one goes on.
        """
        answer = self._answer
        while True:
            if data := answer.take():
                connection = self._connection
                if connection is not None and connection.paused and connection.answer is answer:
                    connection.resume()
                return data
            if answer.done:
                return b""
            if answer.error is not None:
                raise answer.problem()
            if self._connection is None:
                raise RuntimeError("the exchange was left: read before it is closed")
            assert self._pool.loop is not None
            answer.waiter = self._pool.loop.create_future()
            await answer.waiter
