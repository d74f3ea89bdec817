"""A whole answer written at once: status line, headers and body in one piece.  Which headers it has is decided in `relay`.

aiohttp's own response collects headers in a multidict, adds to them, checks and serialises them; for a short answer that costs as
much as choosing who gives it.  It is still the one for an embedding application, whose signals may want to see a response.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from nexus.outbox import Outbox


def whole(
    http: web.BaseRequest, status: int, headers: Mapping[str, str], body: bytes, outbox: Outbox | None = None
) -> web.StreamResponse:
    """An answer to this request with this body; its `Content-Length` is set here.

    `outbox` is where a short one goes that others leave beside.
    """
    if isinstance(http, web.Request) or http.version != HttpVersion11:
        return web.Response(status=status, headers=headers, body=body)
    return WholeResponse(status, headers, body, outbox)


SMALL_BYTES = 32 * 1024  # well below what asyncio holds back before it makes a writer wait
EAGER = sys.version_info >= (3, 12)  # from there on aiohttp begins a handler within the task that reads the connection


class WholeResponse(web.StreamResponse):
    """An answer of HTTP/1.1 that is complete: `prepare` writes all of it."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes, outbox: Outbox | None) -> None:
        super().__init__(status=status)
        self._outbox = outbox
        self._ready_headers = headers
        self._ready_body = body
        self._sent = False
        self._stays = True

    @property
    def prepared(self) -> bool:
        return self._sent

    @property
    def keep_alive(self) -> bool:
        return self._stays

    def force_close(self) -> None:
        self._stays = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Write it, once, and wait while the client takes it slowly.  Raises ConnectionResetError where the client is gone."""
        if self._sent:
            return None
        self._sent = True
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._stays = self._stays and request.keep_alive
        data = self._head() + self._ready_body
        if self._may_wait(transport, data):
            assert self._outbox is not None
            self._outbox.put(transport, data)
            if EAGER:
                await asyncio.sleep(0)  # aiohttp may not have waited for this handler at all, and go on at once
        else:
            transport.write(data)
            await request.writer.drain()
        return None

    def _may_wait(self, transport: asyncio.Transport, data: bytes) -> bool:
        """Only what leaves at one go, on a connection that stays open: all else is to be waited for, or may be overtaken by its end."""
        return self._outbox is not None and self._stays and len(data) <= SMALL_BYTES and not transport.get_write_buffer_size()

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to write."""

    def _head(self) -> bytes:
        """Raises ValueError for a header with a line break."""
        lines = [f"{name}: {value}\r\n" for name, value in self._ready_headers.items()]
        text = "".join(lines)
        if text.count("\n") != len(lines) or text.count("\r") != len(lines) or "\0" in text:
            raise ValueError("a header must not hold a line break")
        close = "" if self._stays else "Connection: close\r\n"
        head = f"{_opening(self.status)}{text}{close}Content-Length: {len(self._ready_body)}\r\nDate: {_date(int(time.monotonic()))}\r\n\r\n"
        return head.encode("latin-1", "replace")


@lru_cache(maxsize=64)
def _opening(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Now, as HTTP writes it; made anew when `second` is another."""
    return formatdate(usegmt=True)
