"""Looks after open requests: is the client still there, does its stream need a sign of life?  What is answered is decided elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from nexus.visit import Visit

LOOK_SECONDS = 0.05  # between two looks for clients that left; an embedding app may not tell us


class Watch:
    """The one watcher over all open requests.  `once` runs what may take its time, so that nobody else is waited for."""

    def __init__(
        self,
        keepalive_seconds: float,
        now: Callable[[], float],
        once: Callable[[Callable[[], Coroutine[Any, Any, None]], str], None],
    ) -> None:
        self._keepalive_seconds = keepalive_seconds
        self._now = now
        self._once = once
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
            visit.cancel()

    async def run(self) -> None:
        """Look until cancelled."""
        look = 0
        while True:
            if not self._visits:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            self._cancel_those_gone()
            look += 1
            if look % 10 == 0:
                self._keep_alive()

    def _cancel_those_gone(self) -> None:  # by itself, for a name in `run` would keep the last visit until the next look
        for visit in tuple(self._visits):
            if visit.gone:
                visit.cancel()

    def _keep_alive(self) -> None:
        now = self._now()
        for visit in tuple(self._visits):
            if visit.streaming and visit.keepalive and now - visit.last_write >= self._keepalive_seconds and not visit.gone:
                self._once(visit.stay_alive, "keep a stream alive")
