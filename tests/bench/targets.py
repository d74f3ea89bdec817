"""What Nexus has promised, and whether a run's figures keep it; a missed promise says how to read that.  Nothing is printed here."""

from __future__ import annotations

import statistics
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
from report import MIB, Samples, is_earlier, pairwise, ratio, spread

MEMORY = 50.0  # MiB
WIDTH = 110

WHY = {
    "rate": "Beside relaying, Nexus reads the request, routes, counts and writes a log line: compare CPU for each and 'its core "
    "busy'. Well below 100 % the load or another program is the limit, not the proxy.",
    "latency": "It is the CPU time of one request and the waking of an idle core, twice. The bare proxy's and nginx's latency in "
    "the same rows say how much of it this machine adds to any proxy.",
    "memory": "The bare proxy's figure is an interpreter with aiohttp and nothing else; the rest is Nexus with its stages, "
    "observers and API dialects. It does not depend on the load.",
    "ready": "Nearly all of it is starting an interpreter and importing modules, on one core: compare with the bare proxy, which "
    "imports aiohttp only.",
    "late": "The 99th percentile is held against the median without a proxy, so every pause of the machine counts: compare with "
    "the 99th percentile of direct, the bare proxy and nginx.",
    "held": "The proxy stood still for a whole period of a stream, 33 ms. Where direct or nginx held events too, the machine did; "
    "where only the Python proxies did, their core was taken.",
    "pictures": "Most of it is copying, by the system and by the proxy, and getting memory: where the system has to find pages, all "
    "proxies pay. nginx writes what is larger than its buffer to a file that nobody waits for.",
    "saturated": "Here the load's core is the limit for every proxy, and how many events a proxy passes on at once decides: "
    "see the spread and 'its core busy' before reading anything into a few per cent.",
    "translated": "Each event is decoded, put into other words and sent in a write of its own: compare with the same row passed "
    "through, and with translation by itself, below.",
    "before": "Rates of one round still differ by some per cent from scenario to scenario: see the spread, and the ratio of CPU "
    "for each, which suffers less.",
    "alone": "Only the reader runs here, on one core and the best of some runs: another program took the core, or the code is slow.",
}
FEW_MS = 0.4  # added to an event of 100 streams
PICTURE = 1.5  # times another proxy's CPU
PER_SECOND = 20_000  # translated events
ADDED_MS = 1  # to one of them
NO_SLOWER = 0.97  # what two runs of the same commit differ by


@attrs.frozen
class Target:
    """A promise, what was measured (the median over the rounds), and how to read a miss."""

    promise: str
    measured: str
    met: bool
    why: str

    def __str__(self) -> str:
        if self.met:
            return f"met     {self.promise}: {self.measured}"
        indent = " " * 8
        why = textwrap.fill(self.why, WIDTH, initial_indent=indent, subsequent_indent=indent)
        return f"MISSED  {self.promise}: {self.measured}\n{why}"


def targets(samples: Samples, cores: int, costs: Sequence[Mapping[str, Any]] = ()) -> list[Target]:
    """Every target of which the figures are there; empty without Nexus.  On one core load and gateway cannot be told apart."""
    nexus = samples.get("nexus", {})
    if not nexus or cores < 2:
        return []
    added = pairwise(samples, "p50_1", "nexus", "direct", lambda a, b: (a - b) / 1000)
    late = pairwise({"n": nexus, "d": {"paced_p99": samples["direct"]["paced_p50"]}}, "paced_p99", "n", "d", lambda a, b: a - b)
    faster, level = ratio(samples, "rps_64", "nexus", "bare"), ratio(samples, "eps_single", "nexus", "nginx")
    found = [
        _target("rate", "requests/s at least 1.2 times the bare proxy's", faster, 2, at_least=1.2),
        _target("latency", "median latency added at one connection below 0.5 ms", added, 3, below=0.5),
        _memory(nexus["rss_start"]),
        _target("ready", "ready within 1 s", nexus["ready_s"], 2, below=1.005),
        _target("late", "200 paced streams: 99th percentile of added delay below 5 ms", late, 2, below=5),
        _target("held", "200 paced streams: events held for a later one, none", nexus["paced_held"], 0, below=0.5),
        _target("saturated", "saturated: events/s at least 1.1 times nginx's", level, 2, at_least=1.1),
        *_hundred(samples),
        *_pictures(samples),
        *_translated(samples),
        *_before(samples),
        *_alone(costs),
    ]
    return [target for target in found if target]


