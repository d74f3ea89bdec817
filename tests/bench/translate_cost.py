"""What translating a stream costs: events a second on one core, and the time one event adds, for every pair of dialects.

    python tests/bench/translate_cost.py

Each event is fed alone, as it comes from a server that writes one token at a time, through the reader that the gateway uses.
The best of several runs counts: other work on the machine only ever makes it slower.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from time import process_time

from nexus.api import Dialect, Reader
from nexus.dialects.canonical import Answer, FinishReason, Text, ToolCall
from nexus.model import Usage
from nexus.testing.conformance import TABLES, GoldenTable, Scenario, spoken
from nexus.testing.conformance.cutting import readers
from nexus.testing.conformance.scenarios import PLAIN

RUNS = 7
TEXT = Text(text="A token, " * 20_000)
CALL = ToolCall(id="call_1", name="write", arguments=json.dumps({"text": "A token, " * 600}))
USED = Usage(input_tokens=100, output_tokens=20_000, source="reported")
STREAMS: Mapping[str, Answer] = {
    "text": Answer(parts=(TEXT,), finish=FinishReason.STOP, usage=USED),
    "tool arguments": Answer(parts=(CALL,), finish=FinishReason.TOOL_CALLS, usage=USED),
}


def fed(reader: Reader, frames: Sequence[bytes]) -> float:
    """Seconds of processor time for one stream."""
    feed, began = reader.feed, process_time()
    for frame in frames:
        feed(frame)
    reader.finish()
    return process_time() - began


def longest(reader: Reader, frames: Sequence[bytes]) -> float:
    """Seconds of processor time for the slowest event."""
    feed, slowest = reader.feed, 0.0
    for frame in frames:
        began = process_time()
        feed(frame)
        slowest = max(slowest, process_time() - began)
    return slowest


def measured(reader: Callable[[], Reader], frames: Sequence[bytes]) -> tuple[float, float]:
    """Seconds for the stream, and for its slowest event, at best."""
    return min(fed(reader(), frames) for _ in range(RUNS)), min(longest(reader(), frames) for _ in range(RUNS))


def line(name: str, client: GoldenTable, server: GoldenTable, dialects: Mapping[str, Dialect]) -> str:
    """One stream of one pair."""
    said = Scenario(name=name, asked=PLAIN, said=STREAMS[name])
    frames = server.exchange(said).frames
    seconds, slowest = measured(readers(client, server, dialects), frames)
    rate, each = len(frames) / seconds, seconds / len(frames)
    way = "as it is" if client is server else "translated"
    pair = f"{client.dialect} ← {server.dialect}"
    return f"{name:16}{pair:26}{way:12}{len(frames):8,}{rate:14,.0f}{each * 1e6:12.1f}{slowest * 1e6:14.1f}"


async def main() -> None:
    """Print the table."""
    sys.stdout.write(f"Python {sys.version.split()[0]}, {os.cpu_count()} cores, one used; the best of {RUNS} runs\n\n")
    sys.stdout.write(
        f"{'stream of':16}{'client ← server':26}{'way':12}{'events':>8}{'events/s':>14}{'µs/event':>12}{'slowest µs':>14}\n"
    )
    async with spoken() as dialects:
        for name in STREAMS:
            for client in TABLES:
                for server in TABLES:
                    sys.stdout.write(line(name, client, server, dialects) + "\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
