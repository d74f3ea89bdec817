"""What translating a stream costs: events a second on one core, and the time one event adds, for every pair of dialects.

    python tests/bench/translate_cost.py [--json OUT]

Each event is fed alone, as it comes from a server that writes one token at a time, through the reader that the gateway uses.
The best of several runs counts: other work on the machine only ever makes it slower.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import process_time

import attrs

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


def measured(reader: Callable[[], Reader], frames: Sequence[bytes], runs: int) -> tuple[float, float]:
    """Seconds for the stream, and for its slowest event, at best."""
    return min(fed(reader(), frames) for _ in range(runs)), min(longest(reader(), frames) for _ in range(runs))


@attrs.frozen
class Cost:
    """One stream of one pair: events a second, and the seconds of its slowest event."""

    stream: str
    client: str
    server: str
    translated: bool
    events: int
    rate: float
    slowest: float

    def __str__(self) -> str:
        way = "translated" if self.translated else "as it is"
        pair = f"{self.client} ← {self.server}"
        figures = f"{self.events:8,}{self.rate:14,.0f}{1e6 / self.rate:12.1f}{self.slowest * 1e6:14.1f}"
        return f"{self.stream:16}{pair:26}{way:12}{figures}"


HEAD = f"{'stream of':16}{'client ← server':26}{'way':12}{'events':>8}{'events/s':>14}{'µs/event':>12}{'slowest, µs':>14}"


def cost(name: str, client: GoldenTable, server: GoldenTable, dialects: Mapping[str, Dialect], runs: int) -> Cost:
    """One stream of one pair."""
    said = Scenario(name=name, asked=PLAIN, said=STREAMS[name])
    frames = server.exchange(said).frames
    seconds, slowest = measured(readers(client, server, dialects), frames, runs)
    rate = len(frames) / seconds
    return Cost(name, client.dialect, server.dialect, client is not server, len(frames), rate, slowest)


async def costs(runs: int) -> list[Cost]:
    """Every stream of every pair, printed as it is measured."""
    found = []
    print(HEAD, flush=True)
    async with spoken() as dialects:
        for name, client, server in itertools.product(STREAMS, TABLES, TABLES):
            found.append(cost(name, client, server, dialects, runs))
            print(found[-1], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=RUNS, help="of which the best counts")
    parser.add_argument("--json", type=Path, metavar="OUT", help="write every figure to this file")
    options = parser.parse_args()
    found = asyncio.run(costs(options.runs))
    if options.json:
        options.json.write_text(json.dumps([attrs.asdict(each) for each in found]))


if __name__ == "__main__":
    main()
