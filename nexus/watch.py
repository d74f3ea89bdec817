"""Looks after open requests: is the client still there, does its stream need a sign of life?  What is answered is decided elsewhere."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from nexus.context import RequestContext
from nexus.relay import keep_alive
from nexus.slices import in_slices
from nexus.stall import Stall
from nexus.visit import Visit

LOG = logging.getLogger("nexus")
LOOK_SECONDS = 0.05  # between two looks for clients that left; an embedding app may not tell us
LOOKS = 10  # until all streams have been asked whether they need a sign of life
LOOKS_FOR_STALLS = 20


class Watch:
    """The one watcher over all open requests.  `once` runs what may take its time, so that nobody else is waited for.

    Connections of our own say by themselves that their client has gone; those of aiohttp are looked at.
    """

    def __init__(
        self,
        keepalive_seconds: float,
        now: Callable[[], float],
        once: Callable[[Callable[[], Coroutine[Any, Any, None]], str], None],
        send_timeout: float = 60.0,
    ) -> None:
        self._keepalive_seconds = keepalive_seconds
        self._send_timeout = send_timeout
        self._now = now
        self._once = once
        self._visits: dict[Visit, RequestContext] = {}
        self._silent: dict[Visit, Stall | None] = {}  # those whose connections tell us nothing
        self._some = asyncio.Event()

    def __len__(self) -> int:
        return len(self._visits)

    def add(self, visit: Visit, context: RequestContext) -> None:
        if not self._visits:
            self._some.set()
        self._visits[visit] = context
        if not visit.tells:
            self._silent[visit] = None

    def remove(self, visit: Visit) -> None:
        self._visits.pop(visit, None)
        self._silent.pop(visit, None)

    def cut(self) -> None:
        """The gateway stops now: end every request, in words where its client can still be told."""
        for visit, context in tuple(self._visits.items()):
            context.stopping = True
            visit.cancel()

    async def run(self) -> None:
        """Look until cancelled."""
        look = 0
        while True:
            if not self._visits:
                self._some.clear()
                await self._some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            look += 1
            self._cancel_those_gone()
            if look % LOOKS_FOR_STALLS == 0:
                self._cut_those_stalled()
            if look % LOOKS == 0:
                await self._keep_alive()

    def _cancel_those_gone(self) -> None:  # by itself, for a name in `run` would keep the last visit until the next look
        for visit in tuple(self._silent):
            if visit.gone:
                visit.cancel()

    def _cut_those_stalled(self) -> None:
        now = self._now()
        for visit, stall in tuple(self._silent.items()):
            transport = visit.transport
            if transport is None or not visit.behind:
                self._silent[visit] = None
            elif stall is None or visit.last_write > now - 2 * LOOKS_FOR_STALLS * LOOK_SECONDS:  # it has just taken something
                self._silent[visit] = Stall(transport, now)
            elif stall.lasts(transport, now) >= self._send_timeout:
                LOG.info("a client took nothing of its answer for %g s and is cut off", self._send_timeout)
                visit.abort()

    async def _keep_alive(self) -> None:
        latest = self._now() - self._keepalive_seconds
        await in_slices(self._visits, lambda visit: self._keep(visit, latest))

    def _keep(self, visit: Visit, latest: float) -> None:
        context = self._visits.get(visit)
        if (
            context is not None
            and context.streaming
            and context.dialect.keepalive
            and visit.last_write <= latest
            and not visit.gone
        ):
            self._once(functools.partial(keep_alive, visit, context), "keep a stream alive")
