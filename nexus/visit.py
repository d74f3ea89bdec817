"""One open request as the watcher sees it: is the client still there, does its stream need a sign of life?

What is answered is decided elsewhere; the watcher only cancels and keeps alive.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping

from aiohttp import web

LOOK_SECONDS = 0.05  # between two looks for clients that left; an embedding app may not tell us


class Visit:
    """One request between its head and its last byte.  `streaming` says that the client expects a stream of `keepalive`'s dialect."""

    __slots__ = ("headers", "http", "keepalive", "last_write", "now", "response", "stream_type", "streaming")

    def __init__(self, http: web.BaseRequest, now: Callable[[], float]) -> None:
        self.http = http
        self.now = now
        self.response: web.StreamResponse | None = None
        self.streaming = False
        self.keepalive = b""
        self.stream_type = ""
        self.headers: Mapping[str, str] = {}
        self.last_write = now()

    @property
    def gone(self) -> bool:
        transport = self.http.transport
        return transport is None or transport.is_closing()

    async def begin(self, status: int, headers: Mapping[str, str]) -> web.StreamResponse:
        """Send the head of the answer."""
        response = self.response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(self.http)
        response.headers.clear()  # they are written, and thousands of open streams need not keep them
        return response

    async def stay_alive(self) -> None:
        """Send a keep-alive, and before it the head where the answer has not begun.  Never waits for a slow client."""
        transport = self.http.transport
        if transport is None or transport.get_write_buffer_size():
            return
        if self.response is None:
            await self.begin(
                200, {"Content-Type": self.stream_type, "Cache-Control": "no-cache", **self.headers, "X-Nexus-Pending": "true"}
            )
        assert self.response is not None
        await self.response.write(self.keepalive)
        self.last_write = self.now()


class Watch:
    """The one watcher over all open requests."""

    def __init__(self, keepalive_seconds: float, now: Callable[[], float]) -> None:
        self._keepalive_seconds = keepalive_seconds
        self._now = now
        self._visits: set[Visit] = set()
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._visits)

    def add(self, visit: Visit) -> None:
        if not self._visits:
            self._some.set()
        self._visits.add(visit)

    def remove(self, visit: Visit) -> None:
        self._visits.discard(visit)

    async def run(self) -> None:
        """Look until cancelled."""
        look = 0
        while True:
            if not self._visits:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            for visit in tuple(self._visits):
                if visit.gone:
                    visit.http.task.cancel()  # the connection's task, and with it the request's
            look += 1
            if look % 10 == 0:
                await self._keep_alive()

    async def _keep_alive(self) -> None:
        now = self._now()
        for visit in tuple(self._visits):
            due = visit.streaming and visit.keepalive and now - visit.last_write >= self._keepalive_seconds
            if due and visit in self._visits and not visit.gone:
                with contextlib.suppress(OSError, RuntimeError):  # the client has just left: the next look finds out
                    await visit.stay_alive()
