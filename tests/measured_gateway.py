"""A gateway in a process of its own that says how long it stood still and how much memory it took.

A line `mark` on its standard input begins a measurement, a line `tell` ends it with a line of JSON: `still` is the most CPU, in seconds,
that the process used between two beats of a heart in its loop (what others on the machine use does not count), `grown` by how many
bytes its memory was ever larger than at the mark, and `kept` by how many it is now.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

from nexus.config import load
from nexus.server import attach, listen

BEAT_SECONDS = 0.001
STATUS, REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory(name: str) -> int:
    """`VmRSS` or `VmHWM` in bytes."""
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


class Heart:
    """Beats in the loop, and remembers its longest pause."""

    def __init__(self) -> None:
        self.longest = 0.0

    async def beat(self) -> None:
        before = time.process_time()
        while True:
            await asyncio.sleep(BEAT_SECONDS)
            now = time.process_time()
            self.longest = max(self.longest, now - before)
            before = now


async def obey(heart: Heart) -> None:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    base = 0
    while line := await reader.readline():
        if line.strip() == b"mark":
            gc.collect()
            REFERENCES.write_text("5")  # the most that was ever resident begins anew
            base = memory("VmRSS")
            await asyncio.sleep(2 * BEAT_SECONDS)
            heart.longest = 0.0
            print("marked", flush=True)
        else:
            told = {"still": heart.longest, "grown": memory("VmHWM") - base, "kept": memory("VmRSS") - base}
            print(json.dumps(told), flush=True)


async def serve(tables: dict[str, Any], way: str) -> None:
    heart = Heart()
    if way == "standalone":
        async with listen(*load(tables, env={})) as (_, url):
            await live(heart, url)
        return
    app = web.Application()
    attach(app, "/llm", tables)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    await live(heart, f"http://127.0.0.1:{runner.addresses[0][1]}/llm")
    await runner.cleanup()


async def live(heart: Heart, url: str) -> None:
    beating = asyncio.get_running_loop().create_task(heart.beat())
    print(url, flush=True)
    await obey(heart)
    beating.cancel()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1]), sys.argv[2]))
