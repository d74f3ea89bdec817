"""Totals since the start, for `/nexus/stats` and the dashboard.  Time series are Prometheus' business, not this file's."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable
from typing import Any

import attrs

from nexus.api import Clock, Observer
from nexus.model import Answered, Claimed, Event, Finished, Lane, Queued
from nexus.observers.render import Json

ROWS = 500


@attrs.define
class Tally:
    """What is counted, in all or for one backend or one model.  Tokens and cost are those of answered requests."""

    requests: int = 0
    outcomes: Counter[str] = attrs.field(factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    cost_usd: float = 0.0

    def fold(self, other: Tally) -> None:
        """Count what another has counted."""
        self.requests += other.requests
        self.outcomes.update(other.outcomes)
        self.input_tokens += other.input_tokens
        self.output_tokens += other.output_tokens
        self.cached_tokens += other.cached_tokens
        self.reasoning_tokens += other.reasoning_tokens
        self.cost_usd += other.cost_usd

    def add(self, event: Answered) -> None:
        usage = event.usage
        self.requests += 1
        self.outcomes[event.outcome] += 1
        self.input_tokens += usage.input_tokens
        self.output_tokens += usage.output_tokens
        self.cached_tokens += usage.cached_tokens
        self.reasoning_tokens += usage.reasoning_tokens
        self.cost_usd += event.cost or 0.0

    def json(self) -> Json:
        return attrs.asdict(self, value_serializer=lambda _, __, value: dict(value) if isinstance(value, Counter) else value)


class Stats(Observer):
    """Counts since it was made.  A row is one model on one backend, at most `rows` of them: those used last; the others are in the
    total only."""

    def __init__(self, clock: Clock, rows: int = ROWS) -> None:
        self._clock = clock
        self._started = clock.now()
        self._rows = rows
        self._elsewhere = Tally()  # answered by nobody, or in a row that was given up
        self._pairs: OrderedDict[tuple[str, str], Tally] = OrderedDict()
        self._attempts: Counter[str] = Counter()
        self._queue = {lane.value: 0 for lane in Lane}
        self._claims: dict[int, str] = {}
        self._counters: dict[type[Event], Callable[[Any], None]] = {
            Answered: self._answered,
            Claimed: self._claimed,
            Finished: self._finished,
            Queued: self._queued,
        }

    def see(self, event: Event) -> None:
        if (count := self._counters.get(type(event))) is not None:
            count(event)

    def snapshot(self) -> Json:
        """Everything as one JSON-able dictionary.  Names come from the fleet: a model that nobody serves has no row."""
        in_flight = Counter(self._claims.values())
        total = Tally()
        for tally in (self._elsewhere, *self._pairs.values()):
            total.fold(tally)
        return {
            "uptime_seconds": round(self._clock.now() - self._started, 3),
            **total.json(),
            "attempts": dict(self._attempts),
            "in_flight": {"total": in_flight.total(), "backends": dict(in_flight)},
            "queue": {"total": sum(self._queue.values()), "lanes": dict(self._queue)},
            "backends": self._by(0),
            "models": self._by(1),
        }

    def _by(self, part: int) -> Json:
        """The rows added up by one part of their names."""
        sums: dict[str, Tally] = {}
        for names, tally in self._pairs.items():
            sums.setdefault(names[part], Tally()).fold(tally)
        return {name: tally.json() for name, tally in sums.items()}

    def _answered(self, event: Answered) -> None:
        candidate = event.candidate
        if candidate is None:
            self._elsewhere.add(event)
            return
        pair = (candidate.backend, candidate.name)
        row = self._pairs.get(pair) or self._new(pair)
        row.add(event)
        self._pairs.move_to_end(pair)

    def _new(self, pair: tuple[str, str]) -> Tally:
        if len(self._pairs) >= self._rows:
            _, oldest = self._pairs.popitem(last=False)
            self._elsewhere.fold(oldest)
        row = self._pairs[pair] = Tally()
        return row

    def _claimed(self, event: Claimed) -> None:
        if event.request.takes_slot:
            self._claims[event.claim] = event.candidate.backend

    def _finished(self, event: Finished) -> None:
        self._claims.pop(event.claim, None)
        self._attempts[event.outcome] += 1

    def _queued(self, event: Queued) -> None:
        self._queue[event.lane.value] = event.depth
