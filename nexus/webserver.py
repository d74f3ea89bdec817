"""aiohttp's connections on a server of our own: what `downstream` leaves to it.  Who answers is not decided here."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, cast

from aiohttp import web

from nexus.answer import request_id
from nexus.errors import Problem
from nexus.stall import Stall

LOG = logging.getLogger("nexus")
SILENCE_SECONDS = 30.0  # until the first request of a connection must be there
SWEEP_SECONDS = 1.0
KEEPALIVE_SECONDS = 75.0
MAX_LINE_BYTES = 16 * 1024


class WebConnection(web.RequestHandler):
    """One client connection.  What is not HTTP gets a JSON error, and a client that says nothing is not waited for."""

    __slots__ = ("_heard", "_server", "_since", "_stall", "_wire")

    def __init__(self, server: WebServer, **more: Any) -> None:
        super().__init__(server, **more)
        self._server = server

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._since = self._heard = asyncio.get_running_loop().time()
        self._wire = cast(asyncio.Transport, transport)  # aiohttp forgets it as soon as it means to close it
        self._stall: Stall | None = None

    def data_received(self, data: bytes) -> None:
        if not self._server.is_leaving(self):
            self._heard = asyncio.get_running_loop().time()
            super().data_received(data)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.transport is not None:
            self._stall = Stall(self.transport, asyncio.get_running_loop().time())

    def resume_writing(self) -> None:
        super().resume_writing()
        self._stall = None

    @property
    def silent_since(self) -> float | None:
        """Since when it waits for a request, or for the rest of one; None while one is answered."""
        if self._current_request is None:
            return max(self._heard, self._next_keepalive_close_time - KEEPALIVE_SECONDS)
        return self._heard if self.in_body else None

    @property
    def in_body(self) -> bool:
        """Whether it waits for the rest of a body."""
        return self._current_request is not None and getattr(self._current_request.content, "_waiter", None) is not None

    def dismiss(self, problem: Problem) -> None:
        """Close it, for it is silent: where a body has begun, who reads it gets `problem`, and the connection closes behind the answer."""
        self._server.leaves(self)
        if self._current_request is None:
            self.force_close()
            return
        self.close()
        content = self._current_request.content
        content.set_exception(problem)
        content.feed_eof()  # aiohttp need not wait for the rest

    def cut_if_stalled(self, now: float, patience: float) -> None:
        """Cut a client off that takes nothing of a page, or of the rest of one behind which the connection is to close; who takes nothing
        of an answer is the watch's."""
        wire = self._wire
        if self._stall is None:
            if wire.is_closing() and wire.get_write_buffer_size():
                self._stall = Stall(wire, now)
        elif self._stall.lasts(wire, now) >= patience:
            wire.abort()

    def close_if_silent(self, now: float) -> None:
        """Close a connection on which no request has come in time."""
        if self._request_count == 0 and now - self._since >= SILENCE_SECONDS:
            self.force_close()

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if status >= 500:
            LOG.error("%s %.200r failed inside Nexus", request.method, request.path, exc_info=exc)
        said = (
            "Nexus itself failed; its log says more"
            if status >= 500
            else f"this is not a valid HTTP request: {HTTPStatus(status).phrase}"
        )
        kind = "server_error" if status >= 500 else "invalid_request_error"
        error = {"message": said, "type": kind, "param": None, "code": "internal_error" if status >= 500 else "malformed_http"}
        headers = {"X-Nexus-Request-Id": request_id({})}
        response = web.json_response({"error": error}, status=status, headers=headers)
        response.force_close()
        return response


class WebServer(web.Server):
    """Makes our connections.  No access log: the request log says more."""

    def __init__(self, handler: Any, send_timeout: float) -> None:
        super().__init__(handler, handler_cancellation=True)
        self._send_timeout = send_timeout
        self._leaving: set[web.RequestHandler] = set()

    def __iter__(self) -> Iterator[WebConnection]:
        """Those that have not been dismissed."""
        return (each for each in self.connections if isinstance(each, WebConnection) and each not in self._leaving)

    def __len__(self) -> int:
        return len(self._connections) - len(self._leaving)

    def leaves(self, connection: WebConnection) -> None:
        """It has been dismissed, and is gone in a moment."""
        if connection in self._connections:
            self._leaving.add(connection)

    def is_leaving(self, connection: WebConnection) -> bool:
        """Whether it has been dismissed."""
        return connection in self._leaving

    def connection_lost(self, handler: web.RequestHandler, exc: BaseException | None = None) -> None:
        self._leaving.discard(handler)
        super().connection_lost(handler, exc)

    async def sweep(self) -> None:
        """Look for silent clients until cancelled: one look over all, not a timer for each."""
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in self.connections:
                if isinstance(connection, WebConnection):
                    connection.close_if_silent(now)
                    connection.cut_if_stalled(now, self._send_timeout)

    def __call__(self) -> web.RequestHandler:
        return WebConnection(
            self,
            loop=asyncio.get_running_loop(),
            access_log=None,
            keepalive_timeout=KEEPALIVE_SECONDS,
            max_line_size=MAX_LINE_BYTES,
            max_field_size=MAX_LINE_BYTES,
            lingering_time=1.0,
            logger=LOG,
        )
