"""Tables and styles for people, by rich.  Imported only by commands that print tables, never by `serve`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
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


def console() -> Console:
    """A console that fits the terminal, or wraps nothing where there is none."""
    made = Console(highlight=False)
    return made if made.is_terminal else Console(highlight=False, width=PIPE_WIDTH)


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, ids: int = 1) -> None:
    """Print one table; a column whose cells are all empty is left out.

    The first `ids` columns are what people copy: their cells are neither cut nor wrapped.  Where they leave the others no room, each
    row's first cell stands on a line of its own, above the rest of its row.
    """
    listed = [[cell(value) for value in row] for row in rows]
    used = [index for index in range(len(columns)) if index < ids or any(row[index].plain for row in listed)]
    heads = [columns[index] for index in used]
    cells = [[row[index] for index in used] for row in listed]
    out = console()

    def fitted(first: int, room: int) -> list[int]:
        texts = [[head, *(row[at].plain for row in cells)] for at, head in enumerate(heads) if at >= first]
        return widths(texts, room - BETWEEN * (len(texts) - 1), ids=ids - first)

    fit = fitted(0, out.width)
    with out.capture() as printed:
        if sum(fit) + BETWEEN * (len(fit) - 1) <= out.width:
            out.print(_table(out, heads, fit, cells))
        else:
            fit = fitted(1, out.width - BETWEEN)
            out.print(Text(heads[0], style="bold"))
            out.print(Padding(_table(out, heads[1:], fit, []), (0, 0, 0, BETWEEN)))
            for row in cells:
                out.print(row[0], overflow="ignore", no_wrap=True, crop=False)
                out.print(Padding(_table(out, None, fit, [row[1:]]), (0, 0, 0, BETWEEN)))
    for line in printed.get().splitlines():
        click.echo(line.rstrip())


def _table(out: Console, heads: Sequence[str] | None, widths: Sequence[int], cells: Sequence[Sequence[Text]]) -> Table:
    table = Table(
        box=SIMPLE_HEAD if out.is_terminal else None,
        padding=(0, BETWEEN - 1, 0, 0) if out.is_terminal else (0, BETWEEN, 0, 0),
        pad_edge=False,
        show_edge=False,
        show_header=heads is not None,
        header_style="bold",
    )
    for head, width in zip(heads or [""] * len(widths), widths, strict=True):
        table.add_column(head, overflow="fold", width=width)
    for row in cells:
        table.add_row(*row)
    return table


def widths(columns: Sequence[Sequence[str]], room: int, *, ids: int = 0) -> list[int]:
    """How wide each column of texts is where all must fit: sentences wrap first, then names are broken, words of a list last.  The first
    `ids` columns keep their width, also where the sum is more than `room` then."""
    now = [max(map(len, texts)) for texts in columns]
    words = [max((len(word) for text in texts for word in text.split()), default=1) for texts in columns]
    names = [
        min(word, NAME) if not any(", " in text for text in texts) else word for texts, word in zip(columns, words, strict=True)
    ]
    for floor in (words, names, [1] * len(columns)) if not ids else (words, names):
        least = [now[at] if at < ids else width for at, width in enumerate(floor)]
        for _ in range(sum(now) - room):
            widest = max(range(len(now)), key=lambda at: now[at] if now[at] > least[at] else 0)
            now[widest] -= now[widest] > least[widest]
    return now


def cell(value: Any) -> Text:
    """A value as text that can neither colour nor move a terminal, however it was named."""
    if isinstance(value, Text):
        return value
    text = "" if value is None else "yes" if value is True else "no" if value is False else plain(str(value))
    return Text(text, style=STYLES.get(text, ""))
