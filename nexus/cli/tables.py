"""Tables and styles for people, by rich.  Imported only by commands that print tables, never by `serve`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from nexus.observers.format import plain

# A pipe has no width: nothing is wrapped there, so that lines stay lines.
PIPE_WIDTH = 10_000
SHORT = 16  # a cell as short as this is not wrapped, where the terminal has the room
BETWEEN = 3  # between two columns
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
    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    out = console()
    needed = [_needed(columns[index], [row[index].plain for row in listed]) for index in used]
    roomy = sum(needed) + BETWEEN * (len(used) - 1) <= out.width
    for index, width in zip(used, needed, strict=True):
        table.add_column(columns[index], overflow="fold", min_width=width if roomy else None)
    for row in listed:
        table.add_row(*(row[index] for index in used))
    out.print(table)


def _needed(title: str, cells: Sequence[str]) -> int:
    """The width below which a column of short words would break them."""
    whole = max((len(text) for text in cells), default=0)
    word = max((len(word) for text in cells for word in text.split()), default=0)
    return max(len(title), whole if whole <= SHORT else min(word, SHORT))


def cell(value: Any) -> Text:
    """A value as text that can neither colour nor move a terminal, however it was named."""
    if isinstance(value, Text):
        return value
    text = "" if value is None else "yes" if value is True else "no" if value is False else plain(str(value))
    return Text(text, style=STYLES.get(text, ""))