def _hundred(samples: Samples) -> list[Target | None]:
    """A house that is not full: what one event waits for another is then all there is."""
    nexus, direct = samples["nexus"], samples["direct"].get("hundred_p50", [])
    added = pairwise({"n": nexus, "d": {"hundred_p99": direct}}, "hundred_p99", "n", "d", lambda a, b: a - b)
    promise = f"100 paced streams: 99th percentile of added delay below {FEW_MS} ms"
    return [_target("late", promise, added, 2, below=FEW_MS)]


def _pictures(samples: Samples) -> list[Target | None]:
    """Large bodies, by the CPU that each costs."""
    small, large = ratio(samples, "each_small", "nexus", "bare"), ratio(samples, "each_large", "nexus", "nginx")
    return [
        _target("pictures", f"pictures of 750 kB: at most {PICTURE} times the bare proxy's CPU", small, 2, below=PICTURE + 0.005),
        _target("pictures", f"pictures of 5 MB: at most {PICTURE} times nginx's CPU", large, 2, below=PICTURE + 0.005),
    ]


def _translated(samples: Samples) -> list[Target | None]:
    """Streams translated by the whole gateway."""
    nexus = samples["nexus"]
    added = pairwise(
        {"n": nexus, "d": {"late_p50": samples["direct"].get("paced_p50", [])}}, "late_p50", "n", "d", lambda a, b: a - b
    )
    rate = nexus.get("eps_translated", [])
    return [
        _target("translated", f"translated: at least {PER_SECOND:,} events/s on one core", rate, 0, at_least=PER_SECOND),
        _target(
            "translated", f"200 paced streams, translated: median of added delay below {ADDED_MS} ms", added, 3, below=ADDED_MS
        ),
    ]


def _alone(costs: Sequence[Mapping[str, Any]]) -> list[Target | None]:
    """Translation by itself."""
    translated = [cost for cost in costs if cost["translated"]]
    slowest = [min(cost["rate"] for cost in translated)] if translated else []
    longest = [max(cost["slowest"] for cost in translated) * 1000] if translated else []
    return [
        _target("alone", f"translation by itself: at least {PER_SECOND:,} events/s in every pair", slowest, 0, at_least=PER_SECOND),
        _target("alone", f"translation by itself: no event takes {ADDED_MS} ms", longest, 3, below=ADDED_MS),
    ]


def _before(samples: Samples) -> list[Target | None]:
    """What passes through, against earlier commits."""
    rates = {"rps_64": "requests/s", "eps_single": "events/s one a write", "eps_batch": "events/s 64 a write"}
    return [
        _target("before", f"no slower than {name}: {label}", ratio(samples, metric, "nexus", name), 2, at_least=NO_SLOWER)
        for name in samples
        if is_earlier(name)
        for metric, label in rates.items()
    ]


def _target(
    why: str, promise: str, figures: list[float], digits: int, *, at_least: float = float("-inf"), below: float = float("inf")
) -> Target | None:
    if not figures:
        return None
    middle = statistics.median(figures)
    return Target(promise, spread(figures, digits), at_least <= middle < below, WHY[why])


def _memory(figures: list[float]) -> Target:
    """The promise says MB; it is judged in MiB, and both are printed so that nobody has to guess which."""
    decimal = spread([figure * MIB / 1e6 for figure in figures], 1)
    promise = f"memory after start at most {MEMORY:.0f} MB, judged as {MEMORY:.0f} MiB = {MEMORY * MIB:,.0f} bytes"
    return Target(promise, f"{spread(figures, 1)} MiB = {decimal} MB", statistics.median(figures) <= MEMORY, WHY["memory"])
