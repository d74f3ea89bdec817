"""All connections with clients, and the socket that they come to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterator
from itertools import chain
from operator import itemgetter
from typing import Protocol

from nexus.downstream.connection import Answer, Connection
from nexus.downstream.head import Head
from nexus.errors import Problem
from nexus.outbox import Outbox
from nexus.slices import in_slices
from nexus.stall import Stall

LOG = logging.getLogger("nexus")
SCRATCH_BYTES = 128 * 1024
SWEEP_SECONDS = 1.0
BACKLOG = 2048  # connections that wait to be taken
# in one turn of the loop, which a rush of clients must not take for itself, nor fill the memory with beginnings
TAKEN_AT_ONCE = 128
SURPLUS = 16  # connections beyond the bound, whose clients are told to try again
AT_ONCE = 16  # the share of the silent ones that makes room: a sixteenth
TELL_SECONDS = 60.0
DRAINING_SILENCE_SECONDS = 1.0  # for the rest of a body, once the gateway stops


class Silent(Protocol):
    """A connection that may be waiting for its client."""

    @property
    def silent_since(self) -> float | None:
        """Since when it waits for a request, or for the rest of one; None while one is answered."""

    @property
    def in_body(self) -> bool:
        """Whether it waits for the rest of a body."""

    def dismiss(self, problem: Problem) -> None:
        """Close it, for it is silent: where a request has begun, that is answered with `problem`."""


class Elsewhere(Protocol):
    """Connections that were handed over, but for those that have been dismissed."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Silent]: ...


def busy() -> Problem:
    said = "all connections are busy ([server] max_connections), and no more of this request came; try again"
    return Problem(503, "overloaded", said, retry_after=1)


def stopping() -> Problem:
    return Problem(503, "stopping", "Nexus is stopping, and no more of this request came; ask another", retry_after=1)


