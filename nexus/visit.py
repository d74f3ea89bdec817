"""One open request as the core sees it: what came, and the ways an answer can leave.

Whose connection it is, is for the two kinds of visit to know: `downstream` has Nexus' own, `hosted` an aiohttp application's.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Callable, Mapping
from typing import ClassVar


class Visit(abc.ABC):
    """One request between its head and its last byte.

    `headers` have lower-case names, `query` is as it was sent, `peer` the client's address, `announced` the length in bytes that
    the client gave its body (0 for none given), `complete` that all of the answer has been sent.  `tells` says whether its
    connection cancels it by itself once the client has gone or takes nothing.
    """

    tells: ClassVar[bool] = False

    __slots__ = (
        "announced",
        "complete",
        "headers",
        "last_write",
        "now",
        "peer",
        "query",
    )

    def __init__(self, headers: dict[str, str], query: str, peer: str, announced: int, now: Callable[[], float]) -> None:
        self.headers = headers
        self.query = query
        self.peer = peer
        self.announced = announced
        self.now = now
        self.complete = False
        self.last_write = now()

    # ---- what came

    @abc.abstractmethod
    def ready(self) -> bytes | None:
        """The whole body, where all of it has come; to be asked once, before any piece."""

    @abc.abstractmethod
    async def piece(self) -> bytes:
        """More of the body; b"" at its end.  Raises Problem (400) for one that cannot be read, ConnectionError where the client has gone."""

    # ---- how an answer leaves; each raises ConnectionError where the client has gone, RuntimeError behind a complete answer

    @property
    @abc.abstractmethod
    def early(self) -> bool:
        """Whether the head of a stream has been sent, or is just being sent: an app's signals may take their time."""

    @abc.abstractmethod
    async def begun(self) -> bool:
        """Whether the head of a stream has been sent; one that is just being sent is waited for."""

    @abc.abstractmethod
    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        """Send the head of a stream."""

    @abc.abstractmethod
    async def write(self, data: bytes) -> None:
        """Send more of the stream, never b""; waits while the client takes it slowly."""

    @abc.abstractmethod
    async def end(self) -> None:
        """The stream is complete."""

    @abc.abstractmethod
    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Send a whole answer; its `Content-Length` is set here.  After a body that was not all read it is the connection's last."""

    # ---- how it ends otherwise

    @property
    @abc.abstractmethod
    def gone(self) -> bool:
        """Whether the client has left."""

    @property
    def behind(self) -> bool:
        """Whether the client has not taken yet what was written."""
        transport = self.transport
        return transport is not None and transport.get_write_buffer_size() > 0

    @property
    @abc.abstractmethod
    def transport(self) -> asyncio.WriteTransport | None:
        """Where it writes; None once that is closed."""

    @abc.abstractmethod
    def cancel(self) -> None:
        """End the work on it."""

    @abc.abstractmethod
    def abort(self) -> None:
        """Break the connection off: the answer that has begun cannot be completed, and must not look complete."""
