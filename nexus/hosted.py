"""A visit on an aiohttp connection: in somebody's application, or with a request that `downstream` leaves to aiohttp."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Mapping

from aiohttp import web

from nexus.errors import Problem
from nexus.visit import Visit

UNREADABLE = (OSError, web.PayloadAccessError, web.RequestPayloadError, ValueError)


class HostedVisit(Visit):
    """What aiohttp has read, and what it writes.  `response` is the answer once it has begun, which a handler must return."""

    __slots__ = ("_beginning", "_http", "response")

    def __init__(self, http: web.BaseRequest, now: Callable[[], float]) -> None:
        super().__init__(headers_of(http), http.rel_url.raw_query_string, http.remote or "", http.content_length or 0, now)
        self._http = http
        self._beginning: asyncio.Future[None] | None = None
        self.response: web.StreamResponse | None = None

    # ---- what came

    def ready(self) -> bytes | None:
        content = self._http.content
        if content.total_bytes != self.announced or not content.is_eof():
            return None
        try:
            return content.read_nowait()
        except UNREADABLE as error:
            raise self._unreadable(error) from None

    async def piece(self) -> bytes:
        content = self._http.content
        if not content.total_bytes:
            await self._go_on()
        try:
            return await content.readany()
        except UNREADABLE as error:
            raise self._unreadable(error) from None

    def _unreadable(self, error: Exception) -> Exception:
        """What aiohttp says of a body, in our words."""
        if isinstance(error, OSError):  # the network's ways to lose a client are many
            return ConnectionResetError("the client has gone")
        self._http.content.feed_eof()  # what follows cannot be told from this body: aiohttp need not wait for the rest
        return Problem(
            400, "invalid_request", "the body could not be read: it ends too early, or is not encoded as its headers say"
        )

    async def _go_on(self) -> None:
        """Some clients (curl with a large body) wait for a word before they send.  It is said only once the door has let them in."""
        if self._http.headers.get("Expect", "").lower() == "100-continue":
            await self._http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._http.writer.output_size = 0  # the answer has not begun

    # ---- how an answer leaves

    @property
    def early(self) -> bool:
        return self.response is not None or self._beginning is not None

    async def begun(self) -> bool:
        if self._beginning is not None:
            await self._beginning
        return self.response is not None

    async def begin(self, status: int, headers: Mapping[str, str]) -> None:
        beginning = self._beginning = asyncio.get_running_loop().create_future()
        response = web.StreamResponse(status=status, headers=headers)
        try:
            await response.prepare(self._http)
            response.headers.clear()  # they are written, and thousands of open streams need not keep them
            self.response = response
        finally:
            self._beginning = None
            beginning.set_result(None)

    async def write(self, data: bytes) -> None:
        assert self.response is not None
        await self.response.write(data)

    async def end(self) -> None:
        assert self.response is not None
        await self._finish(self.response)

    async def whole(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        response = web.Response(status=status, headers=headers, body=body)
        if not self._http.content.is_eof() or self._http.content.exception() is not None:
            response.force_close()  # the rest of a body that nobody will read is no next request
        await response.prepare(self._http)
        self.response = response
        await self._finish(response)

    async def _finish(self, response: web.StreamResponse) -> None:
        self.complete = True  # whoever is cancelled within waits for a slow client only
        await response.write_eof()
        if self.gone:  # who waits for a slow client is not told by aiohttp that the connection was lost
            raise ConnectionResetError("the client is gone")

    # ---- how it ends otherwise

    @property
    def gone(self) -> bool:
        transport = self._http.transport
        return transport is None or transport.is_closing()

    @property
    def transport(self) -> asyncio.WriteTransport | None:
        return self._http.transport

    def cancel(self) -> None:
        self._http.task.cancel()  # the connection's task, and with it the request's

    def abort(self) -> None:
        if self._http.transport is not None:
            self._http.transport.abort()


def headers_of(http: web.BaseRequest) -> dict[str, str]:
    """Lower-case names; a repeated header joined by commas (RFC 9110, 5.3)."""
    headers = {_lower(name): value for name, value in http.headers.items()}
    if len(headers) != len(http.headers):
        headers = {name: ", ".join(http.headers.getall(name)) for name in headers}
    return headers


@functools.lru_cache(maxsize=512)
def _lower(name: str) -> str:
    """The same object for the same name: thousands of open requests share it."""
    return name.lower()
