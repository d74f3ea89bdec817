"""Tables and styles for people, by rich.  Imported only by commands that print tables, never by `serve`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus.plain import plain

# A pipe has no width: nothing is wrapped there, so that lines stay lines.
PIPE_WIDTH = 10_000
BETWEEN = 2  # between two columns
NAME = 10  # no name is broken into shorter pieces, as long as something else can give way
STYLES = {
    "healthy": "green",
    "ready": "green",
    "ok": "green",
    "loading": "yellow",
    "asleep": "yellow",
    "degraded": "yellow",
    "unhealthy": "red",
    "off": "red",
    "restricted": "cyan",
}


def console(*, stderr: bool = False) -> Console:
    """A console that fits the terminal, or wraps nothing where there is none."""
    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=PIPE_WIDTH)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Print one table; a column whose cells are all empty is left out."""
    listed = [[cell(value) for value in row] for row in rows]
    used = [index for index in range(len(columns)) if any(row[index].plain for row in listed)]
    out = console()
    table = Table(
        box=SIMPLE_HEAD if out.is_terminal else None,
        padding=(0, BETWEEN - 1, 0, 0) if out.is_terminal else (0, BETWEEN, 0, 0),
        pad_edge=False,
        show_edge=False,
        header_style="bold",
    )
    texts = [[columns[index], *(row[index].plain for row in listed)] for index in used]
    for index, width in zip(used, widths(texts, out.width - BETWEEN * (len(used) - 1)), strict=True):
        table.add_column(columns[index], overflow="fold", width=width)
    for row in listed:
        table.add_row(*(row[index] for index in used))
    with out.capture() as printed:
        out.print(table)
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def widths(columns: Sequence[Sequence[str]], room: int) -> list[int]:
    """How wide each column of texts is where all must fit: sentences wrap first, then names are broken, words of a list last."""
    now = [max(map(len, texts)) for texts in columns]
    words = [max((len(word) for text in texts for word in text.split()), default=1) for texts in columns]
    names = [
        min(word, NAME) if not any(", " in text for text in texts) else word for texts, word in zip(columns, words, strict=True)
    ]
    for floor in (words, names, [1] * len(columns)):
        for _ in range(sum(now) - room):
            widest = max(range(len(now)), key=lambda i: now[i] if now[i] > floor[i] else 0)
            now[widest] -= now[widest] > floor[widest]
    return now


def cell(value: Any) -> Text:
    """A value as text that can neither colour nor move a terminal, however it was named."""
    if isinstance(value, Text):
        return value
    text = "" if value is None else "yes" if value is True else "no" if value is False else plain(str(value))
    return Text(text, style=STYLES.get(text, ""))
