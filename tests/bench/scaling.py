"""What grows with what: CPU against the number of backends, models, waiting requests, policies, keys, subscribers and streams.

Each row (`scaling_rows`) is one thing that a gateway does, done again and again at several sizes.  A *slope* is by what power the CPU grows from one
size to the next: 1 is linear, 0 does not depend on the size.  The *stall* is the longest turn of the event loop meanwhile, in CPU, so
that other programs do not count; streams go through a gateway in a process of its own, which times its turns.  Exit 1 where a slope is
above 1.1 or a stall above 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import attrs
import contenders
import loadgen
from scaling_rows import AXES, ROWS, Row, Work

MOST_SLOPE, MOST_STALL = 1.1, 0.050
LEAST_SECONDS = 0.02  # of CPU for one measurement
FIXED = 1.0e-4  # seconds: what a size costs below this is no growth, whatever the clock makes of it
RUNS, TRIES = 3, 3
EVENTS_PER_SECOND = 1
TURNS = "turns"


@attrs.frozen
class Point:
    """Seconds of CPU for doing it once, and the longest turn of the loop meanwhile."""

    size: int
    cpu: float
    stall: float


# ---------------------------------------------------------------- measuring


class Turns:
    """Looks at every turn of the loop, and keeps the longest in seconds of CPU."""

    def __init__(self) -> None:
        self.longest = 0.0
        self._last = 0.0
        self._handle: asyncio.Handle | None = None

    def __enter__(self) -> Turns:
        self._last = time.thread_time()
        self._handle = asyncio.get_running_loop().call_soon(self._beat)
        return self

    def __exit__(self, *_: object) -> None:
        if self._handle is not None:
            self._handle.cancel()

    def _beat(self) -> None:
        now = time.thread_time()
        self.longest = max(self.longest, now - self._last)
        self._last = now
        self._handle = asyncio.get_running_loop().call_soon(self._beat)


async def measured(work: Work) -> tuple[float, float]:
    """Seconds of CPU for doing it once, the best of some runs, and the longest turn of the loop."""
    await work()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        best, times = math.inf, 1
        for _ in range(RUNS):
            while True:
                began = time.process_time()
                for _ in range(times):
                    await work()
                spent = time.process_time() - began
                if spent >= LEAST_SECONDS:
                    break
                times *= 2
            best = min(best, spent / times)
        with Turns() as turns:
            await asyncio.sleep(0)
            await work()
            await asyncio.sleep(0)
    finally:
        gc.enable()
        gc.unfreeze()
    return best, turns.longest


async def in_process(one: Row, sizes: Iterable[int]) -> list[Point]:
    points = []
    for size in sizes:
        async with one.build(size) as work:
            cpu, stall = await measured(work)
        points.append(Point(size, cpu, stall))
    return points


async def held_open(port: int, count: int, seconds: float) -> int:
    """So many streams, opened evenly over a second.  Returns how many had all of their events."""
    events = max(2, round(seconds * EVENTS_PER_SECOND))
    request = loadgen.PASSED.request(port, f"paced/{EVENTS_PER_SECOND}/{events}")
    loop = asyncio.get_running_loop()
    began, listeners = loop.time(), []
    for number in range(count):
        listeners.append((await loop.create_connection(lambda: loadgen.Listener(request), "127.0.0.1", port))[1])
        await asyncio.sleep(max(0.0, began + number / count - loop.time()))
    await asyncio.wait([each.ended for each in listeners], timeout=2 * seconds + 10)
    for each in listeners:
        each.transport.abort()
    return sum(len(each.delays) >= events for each in listeners)


def streams(sizes: Iterable[int], seconds: float) -> list[Point]:
    """CPU of the gateway's process for so many streams of some events each, a second apart."""
    points = []
    os.sched_setaffinity(0, {contenders.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="nexus-scaling-") as name:
        directory = Path(name)
        with contenders.stopping(contenders.start_upstream(directory)) as upstream, serving(directory, upstream.port) as gateway:
            turns = directory / TURNS
            for size in sizes:
                before = gateway.cpu()
                turns.write_text("")
                whole = asyncio.run(held_open(gateway.port, size, seconds))
                points.append(Point(size, gateway.cpu() - before, float(turns.read_text() or 0.0)))
                if whole < size:
                    print(f"        {size - whole} of {size} streams did not come to their end")
    return points


@contextmanager
def serving(directory: Path, backend: int) -> Iterator[contenders.Running]:
    """A gateway in a process of its own, that times the turns of its loop."""
    port = contenders.free_port()
    python, _, _, *arguments = contenders.nexus_command(directory, port, {"bench": backend}, "", "")
    command = [python, str(Path(__file__).with_name("turns.py")), str(directory / TURNS), *arguments]
    with contenders.stopping(contenders.Running(command, contenders.PROXY_CORE, directory / "nexus.log", port)) as running:
        running.wait_ready("/health/ready", 30)
        yield running


# ---------------------------------------------------------------- telling


def slopes(points: list[Point]) -> list[float]:
    """By what power the CPU grows from each size to the next.  What is the same at every size counts as nothing."""
    found = []
    for a, b in pairwise(points):
        found.append(math.log(max(b.cpu, FIXED) / max(a.cpu, FIXED)) / math.log(b.size / a.size))
    return found


def is_well(points: list[Point]) -> bool:
    """Whether no target is missed."""
    return max(slopes(points), default=0.0) <= MOST_SLOPE and max(point.stall for point in points) <= MOST_STALL


def told(name: str, points: list[Point]) -> bool:
    """Print a row of the table.  Returns whether it is as it should be."""
    grown = slopes(points)
    stall = max(point.stall for point in points)
    well = is_well(points)
    cells = [f"{points[0].cpu * 1000:.3f}"]
    cells += [f"{point.cpu * 1000:.3f} ({slope:+.2f})" for point, slope in zip(points[1:], grown, strict=True)]
    line = " ".join(f"{cell:>16}" for cell in cells)
    print(f"{'met   ' if well else 'MISSED'}  {name:<62}{line}   stall {stall * 1000:5.1f} ms", flush=True)
    return well


def heading(axis: str, sizes: list[int]) -> None:
    print(f"\nms of CPU{'':<61}" + " ".join(f"{f'{size:,} {axis}':>16}" for size in sizes), flush=True)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


STREAMS = Row("streams with an event a second", "streams", None)  # type: ignore[arg-type]  # through a process of its own
ALL_AXES = AXES | {"streams": (1, 100, 1000, 9000)}


def judged(one: Row, sizes: list[int], seconds: float) -> bool:
    """Measure a row and print it.  Returns whether it is as it should be.  What seems to miss a target is measured again, and the least
    counts: other programs only ever make it more."""
    points: list[Point] = []
    for _ in range(TRIES):
        found = streams(sizes, seconds) if one is STREAMS else asyncio.run(in_process(one, sizes))
        points = found if not points else [_least(*both) for both in zip(points, found, strict=True)]
        if is_well(points):
            break
    return told(one.name, points)


def _least(a: Point, b: Point) -> Point:
    return Point(a.size, min(a.cpu, b.cpu), min(a.stall, b.stall))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for axis, usual in ALL_AXES.items():
        text = ",".join(map(str, usual))
        parser.add_argument(f"--{axis}", type=numbers, default=None, help=f"sizes, {text} where none is given")
    parser.add_argument("--seconds", type=float, default=6.0, help="for the streams of each size")
    parser.add_argument("--only", default="", help="rows with this in their name")
    parser.add_argument("--quick", action="store_true", help="only the two smallest sizes of each")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    logging.disable()  # a house without sockets has warnings for nobody but the terminal
    missed = []
    for axis, usual in ALL_AXES.items():
        given = getattr(options, axis)
        sizes = list(usual[:2] if options.quick else usual) if given is None else given
        rows = [one for one in (*ROWS, STREAMS) if one.axis == axis and options.only in one.name]
        if rows and sizes:
            heading(axis, sizes)
            missed += [one.name for one in rows if not judged(one, sizes, options.seconds)]
    print(f"\nmissed: {'; '.join(missed) or 'none'}  (slopes at most {MOST_SLOPE}, stalls at most {MOST_STALL * 1000:g} ms)")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
