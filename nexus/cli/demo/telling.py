"""How the demo looks: colours and a table that fills itself on a terminal, plain lines elsewhere, nothing with `--json`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from nexus.cli import explanation
from nexus.cli.demo.asking import Said
from nexus.cli.demo.fleet import CLOUD_ID, CLOUD_SLOTS, GGUF_ID, MODEL, OLLAMA_ID, PICTURES

BREATH_SECONDS = 1.5
WIDTH = 100
SHOWN_HEADERS = ("backend", "backend-type", "model", "fallback-model", "privacy-zone", "route-reason", "attempts")
CAST = (
    ("gpu", "Ollama at home", f"{OLLAMA_ID}, {PICTURES}", "2 at a time"),
    ("laptop", "Ollama at home", OLLAMA_ID, "1 at a time"),
    ("pi", "llama.cpp at home", GGUF_ID, "1 at a time, slow"),
    ("cloud", "OpenAI API, costs money", CLOUD_ID, f"{CLOUD_SLOTS} at a time"),
)
COLOURS = {"gpu": "green", "laptop": "cyan", "pi": "magenta", "cloud": "yellow"}
Arrived = Callable[[int, Said], None]


class Teller:
    """Tells the story to people; `quiet` tells nothing."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(quiet=quiet, highlight=False, soft_wrap=False)
        if not self._console.is_terminal or self._console.width > WIDTH:
            self._console.width = WIDTH

    def _print(self, what: RenderableType, left: int = 2) -> None:
        self._console.print(Padding(what, (0, 0, 0, left), expand=False))

    async def breath(self) -> None:
        """Time to read, where somebody reads."""
        if self._console.is_terminal and not self._console.quiet:
            await asyncio.sleep(BREATH_SECONDS)

    def introduction(self, url: str) -> None:
        """Who is there."""
        self._console.print(Text("Four simulated servers, and Nexus in front of them:", style="bold"))
        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column()
        table.add_column(overflow="fold", min_width=min(len(CLOUD_ID), self._console.width // 2))
        table.add_column()
        for name, kind, models, slots in CAST:
            table.add_row(_coloured(name), kind, models, Text(slots, style="dim"))
        self._console.print()
        self._print(table)
        self._console.print()
        self.say(f'All of them have the same model under an id of their own; clients ask {url}/v1 for "{MODEL}".')

    def chapter(self, number: int, title: str) -> None:
        self._console.print()
        self._console.print(Rule(Text(f"{number}. {title}", style="bold"), align="left", style="dim"))

    def say(self, words: str) -> None:
        self._print(Text(words))

    def note(self, words: str) -> None:
        """Something that happens while a burst runs."""
        self._print(Text(f"✗ {words}", style="bold red"))

    def word(self, piece: str) -> None:
        """A piece of a streamed answer, as it comes."""
        self._console.print(Text(piece, style="italic"), end="", soft_wrap=True)

    @contextmanager
    def speech(self) -> Iterator[None]:
        """Around the pieces of one streamed answer."""
        self._console.print("\n  > ", end="")
        yield
        self._console.print()

    def headers(self, nexus: Mapping[str, str]) -> None:
        """The answer's own headers say where it came from."""
        table = Table.grid(padding=(0, 2))
        for name in SHOWN_HEADERS:
            if name in nexus:
                table.add_row(Text(f"X-Nexus-{name.title()}", style="dim"), _coloured(nexus[name]))
        self._console.print()
        self._print(table)

    def refusal(self, said: Said) -> None:
        self._print(Text(f"{said.status}: {said.text}", style="red"), left=4)
        self._console.print()

    @contextmanager
    def burst(self, count: int) -> Iterator[Arrived]:
        """A table with a line for each request, filled as the answers come; elsewhere printed when it is full."""
        rows: list[Said | None] = [None] * count
        if not self._console.is_terminal or self._console.quiet:
            yield rows.__setitem__
            self._console.print(_burst(rows))
            return
        with Live(_burst(rows), console=self._console, auto_refresh=False) as live:

            def arrived(number: int, said: Said) -> None:
                rows[number] = said
                live.update(_burst(rows), refresh=True)

            yield arrived

    def explanation(self, answer: Mapping[str, Any]) -> None:
        for line in "\n".join(explanation.of_asked(answer, self._console.width - 2)).split("\n"):
            self._console.print(Text.from_ansi(f"  {line}"), soft_wrap=True)

    def stats(self, stats: Mapping[str, Any]) -> None:
        """Who did what, in all."""
        self._console.print()
        self.say("And in all, as GET /nexus/stats says:")
        table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, header_style="bold")
        for column in ("Backend", "Requests", "Tokens in", "Tokens out", "Cost"):
            table.add_column(column, justify="left" if column == "Backend" else "right")
        for name, tally in sorted(stats["backends"].items()):
            cost = f"${tally['cost_usd']:.6f}" if tally["cost_usd"] else "-"
            counts = (tally["requests"], tally["input_tokens"], tally["output_tokens"])
            table.add_row(_coloured(name), *map(str, counts), cost)
        self._print(table)

    def farewell(self, lines: list[str]) -> None:
        self._console.print()
        self._console.print(Rule(Text("Your turn", style="bold"), align="left", style="dim"))
        for line in lines:
            self._console.print(Text(f"  {line}"), soft_wrap=True)


def _coloured(word: str) -> Text:
    return Text(word, style=COLOURS.get(word, ""))


def _burst(rows: list[Said | None]) -> Padding:
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in ("#", "Status", "Backend", "Why there", "Attempts", "In queue", "Took", "Cost"):
        table.add_column(column, justify="right" if column in ("In queue", "Took", "Cost") else "left", overflow="fold")
    for number, said in enumerate(rows, start=1):
        table.add_row(str(number), *(_answer(said) if said else ["…"]))
    return Padding(table, (1, 0, 1, 2), expand=False)


def _answer(said: Said) -> list[str | Text]:
    nexus = said.nexus
    status = Text(str(said.status), style="green" if said.status == 200 else "red")
    queued = f"{float(nexus['queue-ms']) / 1000:.1f} s" if "queue-ms" in nexus else "-"
    return [
        status,
        _coloured(nexus.get("backend", "-")),
        nexus.get("route-reason", "-"),
        nexus.get("attempts", "-"),
        queued,
        f"{said.seconds:.1f} s",
        f"${nexus['cost-estimated']}" if "cost-estimated" in nexus else "-",
    ]
