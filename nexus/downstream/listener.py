"""All connections with clients, and the socket that they come to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from operator import itemgetter
from typing import Protocol

from nexus.downstream.connection import Answer, Connection
from nexus.downstream.head import Head, Heads
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
AT_ONCE = 16  # the share of the idle ones that makes room: a sixteenth
TELL_SECONDS = 60.0


class Elsewhere(Protocol):
    """Connections that were handed over."""

    def __len__(self) -> int: ...
    def close_idle(self) -> bool:
        """Close some that are idle, the oldest first; False where none is."""


class Listener:
    """Takes connections while it is bound.  `admit` gives who answers a request, or None for one that is aiohttp's, `ordinary` makes
    the protocol that such a connection is handed to, which `elsewhere` counts and closes where it is idle.  A client that takes nothing of
    its answer for `send_timeout` seconds is cut off.

    Beyond `most` connections those go that have been idle for the longest time.  Where all are busy, a few more are taken to be told so,
    by `refuse`.
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
        self.heads = Heads()
        self.outbox = Outbox()
        self._connections: set[Connection] = set()
        self.loop = asyncio.get_running_loop()
        self._closing = False
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
            self.heads.forget()
            await self._check(self.now())

    async def _check(
        self, now: float
    ) -> None:  # by itself, for a name in `sweep` would keep the last connection until the next look
        await in_slices(self._connections, lambda connection: connection.check(now))
        for connection, stall in tuple(self._stalled.items()):
            if stall.lasts(connection.transport, now) >= self._send_timeout:
                LOG.info("a client took nothing of its answer for %g s and is cut off", self._send_timeout)
                connection.transport.abort()

    async def close(self, seconds: float) -> None:
        """Take no more connections, and end those that are open; what is complete has `seconds` to leave."""
        self._closing = True
        self.heads.forget()
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
        elif self.full:
            self._make_room(connection)

    @property
    def full(self) -> bool:
        """Whether there are more connections than there may be."""
        return len(self._connections) + (len(self._elsewhere) if self._elsewhere is not None else 0) > self._most

    def _make_room(self, newcomer: Connection) -> None:
        """A few at a time, so that not everybody who comes has all looked at."""
        waiting = [(c.idle_since, c) for c in self._connections if c is not newcomer and c.idle_since is not None]
        waiting.sort(key=itemgetter(0))
        for _, connection in waiting[: max(1, len(waiting) // AT_ONCE)]:
            connection.dismiss()
        if waiting or (self._elsewhere is not None and self._elsewhere.close_idle()):
            return
        newcomer.surplus = True
        if len(self._connections) > self._most + SURPLUS:
            newcomer.transport.abort()
        if self.now() - self._told_full >= TELL_SECONDS:
            self._told_full = self.now()
            LOG.warning("all %d connections are busy: newcomers are told to try again ([server] max_connections)", self._most)

    def closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        self._stalled.pop(connection, None)
        if not self._connections:
            self._none.set()

    def stalled(self, connection: Connection) -> None:
        self._stalled[connection] = Stall(connection.transport, self.now())

    def flowing(self, connection: Connection) -> None:
        self._stalled.pop(connection, None)

    def failed(self, error: BaseException) -> None:
        LOG.error("a request failed inside Nexus", exc_info=error)