class Listener:
    """Takes connections while it is bound.  `admit` gives who answers a request, or None for one that is aiohttp's, `ordinary` makes
    the protocol that such a connection is handed to; `elsewhere` has those.  A client that takes nothing of
    its answer for `send_timeout` seconds is cut off.

    Beyond `most` connections those go whose clients have been silent for the longest time, before a request or in the middle of one.
    Where all are being answered, a few more are taken to be told so, by `refuse`.
    """

    def __init__(
        self,
        admit: Callable[[Head], Answer | None],
        ordinary: Callable[[], asyncio.Protocol],
        now: Callable[[], float],
        send_timeout: float = 60.0,
        *,
        most: int = 1 << 17,
        refuse: Callable[[Head], Answer | None] | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        self._most = most
        self.refuse = refuse or admit
        self._elsewhere = elsewhere
        self._told_full = -TELL_SECONDS
        self._send_timeout = send_timeout
        self._stalled: dict[Connection, Stall] = {}  # whose clients are slow: nobody else is looked at
        self.admit = admit
        self.ordinary = ordinary
        self.now = now
        self.scratch = memoryview(bytearray(SCRATCH_BYTES))
        self.outbox = Outbox()
        self._connections: set[Connection] = set()
        self._leaving: set[Connection] = set()  # dismissed, and gone in a moment
        self._surplus: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self._closing = self._draining = False
        self._none = asyncio.Event()
        self._none.set()
        self._server: asyncio.Server | None = None

    def __len__(self) -> int:
        """How many connections are open here; those handed over are not counted."""
        return len(self._connections)

    async def bind(self, host: str, port: int) -> tuple[str, int]:
        """Listen; the address that was bound.  Raises OSError where it cannot be had."""
        at_once = max(1, min(TAKEN_AT_ONCE, self._most // 8))  # it takes turns of the loop until one has made room
        self._server = await self.loop.create_server(lambda: Connection(self), host, port, backlog=at_once)
        for each in self._server.sockets:  # asyncio has one number for both
            with each.dup() as sock:
                sock.listen(BACKLOG)
        bound = self._server.sockets[0].getsockname()
        return bound[0], bound[1]

    async def sweep(self) -> None:
        """Look for silent clients until cancelled: one look over all, not a timer for each."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            await self._check(self.now())

    async def _check(
        self, now: float
    ) -> None:  # by itself, for a name in `sweep` would keep the last connection until the next look
        await in_slices(self._connections, lambda connection: connection.check(now))
        if self._draining:
            for since, connection in self._silent():
                if connection.in_body and now - since >= DRAINING_SILENCE_SECONDS:
                    self._dismiss(connection, stopping())
        for slow, stall in tuple(self._stalled.items()):
            if stall.lasts(slow.transport, now) >= self._send_timeout:
                LOG.info("a client took nothing of its answer for %g s and is cut off", self._send_timeout)
                slow.transport.abort()

    def drain(self) -> None:
        """The gateway stops: from now on nobody waits long for the rest of a body."""
        self._draining = True

    async def close(self, seconds: float) -> None:
        """Take no more connections, and end those that are open; what is complete has `seconds` to leave."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        self.outbox.flush()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        for connection in tuple(self._connections):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._none.wait()
        for connection in tuple(self._connections):
            connection.transport.abort()
        if tasks:
            await asyncio.wait(tasks, timeout=seconds)

    # ---- for connections

    def opened(self, connection: Connection) -> None:
        self._connections.add(connection)
        self._none.clear()
        if self._closing:
            connection.transport.abort()
        elif self._places < 0:
            self._make_room_for(connection)

    @property
    def _places(self) -> int:
        """How many more connections there may be; below 0 where there are too many."""
        taken = len(self._connections) - len(self._leaving) - len(self._surplus)
        return self._most - taken - (len(self._elsewhere) if self._elsewhere is not None else 0)

    def has_place_for(self, connection: Connection) -> bool:
        """Whether one that was surplus is so no more."""
        if self._places <= 0:
            return False
        self._surplus.discard(connection)
        return True

    def make_room(self) -> bool:
        """Dismiss some of those that have been silent for the longest time; False where all are being answered.  A few at a time, so that
        not everybody who comes has all looked at."""
        silent = [(since, each) for since, each in self._silent() if each not in self._surplus]
        silent.sort(key=itemgetter(0))
        for _, connection in silent[: max(1, len(silent) // AT_ONCE)]:
            self._dismiss(connection, busy())
        return bool(silent)

    def _make_room_for(self, newcomer: Connection) -> None:
        self._surplus.add(newcomer)  # until there is a place, and so not the one that makes room
        if self.make_room():
            self._surplus.discard(newcomer)
            return
        newcomer.surplus = True
        if len(self._surplus) > SURPLUS:
            told = [(c.silent_since, c) for c in self._surplus if c is not newcomer and c.silent_since is not None]
            if told:
                self._dismiss(min(told, key=itemgetter(0))[1], busy())
            else:
                newcomer.transport.abort()
        if self.now() - self._told_full >= TELL_SECONDS:
            self._told_full = self.now()
            LOG.warning("all %d connections are busy: newcomers are told to try again ([server] max_connections)", self._most)

    def _silent(self) -> list[tuple[float, Silent]]:
        """Those whose clients are waited for, and since when."""
        everybody = chain(self._connections - self._leaving, self._elsewhere or ())
        return [(since, each) for each in everybody if (since := each.silent_since) is not None]

    def _dismiss(self, connection: Silent, problem: Problem) -> None:
        if isinstance(connection, Connection):
            self._surplus.discard(connection)
            self._leaving.add(connection)
        connection.dismiss(problem)

    def closed(self, connection: Connection) -> None:
        for each in (self._connections, self._leaving, self._surplus):
            each.discard(connection)
        self._stalled.pop(connection, None)
        if not self._connections:
            self._none.set()

    def stalled(self, connection: Connection) -> None:
        self._stalled[connection] = Stall(connection.transport, self.now())

    def flowing(self, connection: Connection) -> None:
        self._stalled.pop(connection, None)

    def failed(self, error: BaseException) -> None:
        LOG.error("a request failed inside Nexus", exc_info=error)
