"""A visit on one of our own connections: its body as it arrives, its answer as it is framed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from nexus.downstream.head import Head
from nexus.downstream.text import head_of
from nexus.errors import Problem
from nexus.visit import Visit

if TYPE_CHECKING:
    from nexus.downstream.connection import Connection

OVER = "the answer is complete"
SMALL_BYTES = 32 * 1024  # well below what asyncio holds back before it makes a writer wait


class DirectVisit(Visit):
    """One request on `connection`, of whose body `body` has come.  `last` says that no other can follow on this connection."""

    __slots__ = ("_began", "_body", "_connection", "_missing", "_waiter", "last")

    tells = True

    def __init__(self, connection: Connection, head: Head, peer: str, body: bytes, now: Callable[[], float]) -> None:
        super().__init__(head.headers, head.query, peer, head.length, now)
        self._connection = connection
        self._body = body
        self._missing = head.length - len(body)
        self._waiter: asyncio.Future[None] | None = None
        self._began = False
        self.last = False

    # ---- what came

    def ready(self) -> bytes | None:
        if self._missing:
            return None
        body, self._body = self._body, b""
        return body

    async def piece(self) -> bytes:
        if not self._body and self._missing:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        body, self._body = self._body, b""
        return body

    @property
    def waits(self) -> bool:
        """Whether somebody waits for more of the body."""
        return self._waiter is not None and not self._waiter.done()

    def dismiss(self, problem: Problem) -> None:
        """Let who waits for more of the body have this instead."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(problem)

    def received(self, data: bytes) -> bytes:
        """Take what belongs to the body; the rest comes back.  Nobody reads it behind a complete answer."""
        if not self._missing:
            return data
        taken = data[: self._missing]
        self._missing -= len(taken)
        if not self.complete:
            self._body += taken
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return data[len(taken) :]

    # ---- how an answer leaves

    @property
    def early(self) -> bool:
        return self._began

    async def begun(self) -> bool:
        return self._began

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        self._check()
        head = head_of(status, headers, "Transfer-Encoding: chunked\r\n")
        self._began = True
        self._connection.write_behind(head)
        if self._connection.full:
            await self._connection.drained()

    async def write(self, data: bytes) -> None:
        connection = self._connection
        if self.complete:
            raise RuntimeError(OVER)
        connection.write(b"%x\r\n%b\r\n" % (len(data), data))
        if connection.full:
            await connection.drained()

    async def end(self) -> None:
        self._check()
        self._connection.write(b"0\r\n\r\n")
        self.complete = True
        if self._connection.full:
            await self._connection.drained()

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self._check()
        unread = self._missing > 0  # what comes next is no request
        close = "Connection: close\r\n" if unread else ""
        data = head_of(status, headers, f"{close}Content-Length: {len(body)}\r\n") + body
        if len(data) <= SMALL_BYTES and not self.behind:
            self._connection.post(data)
        else:
            self._connection.write_behind(data)
        self.complete = True
        self.last = unread
        if self._connection.full:
            await self._connection.drained()

    def _check(self) -> None:
        if self.complete:
            raise RuntimeError(OVER)

    # ---- how it ends otherwise

    @property
    def gone(self) -> bool:
        return self._connection.transport.is_closing()

    @property
    def behind(self) -> bool:
        return self._connection.transport.get_write_buffer_size() > 0

    @property
    def transport(self) -> asyncio.WriteTransport:
        return self._connection.transport

    def cancel(self) -> None:
        self._connection.cancel()

    def abort(self) -> None:
        self._connection.transport.abort()
