"""Who waits for a free pair, and who is asked next.  Waiting is routing again: this room holds turns, it decides nothing.

A slot that becomes free is handed on in the same tick, to the first waiter that can use it.  Of those who wait for the same only the
first is asked: where it finds nothing, the others would not either.  Whatever else changes puts those whom it may help on the
*agenda*, which is worked off in order, a slice in each turn of the loop.  As long as it lasts, a newcomer that would take what
somebody on it may be waiting for waits as well: nobody is overtaken.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import perf_counter
from typing import Generic, Protocol, TypeVar

import msgspec

from nexus.errors import NexusError
from nexus.model import Lane, Listener, Queued
from nexus.waiters import OWN_BYTES, Group, Groups, Place, Waiter

T = TypeVar("T")
LANES = (Lane.HIGH, Lane.NORMAL, Lane.LOW)
RANK = {lane: rank for rank, lane in enumerate(LANES)}
SLICE_SECONDS = 0.005  # of a turn of the loop, for those who wait
MOMENT = ""  # stands for a domain that has room: time alone may have helped


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """How much may wait, and how long (seconds)."""

    max_requests: int = 100
    max_bytes: int = 256 * 1024 * 1024
    max_wait_seconds: float = 30.0


class QueueFull(NexusError):
    """No more may wait.  Caught by dispatch, which tells the client when to come back."""


class WaitedTooLong(NexusError):
    """The longest allowed wait is over.  Caught by dispatch."""


class View(Protocol):
    """What must be known of the fleet here."""

    def has_room(self, domain: str) -> bool:
        """Whether a slot of the domain is free."""

    def serving(self, names: frozenset[str] | None) -> frozenset[str]:
        """The backends that are not known to be down and serve a model of one of the names (None: any)."""


class Waiting(Generic[T]):
    """The queue: three lanes, bounded in number and bytes."""

    def __init__(self, bounds: Bounds, now: Callable[[], float], tell: Listener, view: View) -> None:
        self._bounds = bounds
        self._now = now
        self._tell = tell
        self._view = view
        self._waiters: dict[Place, Waiter[T]] = {}
        self._depths = dict.fromkeys(LANES, 0)
        self._groups = Groups()
        self._count = count()
        self._alarm: asyncio.TimerHandle | None = None
        self._agenda: list[tuple[Place, int, Group | Waiter[T]]] = []
        self._sought: set[str] = set()
        self._changed: set[str] = set()
        self._everything = False
        self._working = self._turn_ends = False
        self._until = 0.0
        self.bytes = 0

    # ------------------------------------------------------------ reading

    def __len__(self) -> int:
        return len(self._waiters)

    def depth(self, lane: Lane) -> int:
        return self._depths[lane]

    def waiters(self) -> tuple[Waiter[T], ...]:
        """All waiters in the order in which they are asked."""
        return tuple(self._waiters[place] for place in sorted(self._waiters))

    def has_room(self, size: int) -> bool:
        """Whether a request with a body of `size` bytes may still wait."""
        return len(self) < self._bounds.max_requests and self.bytes + size + OWN_BYTES <= self._bounds.max_bytes

    @property
    def busy(self) -> bool:
        """Whether somebody is still to be asked."""
        return bool(self._agenda or self._changed or self._everything)

    def come_first(self, backend: str) -> bool:
        """Whether somebody is still to be asked who may want what this backend has free."""
        if not self._waiters:
            return False
        return self._everything or backend in self._sought or backend in self._changed

    # ------------------------------------------------------------ waiting

    async def wait(self, waiter: Waiter[T], *, ask: bool = False) -> T:
        """Wait for a turn; with `ask`, be asked as soon as those before have been.  Raises QueueFull, WaitedTooLong, or what the
        attempt raised.

        A caller that is cancelled in the very tick in which its turn came gives the turn back with `waiter.give_back`.
        """
        if not self.has_room(waiter.size - OWN_BYTES):
            raise QueueFull
        self._enter(waiter)
        if ask:
            self._note_changes()
            self._call(waiter)
            self._work()
        over = asyncio.get_running_loop().call_at(waiter.since + self._bounds.max_wait_seconds, _expire, waiter)
        try:
            return await waiter.future
        finally:
            over.cancel()
            self._leave(waiter)

    # ------------------------------------------------------------ what may help

    def freed(self, domain: str) -> None:
        """A slot of the domain may be free: it is handed on now, to those who watch it, as long as there is room."""
        if not self._waiters:
            return
        for group in self._groups.watching(domain):
            self._call_group(group, domain)
        self._work()

    def changed(self, backend: str) -> None:
        """Who it is, what it serves or how it is is other than before.  From the next turn of the loop on, and once for all that changes
        in this one, those are asked who gain by it, and those who have nothing to wait for any more."""
        if self._waiters:
            self._changed.add(backend)
            self._begin_turn()

    def pump(self) -> None:
        """Nobody knows what changed: all are asked, from the next turn of the loop on."""
        if self._waiters:
            self._everything = True
            self._begin_turn()

    def pump_due(self) -> None:
        """Let those go first whose moment has come, though the loop has not said so yet.  For newcomers, before they choose."""
        for who in self._groups.due(self._now()):
            if isinstance(who, Group):
                self._call_group(who, MOMENT)
            elif who in self._waiters:
                self._call(self._waiters[who])
        self._work()
        self._set_alarm()

    # ------------------------------------------------------------ the agenda

    def _call(self, waiter: Waiter[T]) -> None:
        """Ask it when its turn comes."""
        self._sought |= waiter.condition.backends
        heappush(self._agenda, (waiter.place, next(self._count), waiter))

    def _call_group(self, group: Group, domain: str) -> None:
        """Ask its first, and the next as long as one finds something and there is room in the domain."""
        if not group.called:
            heappush(self._agenda, (group.places[0], next(self._count), group))
        if domain not in group.called:
            group.called.add(domain)
            self._sought |= group.condition.backends | group.gained

    def _call_all(self, group: Group) -> None:
        """Ask one after the other, whatever they find."""
        if MOMENT in group.gained:
            group.again = True
        else:
            self._groups.gain(group, MOMENT)
            self._call_group(group, MOMENT)

    def _begin_turn(self) -> None:
        """What is left for the next turn of the loop will be done in it."""
        if not self._turn_ends:
            self._turn_ends = True
            self._until = perf_counter() + SLICE_SECONDS
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._turn_ends = False
        self._note_changes()
        self._work()

    def _note_changes(self) -> None:
        """Those whom they may help are on the agenda from now on."""
        everything, self._everything = self._everything, False
        changed = frozenset(self._changed)
        self._changed.clear()
        if everything or changed:
            serving = functools.cache(self._view.serving)
            for group in self._groups.all():
                if everything or group.condition.unsure:
                    self._call_all(group)
                else:
                    self._tell_group(group, changed, serving(group.condition.names))

    def _tell_group(self, group: Group, changed: frozenset[str], serving: frozenset[str]) -> None:
        backends = group.condition.backends
        for backend in changed & serving:
            if backend not in backends:
                self._groups.gain(group, backend)
            self._call_group(group, backend)
        if not backends.isdisjoint(changed) and backends.isdisjoint(serving):
            self._call_all(group)  # there is nothing left to wait for; else what is taken away helps nobody

    def _work(self) -> None:
        """Ask those on the agenda, in order, as long as this turn of the loop allows.  An attempt is never made within another: whom it
        may help is on the agenda then."""
        if self._working or not self._agenda:
            return
        self._begin_turn()
        self._working = True
        try:
            while self._agenda and perf_counter() < self._until:
                place, _, who = heappop(self._agenda)
                if isinstance(who, Group):
                    self._ask_group(who, place)
                elif who.place in self._waiters:
                    self._ask(who)
        finally:
            self._working = False
        if not self._agenda:
            self._sought.clear()
        self._set_alarm()

    def _ask_group(self, group: Group, place: Place) -> None:
        """One of it, if there is still room for one; then it has its place on the agenda again."""
        room = {domain for domain in group.called if domain == MOMENT or self._view.has_room(domain)}
        for_all = room - group.gained
        if not (group.places and room):
            group.called.clear()
        elif (turn := group.places[0] if for_all else group.next_for_gain()) is None:
            self._groups.settle(group)
            group.called.clear()
        else:
            if turn == place:
                if not for_all:
                    group.asked = turn
                if self._ask(self._waiters[turn]) is group:
                    group.called -= for_all  # what its first did not find, the others would not either
                turn = group.places[0] if group.places else turn
            heappush(self._agenda, (turn, next(self._count), group))

    def _ask(self, waiter: Waiter[T]) -> Group | None:
        """The group in which it goes on waiting, None where it does not."""
        if waiter.wake():
            self._leave(waiter)
            return None
        return self._groups.put(waiter)

    # ------------------------------------------------------------ coming and going

    def _set_alarm(self) -> None:
        """One alarm for all, since one for each would wake those due at the same moment in any order."""
        due = self._groups.next_moment()
        if self._alarm is not None:
            if self._alarm.when() == due and not self._alarm.cancelled():
                return
            self._alarm.cancel()
        self._alarm = None if due is None else asyncio.get_running_loop().call_at(due, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.pump_due()

    def _enter(self, waiter: Waiter[T]) -> None:
        waiter.place = (RANK[waiter.lane], next(self._count))
        self._waiters[waiter.place] = waiter
        self._groups.put(waiter)
        self.bytes += waiter.size
        self._depths[waiter.lane] += 1
        self._set_alarm()
        self._say(waiter, waiting=True)

    def _leave(self, waiter: Waiter[T]) -> None:
        """Out of the queue: at once where its turn came, else when its wait is over."""
        if self._waiters.pop(waiter.place, None) is not None:
            self._groups.take(waiter)
            self.bytes -= waiter.size
            self._depths[waiter.lane] -= 1
            self._say(waiter, waiting=False)

    def _say(self, waiter: Waiter[T], *, waiting: bool) -> None:
        self._tell(
            Queued(at=self._now(), request=waiter.request, lane=waiter.lane, waiting=waiting, depth=self._depths[waiter.lane])
        )


def _expire(waiter: Waiter[T]) -> None:
    if not waiter.future.done():
        waiter.future.set_exception(WaitedTooLong())
