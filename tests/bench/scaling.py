"""What grows with what: CPU against the number of backends, models, waiting requests, subscribers and streams.

Each row is one thing that a gateway does, done again and again at several sizes.  A *slope* is by what power the CPU grows from one
size to the next: 1 is linear, 0 does not depend on the size.  The *stall* is the longest turn of the event loop meanwhile, in CPU, so
that other programs do not count; streams go through a gateway in a process of its own, which times its turns.  Exit 1 where a slope is
above 1.1 or a stall above 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import math
import os
import resource
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from itertools import pairwise
from pathlib import Path

import attrs
import contenders
import loadgen
from crowd import Crowd, a_model, standard_stages

from nexus.api import Zone
from nexus.errors import Problem
from nexus.testing import openai_server
from nexus.testing.gateway import running_gateway

MOST_SLOPE, MOST_STALL = 1.1, 0.050
LEAST_SECONDS = 0.02  # of CPU for one measurement
FIXED = 1.0e-4  # seconds: what a size costs below this is no growth, whatever the clock makes of it
RUNS = 3
EVENTS_PER_SECOND = 1
TURNS = "turns"

Work = Callable[[], Awaitable[object]]
Build = Callable[[int], AbstractAsyncContextManager[Work]]


@attrs.frozen
class Row:
    """One thing to do, at sizes of one kind."""

    name: str
    axis: str
    build: Build


@attrs.frozen
class Point:
    """Seconds of CPU for doing it once, and the longest turn of the loop meanwhile."""

    size: int
    cpu: float
    stall: float


ROWS: list[Row] = []


def row(name: str, axis: str) -> Callable[[Callable[[int], AsyncIterator[Work]]], Build]:
    def listed(build: Callable[[int], AsyncIterator[Work]]) -> Build:
        made = asynccontextmanager(build)
        ROWS.append(Row(name, axis, made))
        return made

    return listed


# ---------------------------------------------------------------- one request, many backends


@asynccontextmanager
async def house(**more: object) -> AsyncIterator[Crowd]:
    async with AsyncExitStack() as stack:
        yield Crowd(await standard_stages(stack), **more)  # type: ignore[arg-type]


def chat(crowd: Crowd, model: str, **more: object) -> Work:
    async def once() -> None:
        turn = await crowd.dispatcher.open(crowd.journey(model, **more))
        turn.claim.finish("ok", sent=True, status=200, first_byte=0.05)

    return once


def refusal(crowd: Crowd, model: str, **more: object) -> Work:
    async def once() -> None:
        try:
            await crowd.dispatcher.open(crowd.journey(model, **more))
        except Problem:
            return
        raise AssertionError("it was served")

    return once


@row("a chat that one backend can have", "backends")
async def one_of_many(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", f"model-{number}")
        yield chat(crowd, "model-3")


@row("a chat that all backends can have", "backends")
async def all_can(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", "tiny")
        yield chat(crowd, "tiny")


@row("restricted, all but one are open", "backends")
async def restricted(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", "tiny", zone=Zone.OPEN if number else Zone.RESTRICTED)
        yield chat(crowd, "tiny", zone=Zone.RESTRICTED)


@row("503: all are busy, and the queue is full", "backends")
async def all_busy(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", "tiny", capacity=1)
            crowd.occupy(f"gpu{number}")
        crowd.waiting.has_room = lambda size: False  # type: ignore[method-assign]
        yield refusal(crowd, "tiny")


@row("503: all are down", "backends")
async def all_down(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", "tiny")
            crowd.fail(f"gpu{number}")
        yield refusal(crowd, "tiny")


@row("all have failed lately and are left out", "backends")
async def all_ejected(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", "tiny")
            for _ in range(10):
                crowd.occupy(f"gpu{number}").finish("failed", sent=True, code="connect")
        yield chat(crowd, "tiny")


@row("a backend joins and leaves", "backends")
async def joins(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(size):
            crowd.join(f"gpu{number}", f"model-{number}", "tiny")

        async def once() -> None:
            crowd.join("new", "model-new", "tiny")
            crowd.fleet.leave("new")

        yield once


# ---------------------------------------------------------------- many models


@row("404 for a mistyped name", "models")
async def mistyped(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        crowd.join("many", *[f"org/llama-{number}-instruct" for number in range(size)])
        yield refusal(crowd, "org/lama-7-instruct")


@row("any model (flexible)", "models")
async def flexible(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        crowd.join("many", *[a_model(f"model-{number}") for number in range(size)])
        yield chat(crowd, "unknown", flexible=True)


def page(path: str) -> Callable[[int], AsyncIterator[Work]]:
    async def build(size: int) -> AsyncIterator[Work]:
        models = [f"model-{number}" for number in range(size)]
        with tempfile.TemporaryDirectory() as state:
            async with openai_server(models) as server:
                config = {
                    "backends": [{"name": "many", "type": "openai-compatible", "url": server.url}],
                    "health": {"interval_seconds": 3600, "timeout_seconds": 60},
                }
                async with running_gateway(config, state_dir=Path(state)) as gateway:
                    await gateway.until(lambda: gateway.gateway.fleet.knows(models[-1]), timeout=120)

                    async def once() -> None:
                        async with gateway.client.get(path) as answer:
                            assert answer.status == 200, await answer.text()
                            await answer.read()

                    yield once

    return build


row("GET /health", "models")(page("/health"))
row("GET /health/ready", "models")(page("/health/ready"))
row("GET /v1/models", "models")(page("/v1/models"))


# ---------------------------------------------------------------- many that wait


@asynccontextmanager
async def queue(crowd: Crowd, size: int, model: str = "tiny") -> AsyncIterator[None]:
    tasks = await crowd.asks(size, model)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@row("come into the queue, and get a turn", "waiters")
async def through_the_queue(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(10):
            crowd.join(f"gpu{number}", "tiny", capacity=1)

        async def once() -> None:
            claims = [crowd.occupy(f"gpu{number}") for number in range(10)]
            tasks = await crowd.asks(size, "tiny")
            for claim in claims:
                claim.finish("ok", sent=True, status=200)
            for task in tasks:
                turn = await task
                turn.claim.finish("ok", sent=True, status=200)

        yield once


@row("a slot becomes free among waiters", "waiters")
async def a_slot(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(10):
            crowd.join(f"gpu{number}", "tiny", capacity=1)
            crowd.occupy(f"gpu{number}")
        claim = crowd.occupy("gpu0")
        async with queue(crowd, size):

            async def once() -> None:
                nonlocal claim
                claim.finish("ok", sent=True, status=200)
                await crowd.calm()
                claim = crowd.occupy("gpu0")

            yield once


@row("half of 100 backends go down and come back, among waiters", "waiters")
async def a_change(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(100):
            crowd.join(f"gpu{number}", "tiny", capacity=1)
            crowd.occupy(f"gpu{number}")
        async with queue(crowd, size):

            async def once() -> None:
                for number in range(50):
                    crowd.fail(f"gpu{number}")
                await crowd.calm()
                for number in range(50):
                    crowd.recover(f"gpu{number}", "tiny")
                await crowd.calm()

            yield once


@row("a stage says that something changed, among waiters", "waiters")
async def anything(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        for number in range(10):
            crowd.join(f"gpu{number}", "tiny", capacity=1)
            crowd.occupy(f"gpu{number}")
        async with queue(crowd, size):

            async def once() -> None:
                crowd.waiting.pump()
                await crowd.calm()

            yield once


@row("a chat beside those who wait for a paused model", "waiters")
async def neighbours(size: int) -> AsyncIterator[Work]:
    async with house() as crowd:
        crowd.join("one", "paused", "well", capacity=4)
        crowd.pause("one", "paused", 500.0)
        async with queue(crowd, size, "paused"):
            yield chat(crowd, "well")


# ---------------------------------------------------------------- those who watch


@row("a chat, and all who subscribed to events hear of it", "subscribers")
async def subscribers(size: int) -> AsyncIterator[Work]:
    with tempfile.TemporaryDirectory() as state:
        async with openai_server() as server, AsyncExitStack() as stack:
            config = {
                "backends": [{"name": "one", "type": "openai-compatible", "url": server.url}],
                "health": {"interval_seconds": 3600},
            }
            gateway = await stack.enter_async_context(running_gateway(config, state_dir=Path(state)))
            await gateway.until(lambda: gateway.gateway.fleet.knows("tiny"), timeout=30)
            for _ in range(size):
                await stack.enter_async_context(gateway.client.get("/nexus/events"))

            async def once() -> None:
                body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
                async with gateway.client.post("/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
                await asyncio.sleep(0.005)

            yield once


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


def told(name: str, points: list[Point]) -> bool:
    """Print a row of the table.  Returns whether it is as it should be."""
    grown = slopes(points)
    stall = max(point.stall for point in points)
    well = max(grown, default=0.0) <= MOST_SLOPE and stall <= MOST_STALL
    cells = [f"{points[0].cpu * 1000:.3f}"]
    cells += [f"{point.cpu * 1000:.3f} ({slope:+.2f})" for point, slope in zip(points[1:], grown, strict=True)]
    line = " ".join(f"{cell:>16}" for cell in cells)
    print(f"{'met   ' if well else 'MISSED'}  {name:<62}{line}   stall {stall * 1000:5.1f} ms", flush=True)
    return well


def heading(axis: str, sizes: list[int]) -> None:
    print(f"\nms of CPU{'':<61}" + " ".join(f"{f'{size:,} {axis}':>16}" for size in sizes), flush=True)


def numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


AXES = {"backends": "10,100,1000", "models": "10,100,1000,10000", "waiters": "10,100,1000,10000", "subscribers": "1,10,100"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for axis, sizes in (AXES | {"streams": "1,100,1000,9000"}).items():
        parser.add_argument(f"--{axis}", type=numbers, default=numbers(sizes), help=f"sizes, {sizes} where none is given")
    parser.add_argument("--seconds", type=float, default=6.0, help="for the streams of each size")
    parser.add_argument("--only", default="", help="rows with this in their name")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    well = True
    for axis in AXES:
        sizes = getattr(options, axis)
        rows = [one for one in ROWS if one.axis == axis and options.only in one.name]
        if rows and sizes:
            heading(axis, sizes)
        for one in rows if sizes else ():
            well &= told(one.name, asyncio.run(in_process(one, sizes)))
    name = "streams with an event a second"
    if options.streams and options.only in name:
        heading("streams", options.streams)
        os.sched_setaffinity(0, {contenders.LOAD_CORE})
        well &= told(name, streams(options.streams, options.seconds))
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())
