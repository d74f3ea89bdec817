"""Who waits for a free pair, and who is woken next.  Waiting is routing again: this room holds turns, it decides nothing.

A slot that becomes free is handed on in the same tick, to the first waiter that can use it.  So a newcomer that finds a
free pair has found one that no waiter could have had, and nobody is overtaken.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

from nexus.errors import NexusError
from nexus.model import Lane, Listener, Queued, Request

T = TypeVar("T")
LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)


@attrs.frozen(kw_only=True)
class Bounds:
    """How much may wait, and how long (seconds)."""

    max_requests: int = 100
    max_bytes: int = 256 * 1024 * 1024
    max_wait_seconds: float = 30.0


class QueueFull(NexusError):
    """No more may wait.  Caught by dispatch, which tells the client when to come back."""


class WaitedTooLong(NexusError):
    """The longest allowed wait is over.  Caught by dispatch."""


class Waiter(Generic[T]):
    """One waiting request.  `attempt` routes again: a claim, None for "still nothing", or an exception that ends the wait.

    `watch` names the domains a free slot of which may help; empty means any.  `retry_at` is when to try again in any case,
    in seconds of the loop's clock.
    """

    __slots__ = ("attempt", "future", "lane", "request", "retry_at", "since", "size", "watch")

    def __init__(self, request: Request, size: int, attempt: Callable[[], T | None], watch: frozenset[str], since: float) -> None:
        self.request = request
        self.lane = request.priority
        self.size = size
        self.attempt = attempt
        self.watch = watch
        self.since = since
        self.retry_at: float | None = None
        self.future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def wake(self) -> bool:
        """Try once.  Returns whether the wait is over."""
        if self.future.done():
            return True
        try:
            got = self.attempt()
        except Exception as error:
            self.future.set_exception(error)
            return True
        if got is None:
            return False
        self.future.set_result(got)
        return True

    def give_back(self, release: Callable[[T], object]) -> None:
        """Release the turn that came too late to be used, if one came."""
        if self.future.done() and not self.future.cancelled() and self.future.exception() is None:
            release(self.future.result())


class Waiting(Generic[T]):
    """The queue: three lanes, bounded in number and bytes."""

    def __init__(self, bounds: Bounds, now: Callable[[], float], tell: Listener) -> None:
        self._bounds = bounds
        self._now = now
        self._tell = tell
        self._lanes: dict[Lane, dict[int, Waiter[T]]] = {lane: {} for lane in LANES}
        self._alarm: asyncio.TimerHandle | None = None
        self._pumping = self._again = False
        self.bytes = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def depth(self, lane: Lane) -> int:
        return len(self._lanes[lane])

    def waiters(self) -> tuple[Waiter[T], ...]:
        """All waiters in the order in which they are woken."""
        return tuple(w for lane in LANES for w in self._lanes[lane].values())

    def has_room(self, size: int) -> bool:
        """Whether a request of `size` bytes may still wait."""
        return len(self) < self._bounds.max_requests and self.bytes + size <= self._bounds.max_bytes

    async def wait(self, waiter: Waiter[T], retry_at: float | None) -> T:
        """Wait for a turn.  Raises QueueFull, WaitedTooLong, or what the attempt raised.

        A caller that is cancelled in the very tick in which its turn came gives the turn back with `waiter.give_back`.
        """
        if not self.has_room(waiter.size):
            raise QueueFull
        deadline = waiter.since + self._bounds.max_wait_seconds
        self._enter(waiter)
        waiter.retry_at = retry_at
        self._set_alarm()
        over = asyncio.get_running_loop().call_at(deadline, _expire, waiter)
        try:
            return await waiter.future
        finally:
            over.cancel()
            self._leave(waiter)

    def pump(self, domain: str | None = None, room: Callable[[], bool] | None = None) -> None:
        """Something changed: in this domain, or anywhere.  Waiters try in order, as long as there is `room`.

        What changes because of it (a stage may say so while it learns of a claim) is looked at afterwards: an attempt is
        never made within another.
        """
        if self._pumping:
            self._again = True
            return
        self._pumping = True
        try:
            self._pump(domain, room)
            while self._again:
                self._again = False
                self._pump(None, None)
        finally:
            self._pumping = False
        self._set_alarm()

    def pump_due(self) -> None:
        """Let those go first whose moment has come, though the loop has not said so yet.  For newcomers, before they choose."""
        now = self._now()
        if any(w.retry_at is not None and w.retry_at <= now for w in self.waiters()):
            self.pump()

    def _pump(self, domain: str | None, room: Callable[[], bool] | None) -> None:
        for waiter in self.waiters() if len(self) else ():
            if room is not None and not room():
                return
            if (domain is None or not waiter.watch or domain in waiter.watch) and waiter.wake():
                self._leave(waiter)

    def _set_alarm(self) -> None:
        """One alarm for all, since one for each would wake those due at the same moment in any order."""
        if self._alarm is not None:
            self._alarm.cancel()
        due = min((w.retry_at for w in self.waiters() if w.retry_at is not None), default=None)
        self._alarm = None if due is None else asyncio.get_running_loop().call_at(due, self.pump)

    def _enter(self, waiter: Waiter[T]) -> None:
        self._lanes[waiter.lane][id(waiter)] = waiter
        self.bytes += waiter.size
        self._count += 1
        self._say(waiter, waiting=True)

    def _leave(self, waiter: Waiter[T]) -> None:
        """Out of the queue: at once where its turn came, else when its wait is over."""
        if self._lanes[waiter.lane].pop(id(waiter), None) is not None:
            self.bytes -= waiter.size
            self._count -= 1
            self._say(waiter, waiting=False)

    def _say(self, waiter: Waiter[T], *, waiting: bool) -> None:
        self._tell(Queued(at=self._now(), request=waiter.request, lane=waiter.lane, waiting=waiting, depth=self.depth(waiter.lane)))


def _expire(waiter: Waiter[T]) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(WaitedTooLong())
