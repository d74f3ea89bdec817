"""2,000 streams at the same time through one gateway process: bytes, memory, sockets.  Exit 1 where a target is missed.

Three bursts: all streams are opened and held half way by the upstream while memory is read, then released and read to
the end, and every byte is compared.  A fourth time the clients walk away half way: since every upstream connection is
then in the middle of an answer, none may be left open.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs
import contenders
from canned import chat_body, chat_request, held_stream

KIB = 1024
MIB = 1024 * KIB
QUIET = "stream_keepalive_seconds = 3600"  # a comment of the gateway's own would be a byte that the upstream never wrote
PROBES = 1  # connections to the upstream that belong to no stream: the last health probe's
SETTLE_SECONDS = 10.0


class Holder(asyncio.Protocol):
    """One client of one stream, keeping every byte."""

    transport: asyncio.Transport

    def __init__(self, stream: int, events: int, port: int) -> None:
        self.request = chat_request(port, chat_body(stream=True, user=f"hold/{stream}/{events}"))
        self.expected = held_stream(stream, events)
        self.events = events
        self.raw = b""
        loop = asyncio.get_running_loop()
        self.half: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.raw += data
        if not self.half.done() and self.raw.count(b"[") >= self.events // 2:
            self.half.set_result(None)
        if self.raw.endswith(b"\r\n0\r\n\r\n") or not self.raw.startswith(b"HTTP/1.1 200"):
            self._finish()

    def connection_lost(self, exc: Exception | None) -> None:
        self._finish()

    def _finish(self) -> None:
        for future in (self.half, self.ended):
            if not future.done():
                future.set_result(None)

    def right(self) -> bool:
        """Is the answer a 200 whose body is, byte for byte, what the upstream wrote?"""
        head, _, coded = self.raw.partition(b"\r\n\r\n")
        return head.startswith(b"HTTP/1.1 200") and dechunked(coded) == self.expected


def dechunked(coded: bytes) -> bytes | None:
    """The body behind HTTP's chunked coding; None where it is cut off."""
    body = bytearray()
    while True:
        size, found, coded = coded.partition(b"\r\n")
        if not found:
            return None
        length = int(size, 16)
        if length == 0:
            return bytes(body)
        body += coded[:length]
        coded = coded[length + 2 :]


@attrs.frozen
class Burst:
    """Resident bytes of the gateway with all streams open and afterwards, wrong streams, sockets still open upstream."""

    peak: int
    settled: int
    wrong: int
    sockets: int


def stats(upstream: contenders.Running) -> dict[str, int]:
    return json.loads(contenders.fetch(upstream.port, "/bench/stats")[1])


async def opened(port: int, count: int, events: int, first: int) -> list[Holder]:
    """All streams open and half read; connects at most 64 at a time, as no listening queue takes 2,000 at once."""
    gate = asyncio.Semaphore(64)
    loop = asyncio.get_running_loop()

    async def one(stream: int) -> Holder:
        async with gate:
            return (await loop.create_connection(lambda: Holder(stream, events, port), "127.0.0.1", port))[1]

    holders = await asyncio.gather(*(one(first + number) for number in range(count)))
    await asyncio.wait([holder.half for holder in holders], timeout=120)
    return holders


async def until(check: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.05)
    return True


async def burst(gateway: contenders.Running, upstream: contenders.Running, options: argparse.Namespace, number: int) -> Burst:
    holders = await opened(gateway.port, options.streams, options.events, number * options.streams)
    held = await until(lambda: stats(upstream)["streams"] == options.streams, 5)
    seen = stats(upstream)
    peak = gateway.rss()
    released = contenders.fetch(upstream.port, "/bench/release")[0] == 200
    await asyncio.wait([holder.ended for holder in holders], timeout=120)
    failed = [holder.raw for holder in holders if not holder.right()]
    for raw in {raw[:12]: raw for raw in failed}.values():
        print(f"  burst {number}: one of the wrong streams: {raw[:700]!r} … {raw[700:][-300:]!r}")
    wrong = len(failed)
    for holder in holders:
        holder.transport.abort()
    if not held or not released:
        print(f"  burst {number}: the streams were not all open at the same time: {seen}, released: {released}")
    await until(lambda: stats(upstream)["streams"] == 0, SETTLE_SECONDS)
    await asyncio.sleep(1)
    return Burst(peak, gateway.rss(), wrong + (not held or not released), stats(upstream)["connections"])


async def walk_away(gateway: contenders.Running, upstream: contenders.Running, options: argparse.Namespace) -> int:
    """Sockets left open upstream after every client has gone in mid-stream."""
    for holder in await opened(gateway.port, options.streams, options.events, 0):
        holder.transport.abort()
    await until(lambda: stats(upstream)["connections"] <= PROBES, SETTLE_SECONDS)
    return max(0, stats(upstream)["connections"] - PROBES)


async def soak(gateway: contenders.Running, upstream: contenders.Running, options: argparse.Namespace) -> bool:
    contenders.fetch(gateway.port, "/v1/models")
    before = gateway.rss()
    print(f"{options.through}: {before / MIB:.1f} MiB before")
    bursts = []
    for number in range(1, 4):
        found = await burst(gateway, upstream, options, number)
        bursts.append(found)
        print(
            f"  burst {number}: {found.peak / MIB:.1f} MiB with {options.streams} streams open, {found.settled / MIB:.1f} MiB after; "
            f"{found.wrong} streams wrong; {found.sockets} pooled upstream sockets",
            flush=True,
        )
    left = await walk_away(gateway, upstream, options)
    each = (bursts[0].peak - before) / options.streams
    grown = max(later.peak / bursts[0].peak for later in bursts[1:]) - 1
    results = [
        ("every byte right", f"{sum(found.wrong for found in bursts)} streams wrong", not any(found.wrong for found in bursts)),
        ("less than 24 KiB each", f"{each / KIB:.1f} KiB", each < 24 * KIB),
        ("second and third burst add less than 2 %", f"{grown:+.1%}", grown < 0.02),
        ("no upstream socket left open when the clients walk away", str(left), left == 0),
    ]
    for promise, measured, met in results:
        print(f"{'met   ' if met else 'MISSED'}  {promise}: {measured}")
    return all(met for _, _, met in results)


def started(name: str, directory: Path, backend: int) -> contenders.Running:
    """The proxy under test."""
    if name == "nexus":
        return contenders.start_nexus(directory, {"bench": backend}, server=QUIET)[0]
    return contenders.STARTERS[name](directory, backend)[0]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--events", type=int, default=8)
    parser.add_argument("--through", choices=["nexus", "bare", "nginx"], default="nexus")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    os.sched_setaffinity(0, {contenders.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="nexus-soak-") as name:
        directory = Path(name)
        with contenders.stopping(contenders.start_upstream(directory)) as upstream:
            with contenders.stopping(started(options.through, directory, upstream.port)) as gateway:
                return int(not asyncio.run(soak(gateway, upstream, options)))


if __name__ == "__main__":
    sys.exit(main())
