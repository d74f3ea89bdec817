"""What the figures say: medians with their spread, ratios within each round.  Nothing is measured or judged here."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable

MIB = 1024 * 1024

Samples = dict[str, dict[str, list[float]]]  # contender → metric → one figure per round

METRICS = {  # metric: (label, digits)
    "ready_s": ("ready after, s", 2),
    "rss_start": ("memory after start, MiB", 1),
    "rss_load": ("memory after load, MiB", 1),
    "rps_1": ("requests/s, 1 connection", 0),
    "p50_1": ("  median latency, us", 0),
    "p99_1": ("  99th percentile, us", 0),
    "rps_64": ("requests/s, 64 connections", 0),
    "p50_64": ("  median latency, us", 0),
    "p99_64": ("  99th percentile, us", 0),
    "cpu_64": ("  its core busy, %", 0),
    "each_64": ("  CPU for each, us", 0),
    "eps_single": ("events/s, 64 streams, one a write", 0),
    "cpu_single": ("  its core busy, %", 0),
    "each_single": ("  CPU for each, us", 2),
    "eps_batch": ("events/s, 64 streams, 64 a write", 0),
    "cpu_batch": ("  its core busy, %", 0),
    "each_batch": ("  CPU for each, us", 2),
    "paced_p50": ("200 paced: median delay, ms", 2),
    "paced_p99": ("  99th percentile, ms", 2),
    "paced_max": ("  longest, ms", 1),
    "paced_held": ("  held for a later one", 0),
    "paced_missing": ("  missing", 0),
    "paced_cpu": ("  its core busy, %", 0),
    "hundred_p50": ("100 paced: median delay, ms", 2),
    "hundred_p99": ("  99th percentile, ms", 2),
    "hundred_max": ("  longest, ms", 1),
    "hundred_held": ("  held for a later one", 0),
    "hundred_missing": ("  missing", 0),
    "hundred_cpu": ("  its core busy, %", 0),
    "rps_small": ("requests/s, pictures of 750 kB", 0),
    "cpu_small": ("  its core busy, %", 0),
    "each_small": ("  CPU for each, ms", 2),
    "rps_large": ("requests/s, pictures of 5 MB", 0),
    "cpu_large": ("  its core busy, %", 0),
    "each_large": ("  CPU for each, ms", 2),
    "eps_translated": ("events/s translated, one a write", 0),
    "cpu_translated": ("  its core busy, %", 0),
    "each_translated": ("  CPU for each, us", 2),
    "late_p50": ("200 paced, translated: median, ms", 2),
    "late_p99": ("  99th percentile, ms", 2),
    "late_max": ("  longest, ms", 1),
    "late_held": ("  held for a later one", 0),
    "late_missing": ("  missing", 0),
    "late_cpu": ("  its core busy, %", 0),
}

RATIOS = {  # metric: label
    "rps_1": "requests/s, 1 connection",
    "rps_64": "requests/s, 64 connections",
    "each_64": "CPU for each request (less is better)",
    "eps_single": "events/s, one a write",
    "each_single": "CPU for each event (less is better)",
    "eps_batch": "events/s, 64 a write",
    "each_small": "CPU for a picture of 750 kB (less is better)",
    "each_large": "CPU for a picture of 5 MB (less is better)",
    "eps_translated": "events/s translated",
    "each_translated": "CPU for each of them (less is better)",
}


def spread(figures: list[float], digits: int) -> str:
    """`median [least–most]`."""
    middle = f"{statistics.median(figures):,.{digits}f}"
    return middle if len(figures) == 1 else f"{middle} [{min(figures):,.{digits}f}–{max(figures):,.{digits}f}]"


def pairwise(samples: Samples, metric: str, one: str, other: str, how: Callable[[float, float], float]) -> list[float]:
    """`how(one, other)` within each round, so that a slow minute of the machine hits both."""
    left, right = samples.get(one, {}).get(metric, []), samples.get(other, {}).get(metric, [])
    return [how(a, b) for a, b in zip(left, right, strict=False)]


def is_earlier(name: str) -> bool:
    """Whether a contender is Nexus as it was at some commit."""
    return name.startswith("nexus@")


def ratio(samples: Samples, metric: str, one: str, other: str) -> list[float]:
    return pairwise(samples, metric, one, other, lambda a, b: a / b)


def table(samples: Samples) -> str:
    """One row per metric, one column per contender."""
    names = list(samples)
    rows = [["", *names]]
    for metric, (label, digits) in METRICS.items():
        rows.append([label, *(spread(f, digits) if (f := samples[n].get(metric)) else "" for n in names)])
    return _grid(rows)


def ratios(samples: Samples) -> str:
    """Every contender's rates against the bare proxy's and nginx's, and Nexus' against those of its earlier commits."""
    earlier = [name for name in samples if is_earlier(name)]
    others = [name for name in samples if name != "direct" and name not in earlier]
    pairs = [("nexus", name) for name in earlier if "nexus" in samples]
    pairs += [(one, other) for other in ("bare", "nginx") for one in others if one != other and other in samples]
    if not pairs:
        return ""
    rows = [["", *(f"{one} / {other}" for one, other in pairs)]]
    for metric, label in RATIOS.items():
        cells = [ratio(samples, metric, *pair) for pair in pairs]
        rows.append([label, *(spread(cell, 2 if statistics.median(cell) >= 0.1 else 4) if cell else "" for cell in cells)])
    return _grid(rows)


def _grid(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))])
        for row in rows
    )


def text(samples: Samples, facts: dict[str, str], translation: str, verdicts: Iterable[str]) -> str:
    """The whole result, for a terminal or a page.  `translation` is the table of what it costs by itself."""
    compared = ratios(samples)
    parts = [
        "\n".join(f"{name}: {value}" for name, value in facts.items()),
        f"median over the rounds [least–most]\n\n{table(samples)}",
        f"ratios within a round\n\n{compared}" if compared else "",
        f"translation by itself: each event fed alone to the gateway's reader, the best of some runs\n\n{translation}"
        if translation
        else "",
        "\n".join(verdicts),
    ]
    return "\n\n".join(part for part in parts if part)
