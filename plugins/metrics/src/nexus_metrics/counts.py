"""What is counted: plain numbers, fed from events.  Names and help texts live in `families`.

This runs for every request, so it is dictionaries and integers; nothing is formatted and nothing is locked (the gateway has
one thread).  Every label comes from the fleet, and every table has a bound.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from nexus.api import Answered, Candidate, Claimed, Event, Finished, Health, Joined, Lane, Left, Plan, Probed, Queued, Usage

OTHER = "(other)"
MAX_PAIRS = 2000
MAX_ROWS = 1000

# Seconds.  A small model answers in tenths of a second, a long agent turn takes ten minutes.
DURATION = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0)
# Seconds.  From a warm local model to one that must be loaded first.
FIRST_BYTE = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
# Seconds.  A routing decision should take well below 100 µs.
ROUTING = (0.00001, 0.000025, 0.00005, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01)

K = TypeVar("K", bound=Hashable)


class Histogram:
    """How many values fell at or below each bound; the last of `counts` is for those above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Pair:
    """What is counted per (model, backend)."""

    __slots__ = ("cached", "cost", "duration", "first_byte", "input", "output", "reasoning", "statuses")

    def __init__(self) -> None:
        self.statuses: dict[int, int] = {}
        self.duration = Histogram(DURATION)
        self.first_byte = Histogram(FIRST_BYTE)
        self.input = self.output = self.cached = self.reasoning = 0
        self.cost = 0.0

    def add(self, usage: Usage) -> None:
        self.input += usage.input_tokens
        self.output += usage.output_tokens
        self.cached += usage.cached_tokens
        self.reasoning += usage.reasoning_tokens


class Counts:
    """Everything that the metrics are made of, kept up to date by `see`.

    A backend that has left takes its rows with it.  What its last requests still report is counted under the backend "".
    """

    def __init__(self, *, max_pairs: int = MAX_PAIRS, max_rows: int = MAX_ROWS) -> None:
        self.pairs: dict[tuple[str, str], Pair] = {}
        self.routing = Histogram(ROUTING)
        self.refusals: dict[tuple[str, str], int] = {}
        self.attempts: dict[tuple[str, str], int] = {}
        self.fallbacks: dict[tuple[str, str], int] = {}
        self.backends: dict[str, tuple[Health, int]] = {}
        self.queue: dict[str, int] = {lane.value: 0 for lane in Lane}
        self.cancelled = 0
        self._max_pairs, self._max_rows = max_pairs, max_rows
        self._claims: dict[int, str] = {}
        self._left: dict[str, None] = {}
        self._counters: dict[type[Event], Callable[[Any], None]] = {
            Answered: self._answered,
            Claimed: self._claimed,
            Finished: self._finished,
            Queued: self._queued,
            Joined: self._joined,
            Left: self._gone,
            Probed: self._probed,
        }

    def see(self, event: Event) -> None:
        if (count := self._counters.get(type(event))) is not None:
            count(event)

    # ------------------------------------------------------------ requests

    def _answered(self, event: Answered) -> None:
        pair = self._pair(event.candidate)
        pair.statuses[event.status] = pair.statuses.get(event.status, 0) + 1
        pair.duration.observe(event.seconds)
        if event.first_byte is not None:
            pair.first_byte.observe(event.first_byte)
        pair.add(event.usage)
        if event.cost:
            pair.cost += event.cost
        if event.plan is not None:
            self.routing.observe(event.routing_seconds)
            for objection in event.plan.objections:
                self._count(self.refusals, (objection.stage, objection.refusal.code))
        if event.leg is not None and event.leg.index and event.candidate is not None:
            self._count(self.fallbacks, (_first_model(event), event.candidate.name))

    def _pair(self, candidate: Candidate | None) -> Pair:
        key = ("", "") if candidate is None else (candidate.name, self._backend(candidate))
        pair = self.pairs.get(key)
        if pair is None:
            if len(self.pairs) >= self._max_pairs:
                key = (OTHER, OTHER)
            pair = self.pairs.setdefault(key, Pair())
        return pair

    def _backend(self, candidate: Candidate) -> str:
        return "" if candidate.backend in self._left else candidate.backend

    def _count(self, table: dict[tuple[str, str], int], key: tuple[str, str]) -> None:
        if key not in table and len(table) >= self._max_rows:
            key = (OTHER, OTHER)
        table[key] = table.get(key, 0) + 1

    def _queued(self, event: Queued) -> None:
        self.queue[event.lane.value] = event.depth

    # ------------------------------------------------------------ attempts

    @property
    def in_flight(self) -> dict[str, int]:
        """Claims that hold a slot now, by backend; one that has left is told of until its last claim is over."""
        return {**dict.fromkeys(self.backends, 0), **Counter(self._claims.values())}

    def _claimed(self, event: Claimed) -> None:
        if event.request.takes_slot:
            self._claims[event.claim] = event.candidate.backend

    def _finished(self, event: Finished) -> None:
        self._claims.pop(event.claim, None)
        self._count(self.attempts, (self._backend(event.candidate), event.outcome))
        if event.outcome == "left" and event.sent:
            self.cancelled += 1

    # ------------------------------------------------------------ backends

    def _joined(self, event: Joined) -> None:
        self._left.pop(event.backend, None)
        self.backends[event.backend] = (Health.UNKNOWN, 0)

    def _probed(self, event: Probed) -> None:
        if event.backend not in self._left:
            self.backends[event.backend] = (event.health, event.models)

    def _gone(self, event: Left) -> None:
        name = event.backend
        self.backends.pop(name, None)
        _drop(self.pairs, [key for key in self.pairs if key[1] == name])
        _drop(self.attempts, [key for key in self.attempts if key[0] == name])
        self._left[name] = None
        if len(self._left) > self._max_rows:
            del self._left[next(iter(self._left))]


def _first_model(event: Answered) -> str:
    """The model that a fallback stands in for, as the fleet or the configuration knows it: never the client's own word.

    Fallbacks other than those of a flexible request are configured, so their first leg has a configured name.
    """
    plan, leg = event.plan or Plan(), event.leg
    if plan.legs and leg is not None and not leg.any_model:
        return plan.legs[0].name
    wanted = (o.candidate.name for o in plan.objections if o.leg == 0)
    return next(wanted, "")


def _drop(table: dict[K, Any], keys: list[K]) -> None:
    for key in keys:
        del table[key]
