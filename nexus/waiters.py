"""One request that waits, what may end its wait, and the groups of those who wait for the same.  Who is asked when is in `waiting`."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right, insort
from collections.abc import Callable, Hashable, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import Generic, TypeVar

import attrs

from nexus.model import Request

T = TypeVar("T")
OWN_BYTES = 4096  # what a request that waits takes beside its body: its facts, headers, task and timer

Place = tuple[int, int]
"""The lane, and how many came before: the smallest is asked first."""


@attrs.frozen(kw_only=True)
class Condition:
    """What may end a wait.

    `slots` are the domains a free slot of which may help; `backends` those whose pairs are held back by nothing but what passes with
    time; `names` those of the models that are meant, None where any model may help.  `unsure` says that any change in the fleet may
    help.  `retry_at` is when time alone may have helped all who wait for the same, `own_at` this request alone: both in seconds of the
    gateway's clock.  `mark` tells those apart who may get different answers though all else is the same.
    """

    slots: frozenset[str] = frozenset()
    backends: frozenset[str] = frozenset()
    names: frozenset[str] | None = None
    unsure: bool = False
    retry_at: float | None = None
    own_at: float | None = None
    mark: Hashable = None

    @property
    def group(self) -> Hashable:
        return self.names, self.slots, self.backends, self.unsure, self.mark

    def holds_up_as(self, other: Condition) -> bool:
        """Whether the same pairs hold up the same requests, if by something else."""
        return attrs.evolve(other, slots=self.slots, retry_at=None).group == self.group


class Waiter(Generic[T]):
    """One waiting request.  `attempt` routes again: a claim, None for "still nothing", or an exception that ends the wait.

    An attempt that finds nothing brings `condition` up to date.
    """

    __slots__ = ("attempt", "condition", "future", "group", "lane", "place", "reminded", "request", "since", "size")

    def __init__(self, request: Request, size: int, attempt: Callable[[], T | None], condition: Condition, since: float) -> None:
        self.request = request
        self.lane = request.priority
        self.size = size + OWN_BYTES
        self.attempt = attempt
        self.condition = condition
        self.since = since
        self.place: Place = (0, 0)
        self.group: Group | None = None
        self.reminded = False
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


class Group:
    """Those who wait for the same, in order.

    `called` are the domains that may have a slot for them; while there are any, the group is on the agenda.  What they wait for, all
    of them can use, and the first is asked for all; but whether they can use what they have *gained* since (`gained`, names of
    backends) differs from one to the other.  `asked` is the last one who has been asked for that, `again` that all are to be asked
    once more when all have been.
    """

    __slots__ = ("again", "asked", "called", "condition", "gained", "places", "retry_at")

    def __init__(self, condition: Condition) -> None:
        self.condition = condition
        self.places: list[Place] = []
        self.called: set[str] = set()
        self.gained: set[str] = set()
        self.asked: Place | None = None
        self.again = False
        self.retry_at: float | None = None

    def next_for_gain(self) -> Place | None:
        """Who is to be asked next for what they have gained; None where all have been asked."""
        at = bisect_right(self.places, self.asked) if self.asked else 0
        if at == len(self.places) and self.again:
            self.again, at = False, 0
        return self.places[at] if at < len(self.places) else None


class Groups:
    """Every waiter in the group of its condition; the groups by the domains that they watch, and by their next moment."""

    def __init__(self) -> None:
        self._groups: dict[Group, None] = {}
        self._by_condition: dict[Hashable, Group] = {}
        self._watching: dict[str, dict[Group, None]] = {}
        self._moments: list[tuple[float, int, Group | Place]] = []
        self._count = count()

    def all(self) -> Iterable[Group]:
        return self._groups

    def watching(self, domain: str) -> Iterable[Group]:
        """The groups that a free slot of this domain may help."""
        return self._watching.get(domain, ())

    def put(self, waiter: Waiter[T]) -> Group:
        """Where it waits now, by its condition.  Where the same pairs hold it up as before, it speaks for its whole group."""
        condition, group = waiter.condition, waiter.group
        if group is None or not condition.holds_up_as(group.condition):
            self.take(waiter)
            group = waiter.group = self._group(condition)
            insort(group.places, waiter.place)
        elif condition.slots != group.condition.slots:
            self._change(group, condition)
        waiter.condition = group.condition  # one for all of them
        if condition.own_at is not None and not waiter.reminded:
            waiter.reminded = True
            heappush(self._moments, (condition.own_at, next(self._count), waiter.place))
        if condition.retry_at != group.retry_at:  # who was asked last knows best
            group.retry_at = condition.retry_at
            if condition.retry_at is not None:
                heappush(self._moments, (condition.retry_at, next(self._count), group))
        return group

    def _group(self, condition: Condition) -> Group:
        group = self._by_condition.get(condition.group)
        if group is None:
            group = self._by_condition[condition.group] = Group(condition)
            self._groups[group] = None
            self._watch(condition.slots, group)
        return group

    def _change(self, group: Group, condition: Condition) -> None:
        """It waits for other slots than before, as another group may do already: there are two then."""
        self._drop(group)
        self._unwatch(group.condition.slots - condition.slots - group.gained, group)
        self._watch(condition.slots, group)
        group.condition = condition
        self._by_condition.setdefault(condition.group, group)

    def _drop(self, group: Group) -> None:
        if self._by_condition.get(group.condition.group) is group:
            del self._by_condition[group.condition.group]

    def gain(self, group: Group, backend: str) -> None:
        """All of the group are to be asked, in order, as long as this backend has room, now or later."""
        group.gained.add(backend)
        group.asked = None
        self._watch((backend,), group)

    def settle(self, group: Group) -> None:
        """All of the group have been asked for what they have gained: what they wait for now says it all."""
        self._unwatch(group.gained - group.condition.slots, group)
        group.gained.clear()

    def take(self, waiter: Waiter[T]) -> None:
        """It waits for this no more."""
        group = waiter.group
        if group is None:
            return
        waiter.group = None
        del group.places[bisect_left(group.places, waiter.place)]
        if not group.places:
            self._drop(group)
            del self._groups[group]
            self._unwatch(group.condition.slots | group.gained, group)

    def _watch(self, domains: Iterable[str], group: Group) -> None:
        for domain in domains:
            self._watching.setdefault(domain, {})[group] = None

    def _unwatch(self, domains: Iterable[str], group: Group) -> None:
        for domain in domains:
            watching = self._watching[domain]
            del watching[group]
            if not watching:
                del self._watching[domain]

    # ------------------------------------------------------------ moments

    def next_moment(self) -> float | None:
        while self._moments and self._is_over(*self._moments[0]):
            heappop(self._moments)
        return self._moments[0][0] if self._moments else None

    def due(self, now: float) -> Iterable[Group | Place]:
        """Whose moment has come.  Each is told once."""
        while (at := self.next_moment()) is not None and at <= now:
            who = heappop(self._moments)[2]
            if isinstance(who, Group):
                who.retry_at = None
            yield who

    def _is_over(self, at: float, _: int, who: Group | Place) -> bool:
        return isinstance(who, Group) and (who.retry_at != at or not who.places)
