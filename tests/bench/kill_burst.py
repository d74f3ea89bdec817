"""500 requests over 3 backends at 50 in flight while one is killed and restarted.  Exit 1 where a target is missed.

Every request whose client had no byte yet must end in 200.  A stream that had begun may be cut, but must then look cut:
an error event and no `[DONE]`.  Afterwards nothing may be counted as in flight, and the backend must be back.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import contenders
from canned import chat_body
from soak_streams import stats, until

HEALTH = """
[health]
interval_seconds = 1
recovery_threshold = 1
"""
VICTIM = "two"


@attrs.define
class Tally:
    """How the requests ended, and what the clients of cut streams saw."""

    ended: collections.Counter[str] = attrs.field(factory=collections.Counter)
    backends: collections.Counter[str] = attrs.field(factory=collections.Counter)
    attempts: int = 0
    problems: list[str] = attrs.field(factory=list)
    done: int = 0


async def ask(session: aiohttp.ClientSession, url: str, number: int, tally: Tally) -> None:
    """One request, every second one streamed; its end goes into the tally."""
    stream = number % 2 == 1
    body = chat_body(stream=stream, user="paced/100/15" if stream else "delay/60/0")
    text = b""
    status = 0
    try:
        async with session.post(url, data=body, headers={"content-type": "application/json"}) as answer:
            status = answer.status
            tally.backends[answer.headers.get("x-nexus-backend", "?")] += 1
            tally.attempts += int(answer.headers.get("x-nexus-attempts", "1"))
            async for piece in answer.content.iter_any():
                text += piece
    except aiohttp.ClientError as error:
        if not text:
            tally.problems.append(f"request {number}: {type(error).__name__} after status {status} and no byte")
    tally.ended[verdict(stream, status, text)] += 1
    tally.done += 1
    if status != 200:
        tally.problems.append(f"request {number}: {status} {text[:300].decode(errors='replace')}")


def verdict(stream: bool, status: int, text: bytes) -> str:
    """`ok`; `cut` for a stream that broke and says so; `tidy` for one that broke and hides it; `failed`."""
    if status != 200 or not text:
        return "failed"
    if not stream:
        return "ok" if b'"choices"' in text and text.endswith(b"}") else "failed"
    if text.count(b"t=") == 15 and text.endswith(b"data: [DONE]\n\n"):
        return "ok"
    return "tidy" if b"[DONE]" in text or b'"error"' not in text else "cut"


async def load(port: int, count: int, at_once: int, tally: Tally) -> None:
    """`count` requests, `at_once` of them in flight."""
    numbers = iter(range(count))
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:

        async def worker() -> None:
            for number in numbers:
                await ask(session, url, number, tally)

        await asyncio.gather(*(worker() for _ in range(at_once)))


def in_flight(value: Any) -> Iterator[int]:
    """Every `in_flight` figure, wherever it stands in the JSON."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key == "in_flight" and isinstance(inner, int):
                yield inner
            else:
                yield from in_flight(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from in_flight(inner)


def busy(port: int) -> list[int]:
    """The in-flight figures of the gateway; [-1] where it tells none."""
    status, body = contenders.fetch(port, "/nexus/backends")
    return list(in_flight(json.loads(body))) or [-1] if status == 200 else [-1]


def healthy(port: int) -> int:
    return int(json.loads(contenders.fetch(port, "/health")[1])["backends"]["healthy"])


async def burst(
    gateway: contenders.Running, servers: dict[str, contenders.Running], directory: Path, options: argparse.Namespace
) -> bool:
    tally = Tally()
    everyone = await until(lambda: healthy(gateway.port) == len(servers), 10)
    loading = asyncio.get_running_loop().create_task(load(gateway.port, options.requests, options.at_once, tally))
    await until(lambda: tally.done >= options.requests // 3, 60)
    servers[VICTIM].kill()
    await until(lambda: tally.done >= options.requests * 2 // 3, 60)
    servers[VICTIM] = contenders.start_upstream(directory, servers[VICTIM].port)
    await loading
    at_rest = await until(lambda: not any(busy(gateway.port)), 5)
    figures = busy(gateway.port)
    back = await until(lambda: healthy(gateway.port) == len(servers), 10)
    streams = sum(stats(server)["streams"] for server in servers.values())
    ended = tally.ended
    print(f"{ended.total()} requests: {dict(ended)}; {tally.attempts} attempts; answered by {dict(tally.backends)}")
    for problem in tally.problems[:5]:
        print(f"  {problem}")
    results = [
        ("all backends healthy at the start", str(everyone), everyone),
        ("every request without a byte yet ended in 200", f"{ended['failed']} failed", ended["failed"] == 0),
        ("a cut stream says so", f"{ended['cut']} cut, {ended['tidy']} tidy", ended["tidy"] == 0),
        (
            "the kill was felt: streams cut or further attempts",
            f"{tally.attempts}",
            ended["cut"] + tally.attempts > options.requests,
        ),
        ("nothing in flight afterwards", f"{figures}", at_rest and figures != [-1]),
        ("no stream left open upstream", str(streams), streams == 0),
        ("the killed backend is back", str(back), back),
    ]
    for promise, measured, met in results:
        print(f"{'met   ' if met else 'MISSED'}  {promise}: {measured}")
    return all(met for _, _, met in results)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--requests", type=int, default=500)
    parser.add_argument("--at-once", type=int, default=50)
    options = parser.parse_args()
    os.sched_setaffinity(0, {contenders.LOAD_CORE})
    with tempfile.TemporaryDirectory(prefix="nexus-kill-") as name, ExitStack() as stack:
        directory = Path(name)
        servers = {word: contenders.start_upstream(directory) for word in ("one", VICTIM, "three")}
        stack.callback(lambda: [server.stop() for server in servers.values()])
        ports = {word: server.port for word, server in servers.items()}
        gateway, _ = contenders.start_nexus(directory, ports, HEALTH)
        stack.callback(gateway.stop)
        return int(not asyncio.run(burst(gateway, servers, directory, options)))


if __name__ == "__main__":
    sys.exit(main())
