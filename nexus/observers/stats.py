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
    """Counts since it was made.  Rows per backend and per model are those used last, at most `rows` of each."""

    def __init__(self, clock: Clock, rows: int = ROWS) -> None:
        self._clock = clock
        self._started = clock.now()
        self._rows = rows
        self._total = Tally()
        self._backends: OrderedDict[str, Tally] = OrderedDict()
        self._models: OrderedDict[str, Tally] = OrderedDict()
        self._attempts: Counter[str] = Counter()
        self._queue = {lane.value: 0 for lane in Lane}
        self._claims: dict[int, str] = {}
        self._seers: dict[type[Event], Callable[[Any], None]] = {
            Answered: self._answered,
            Claimed: self._claimed,
            Finished: self._finished,
            Queued: self._queued,
        }

    def see(self, event: Event) -> None:
        seer = self._seers.get(type(event))
        if seer is not None:
            seer(event)

    def snapshot(self) -> Json:
        """Everything as one JSON-able dictionary.  Names come from the fleet: a model that nobody serves has no row."""
        in_flight = Counter(self._claims.values())
        return {
            "uptime_seconds": round(self._clock.now() - self._started, 3),
            **self._total.json(),
            "attempts": dict(self._attempts),
            "in_flight": {"total": in_flight.total(), "backends": dict(in_flight)},
            "queue": {"total": sum(self._queue.values()), "lanes": dict(self._queue)},
            "backends": {name: tally.json() for name, tally in self._backends.items()},
            "models": {name: tally.json() for name, tally in self._models.items()},
        }

    def _answered(self, event: Answered) -> None:
        self._total.add(event)
        if event.candidate is not None:
            self._row(self._backends, event.candidate.backend).add(event)
            self._row(self._models, event.candidate.name).add(event)

    def _row(self, rows: OrderedDict[str, Tally], name: str) -> Tally:
        row = rows.get(name)
        if row is None:
            row = rows[name] = Tally()
        rows.move_to_end(name)
        if len(rows) > self._rows:
            rows.popitem(last=False)
        return row

    def _claimed(self, event: Claimed) -> None:
        self._claims[event.claim] = event.candidate.backend

    def _finished(self, event: Finished) -> None:
        self._claims.pop(event.claim, None)
        self._attempts[event.outcome] += 1

    def _queued(self, event: Queued) -> None:
        self._queue[event.lane.value] = event.depth
