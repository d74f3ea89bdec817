"""One open request as the watcher sees it: is the client still there, does its stream need a sign of life?

What is answered is decided elsewhere; the watcher only cancels and keeps alive.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from aiohttp import web

from nexus.outbox import Outbox

LOOK_SECONDS = 0.05  # between two looks for clients that left; an embedding app may not tell us


class Visit:
    """One request between its head and its last byte.  `streaming` says that the client expects a stream of `keepalive`'s dialect,
    `cut` that the gateway stops and cannot wait for the end.  `outbox` is where a whole answer goes that others leave beside."""

    __slots__ = (
        "_beginning",
        "cut",
        "headers",
        "http",
        "keepalive",
        "last_write",
        "now",
        "outbox",
        "response",
        "stream_type",
        "streaming",
    )

    def __init__(self, http: web.BaseRequest, now: Callable[[], float], outbox: Outbox | None = None) -> None:
        self.http = http
        self.outbox = outbox
        self.now = now
        self.response: web.StreamResponse | None = None
        self.cut = False
        self._beginning: asyncio.Future[None] | None = None
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
        beginning = self._beginning = asyncio.get_running_loop().create_future()
        response = web.StreamResponse(status=status, headers=headers)
        try:
            await response.prepare(self.http)
            response.headers.clear()  # they are written, and thousands of open streams need not keep them
            self.response = response
        finally:
            self._beginning = None
            beginning.set_result(None)
        return response

    @property
    def early(self) -> bool:
        """Whether the head has been sent, or is just being sent: an app's signals may take their time."""
        return self.response is not None or self._beginning is not None

    async def begun(self) -> web.StreamResponse | None:
        """The answer whose head has been sent, if any; one that is just being sent is waited for."""
        if self._beginning is not None:
            await self._beginning
        return self.response

    async def stay_alive(self) -> None:
        """Send a keep-alive, and before it the head where the answer has not begun.  Never waits for a slow client."""
        transport = self.http.transport
        if transport is None or transport.get_write_buffer_size():
            return
        if self._beginning is not None:
            return
        self.last_write = self.now()
        with contextlib.suppress(OSError, RuntimeError):  # the client has just left: the next look finds out
            if self.response is None:
                await self.begin(200, self._pending())
            if self.response is not None:
                await self.response.write(self.keepalive)

    def _pending(self) -> dict[str, str]:
        return {"Content-Type": self.stream_type, "Cache-Control": "no-cache", **self.headers, "X-Nexus-Pending": "true"}


class Watch:
    """The one watcher over all open requests.  `spawn` runs what may take its time, so that nobody else is waited for."""

    def __init__(
        self, keepalive_seconds: float, now: Callable[[], float], spawn: Callable[[Coroutine[Any, Any, None], str], None]
    ) -> None:
        self._keepalive_seconds = keepalive_seconds
        self._now = now
        self._spawn = spawn
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

    def cut(self) -> None:
        """The gateway stops now: end every request, in words where its client can still be told."""
        for visit in tuple(self._visits):
            visit.cut = True
            visit.http.task.cancel()

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
                self._keep_alive()

    def _keep_alive(self) -> None:
        now = self._now()
        for visit in tuple(self._visits):
            if visit.streaming and visit.keepalive and now - visit.last_write >= self._keepalive_seconds and not visit.gone:
                self._spawn(visit.stay_alive(), "keep a stream alive")
