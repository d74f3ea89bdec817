"""Sentences that fit the terminal, each under where it began.  A pipe gets every sentence on one line."""

from __future__ import annotations

import shutil
import sys
from typing import IO, Any
from unicodedata import east_asian_width

import click

from nexus.plain import rounded

LEAST_ROOM = 30  # for what stands beside a prefix
BESIDE = 4


def width(stream: IO[Any] | None = None) -> int | None:
    """The terminal's, or None where `stream` (stdout) is no terminal."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def beside(problem: str, url: str) -> str:
    """What is wrong with a server where its address stands before it already, which need not be said again."""
    return problem.replace(f" at {url.removesuffix('/v1')}", "", 1)


def tried_again(seconds: float) -> str:
    """When one request asks again who rests; what rests for no more seconds waits for that request."""
    return f"tried again in {rounded(seconds)} s" if seconds else "the next request tries it again"


def wrapped(prefix: str, text: str, columns: int | None) -> str:
    """`prefix`, then `text`, whose further lines begin under its first, or a little to the right of the margin where that leaves no room.

    Lines end between words: what people copy (an id, an address, a command) is whole, also where it is longer than a line.  Both may be
    styled.
    """
    if columns is None:
        return prefix + text
    indent = _cells(prefix)
    first = indent
    if columns - indent < LEAST_ROOM:
        indent = BESIDE
    lines, line, taken = [], "", first
    for word in text.split(" "):
        if line and taken + 1 + _cells(word) > columns:
            lines.append(line.rstrip())
            line, taken = "", indent
        line, taken = (f"{line} {word}", taken + 1 + _cells(word)) if line else (word, taken + _cells(word))
    return prefix + f"\n{' ' * indent}".join([*lines, line.rstrip()])


def _cells(text: str) -> int:
    """How many columns it takes on a terminal."""
    bare = click.unstyle(text)
    return len(bare) if bare.isascii() else sum(2 if east_asian_width(char) in "WF" else 1 for char in bare)
