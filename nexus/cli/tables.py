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
    for index in used:
        table.add_column(columns[index], overflow="fold")
    for row in listed:
        table.add_row(*(row[index] for index in used))
    console().print(table)


def cell(value: Any) -> Text:
    """A value as text that can neither colour nor move a terminal, however it was named."""
    if isinstance(value, Text):
        return value
    text = "" if value is None else "yes" if value is True else "no" if value is False else plain(str(value))
    return Text(text, style=STYLES.get(text, ""))
