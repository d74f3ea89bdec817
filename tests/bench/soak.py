"""`make soak`: mixed traffic for half an hour through one gateway process, and what it holds afterwards.  Exit 1 where a target is missed.

Sixteen clients ask, each one thing after the other: small chats, streams, translated ones, batches of embeddings, pictures and texts of up
to 2 MB, bodies that are too much, and some that go away in the middle of sending or of reading.  Every minute memory, descriptors and what
is under way are printed.  After the first minutes memory grows less than 1 % in ten minutes; descriptors and requests under way are flat.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import contenders
from canned import chat_body, chat_request, messages_body, picture_body

MIB = 1024 * 1024
SETTLING_MINUTES = 5
GROWTH = 0.01  # in TEN_MINUTES
TEN_MINUTES = 10
CLIENTS = 16
TASKS_OF_ONE = 2  # of a request under way
IDLE_TASKS = 2  # what looks itself: the page's own connection
SAMPLE_SECONDS = 5.0
LARGEST = 2_000_000
PATIENCE = 60.0
TEXT = 'Whatever a client writes, a word at a time, and "quoted" now and then. '


@attrs.frozen
class Look:
    """The gateway at one moment: minutes since the beginning, resident bytes, open descriptors, tasks of its loop, requests under way."""

    minute: float
    rss: int
    descriptors: int
    tasks: int
    under_way: int


Ask = Callable[[random.Random, int], bytes]


def text_of(rng: random.Random) -> str:
    return TEXT * (rng.randint(1, LARGEST) // len(TEXT) + 1)


def long_chat(rng: random.Random, port: int) -> bytes:
    value = json.loads(chat_body()) | {"messages": [{"role": "user", "content": text_of(rng)}]}
    return chat_request(port, json.dumps(value).encode())


def translated(rng: random.Random, port: int) -> bytes:
    value = json.loads(messages_body(user="u"))
    value |= {"stream": False, "messages": [{"role": "user", "content": text_of(rng)}]}
    return chat_request(port, json.dumps(value).encode(), "/v1/messages")


def too_much(rng: random.Random, port: int) -> bytes:
    before = b'{"model":"bench-model","messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:,"}}'
    return chat_request(port, before + b",{}" * rng.randint(1, LARGEST // 3) + b"]}]}")


ASKS: tuple[tuple[int, Ask], ...] = (  # how often, of a hundred
    (50, lambda rng, port: chat_request(port, chat_body())),
    (20, lambda rng, port: chat_request(port, chat_body(stream=True, user=f"burst/{rng.randint(1, 8)}/{rng.randint(8, 256)}"))),
    (10, lambda rng, port: chat_request(port, messages_body(user=f"burst/1/{rng.randint(8, 64)}"), "/v1/messages")),
    (8, lambda rng, port: chat_request(port, picture_body(rng.randint(1000, LARGEST)))),
    (5, long_chat),
    (4, translated),
    (3, too_much),
)


class Client:
    """Asks one thing after the other, each on a connection that it may keep; `answered` counts by status."""

    def __init__(self, port: int, seed: int, until: float) -> None:
        self.rng = random.Random(seed)
        self.port = port
        self.until = until
        self.answered: dict[str, int] = {}

    async def run(self) -> None:
        while time.monotonic() < self.until:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    for _ in range(self.rng.randint(1, 50)):
                        if time.monotonic() < self.until:
                            await asyncio.wait_for(self._ask(reader, writer), PATIENCE)
                finally:
                    writer.transport.abort()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        make = self.rng.choices([make for _, make in ASKS], [weight for weight, _ in ASKS])[0]
        request = make(self.rng, self.port)
        if self.rng.random() < 0.02:  # it goes away in the middle of sending
            writer.write(request[: self.rng.randrange(len(request))])
            await writer.drain()
            raise ConnectionAbortedError
        writer.write(request)
        await writer.drain()
        head = await reader.readuntil(b"\r\n\r\n")
        status = head[9:12].decode()
        if self.rng.random() < 0.02:  # or of reading
            raise ConnectionAbortedError
        await _rest(reader, head)
        self.answered[status] = self.answered.get(status, 0) + 1
        if b"connection: close" in head.lower():
            raise ConnectionAbortedError


async def _rest(reader: asyncio.StreamReader, head: bytes) -> None:
    length = head.lower().partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    if length:
        await reader.readexactly(int(length))
        return
    while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


def look(gateway: contenders.Running, began: float) -> Look:
    told = json.loads(contenders.fetch(gateway.port, "/nexus/backends", 30.0)[1])["backends"]
    return Look(
        minute=(time.monotonic() - began) / 60,
        rss=gateway.rss(),
        descriptors=len(os.listdir(f"/proc/{gateway.process.pid}/fd")),
        tasks=json.loads(contenders.fetch(gateway.port, "/nexus/stats", 30.0)[1])["tasks"],
        under_way=sum(backend["in_flight"] for backend in told),
    )


def by_minute(looks: list[Look]) -> list[Look]:
    """The medians of each minute: what is under way at one moment is chance."""
    minutes: dict[int, list[Look]] = {}
    for each in looks:
        minutes.setdefault(int(each.minute), []).append(each)
    middle = statistics.median_low
    return [
        Look(number, *(middle([getattr(each, name) for each in those]) for name in ("rss", "descriptors", "tasks", "under_way")))
        for number, those in sorted(minutes.items())
    ]


def growth(minutes: list[Look]) -> float:
    """Of resident memory in ten minutes, as a share: the line through all minutes after the settling."""
    at = [each.minute for each in minutes]
    line = statistics.linear_regression(at, [each.rss for each in minutes])
    return line.slope * TEN_MINUTES / (line.intercept + line.slope * at[0])


def verdicts(minutes: list[Look], before: Look, after: Look, settling: float) -> list[tuple[str, str, bool]]:
    steady = [each for each in minutes if each.minute >= settling]
    results = []
    if len(steady) >= 3:
        grown = growth(steady)
        first, last = steady[0].descriptors, steady[-1].descriptors
        least, most = (pick(each.tasks for each in steady) for pick in (min, max))
        results += [
            (f"memory grows less than {GROWTH:.0%} in {TEN_MINUTES} minutes", f"{grown:+.2%}", grown < GROWTH),
            (f"descriptors are flat, but for {CLIENTS} connections", f"{first} and {last}", abs(last - first) <= 2 * CLIENTS),
            (
                f"tasks are flat, but for {TASKS_OF_ONE} of each of {CLIENTS} clients",
                f"{least} to {most}",
                most - least <= TASKS_OF_ONE * CLIENTS,
            ),
        ]
    left = after.descriptors - before.descriptors
    return [
        *results,
        ("nothing is left under way", str(after.under_way), after.under_way == 0),
        ("no task is left", f"{after.tasks - before.tasks:+}", after.tasks <= before.tasks + IDLE_TASKS),
        ("no descriptor is left but those of kept connections", f"{left:+}", left <= 2 * CLIENTS),
    ]


async def soak(gateway: contenders.Running, minutes: float, seed: int) -> bool:
    began = time.monotonic()
    before = look(gateway, began)
    clients = [Client(gateway.port, seed + number, began + minutes * 60) for number in range(CLIENTS)]
    looks: list[Look] = []

    async def watch() -> None:
        while time.monotonic() < began + minutes * 60:
            await asyncio.sleep(SAMPLE_SECONDS)
            looks.append(await asyncio.to_thread(look, gateway, began))
            if len(looks) > 1 and int(looks[-1].minute) != int(looks[-2].minute):
                told(by_minute(looks)[-2])

    async with asyncio.TaskGroup() as group:
        for client in clients:
            group.create_task(client.run())
        group.create_task(watch())
    await asyncio.sleep(3)
    after = look(gateway, began)
    answered: dict[str, int] = {}
    for client in clients:
        for status, count in client.answered.items():
            answered[status] = answered.get(status, 0) + count
    print(f"answered: {answered}; {after.rss / MIB:.1f} MiB once all had gone")
    busy = [each for each in looks if each.minute < minutes]  # the last look may come when all have gone
    results = verdicts(by_minute(busy), before, after, min(SETTLING_MINUTES, minutes / 2))
    for promise, measured, met in results:
        print(f"{'met   ' if met else 'MISSED'}  {promise}: {measured}")
    return all(met for *_, met in results) and set(answered) <= {"200", "400", "413"}


def told(each: Look) -> None:
    print(
        f"minute {each.minute:3.0f}: {each.rss / MIB:6.1f} MiB, {each.descriptors:3} descriptors, {each.tasks:3} tasks, {each.under_way:2} requests under way",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {contenders.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="nexus-soak-") as name:
        directory = Path(name)
        with (
            contenders.stopping(contenders.start_upstream(directory)) as upstream,
            contenders.stopping(contenders.start_nexus(directory, {"bench": upstream.port})[0]) as gateway,
        ):
            return int(not asyncio.run(soak(gateway, options.minutes, options.seed)))


if __name__ == "__main__":
    sys.exit(main())
