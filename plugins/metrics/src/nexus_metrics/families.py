"""The names, help texts and labels under which Prometheus sees the counts.  What is counted lives in `counts`, the endpoint in
`exposition`.

Families are made when somebody scrapes, so a request pays for none of it, and in parts small enough to write at once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TypeVar

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from nexus.api import Health
from nexus_metrics.counts import Counts, Histogram, Pair

T = TypeVar("T")
Sample = tuple[Sequence[str], float]

# A part takes a millisecond or two to write: 128 samples, or the 16 or so lines of each of 8 histograms.
SAMPLES, HISTOGRAMS = 128, 8


class Families:
    """`collect` yields the families, each in one part or several in a row, made from the counts when they are asked for."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._routing()
        yield from self._spending()
        yield from self._fleet()

    def _requests(self) -> Iterator[Metric]:
        pairs = self._counts.pairs.items()
        yield from _counter(
            "nexus_requests_total",
            "Requests answered, by the model and backend that answered and the HTTP status.",
            ("model", "backend", "status"),
            (((*key, str(status)), n) for key, pair in pairs for status, n in pair.statuses.items()),
        )
        yield from self._per_pair(
            "nexus_request_duration_seconds",
            "Seconds from accepting a request to the end of its answer.",
            lambda pair: pair.duration,
        )
        yield from self._per_pair(
            "nexus_time_to_first_byte_seconds",
            "Seconds from accepting a request to the first byte of its answer.",
            lambda pair: pair.first_byte,
        )

    def _per_pair(self, name: str, text: str, pick: Callable[[Pair], Histogram]) -> Iterator[Metric]:
        for pairs in _batches(self._counts.pairs.items(), HISTOGRAMS):
            family = HistogramMetricFamily(name, text, labels=("model", "backend"))
            for key, pair in pairs:
                histogram = pick(pair)
                family.add_metric(key, _buckets(histogram), histogram.sum)
            yield family

    def _routing(self) -> Iterator[Metric]:
        counts = self._counts
        routing = HistogramMetricFamily("nexus_routing_duration_seconds", "Seconds spent on deciding where a request goes.")
        routing.add_metric((), _buckets(counts.routing), counts.routing.sum)
        yield routing
        yield from _counter(
            "nexus_refusals_total",
            "Objections of stages to (backend, model) pairs, in the last plan of each request.",
            ("stage", "reason"),
            counts.refusals.items(),
        )
        yield from _counter(
            "nexus_attempts_total",
            "Attempts to have a request served, by how they ended.",
            ("backend", "outcome"),
            counts.attempts.items(),
        )
        yield from _counter(
            "nexus_fallbacks_total",
            "Requests answered by another model than the first that was to answer.",
            ("from_model", "to_model"),
            counts.fallbacks.items(),
        )
        yield from _counter(
            "nexus_upstream_cancelled_total",
            "Exchanges with a backend that were given up because the client left.",
            (),
            [((), counts.cancelled)],
        )

    def _spending(self) -> Iterator[Metric]:
        pairs = self._counts.pairs.items()
        yield from _counter(
            "nexus_tokens_total",
            "Tokens of answered requests: input (cached ones included), output (reasoning included), cached, reasoning.",
            ("model", "backend", "type"),
            (((*key, word), getattr(pair, word)) for key, pair in pairs for word in ("input", "output", "cached", "reasoning")),
        )
        costs: defaultdict[str, float] = defaultdict(float)
        for (_, backend), pair in pairs:
            costs[backend] += pair.cost
        yield from _counter(
            "nexus_cost_usd_total",
            "US dollars that answered requests cost, as estimated from the backends' prices.",
            ("backend",),
            (((backend,), cost) for backend, cost in costs.items() if cost),
        )

    def _fleet(self) -> Iterator[Metric]:
        seen = self._counts.backends.values()
        health = Counter(status for status, _ in seen)
        yield from _gauge(
            "nexus_backends",
            "Backends of the fleet by health.",
            ("status",),
            (((status.value,), health[status]) for status in Health),
        )
        yield from _gauge(
            "nexus_models_available",
            "Models offered by healthy backends; one that two backends offer counts twice.",
            (),
            [((), sum(models for status, models in seen if status is Health.HEALTHY))],
        )
        yield from _gauge(
            "nexus_in_flight",
            "Attempts that hold a slot of a backend now.",
            ("backend",),
            (((backend,), n) for backend, n in self._counts.in_flight.items()),
        )
        yield from _gauge(
            "nexus_queue_depth",
            "Requests that wait for a backend now, by the priority of their lane.",
            ("priority",),
            (((lane,), depth) for lane, depth in self._counts.queue.items()),
        )


def _counter(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Iterator[Metric]:
    for batch in _batches(samples, SAMPLES):
        family = CounterMetricFamily(name, text, labels=labels)
        for values, number in batch:
            family.add_metric(values, number)
        yield family


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Iterator[Metric]:
    for batch in _batches(samples, SAMPLES):
        family = GaugeMetricFamily(name, text, labels=labels)
        for values, number in batch:
            family.add_metric(values, number)
        yield family


def _batches(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """All items, taken now, in lists of `size`: at least one list, so that a family without samples is still named."""
    taken = list(items)
    for start in range(0, max(len(taken), 1), size):
        yield taken[start : start + size]


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Prometheus counts cumulatively: each bucket holds all that is at or below its bound."""
    bounds = [*map(str, histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True))
