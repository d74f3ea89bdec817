"""Sentences that fit the terminal, each under where it began.  A pipe gets every sentence on one line."""

from __future__ import annotations

import shutil
import sys
import textwrap
from typing import IO, Any

import click


def width(stream: IO[Any] | None = None) -> int | None:
    """The terminal's, or None where `stream` (stdout) is no terminal."""
    return shutil.get_terminal_size().columns if (stream or sys.stdout).isatty() else None


def beside(problem: str, url: str) -> str:
    """What is wrong with a server where its address stands before it already, which need not be said again."""
    return problem.replace(f" at {url.removesuffix('/v1')}", "", 1)


def wrapped(prefix: str, text: str, columns: int | None) -> str:
    """`prefix`, which may be styled, then `text`, whose further lines begin under its first."""
    indent = len(click.unstyle(prefix))
    if columns is None or columns - indent < 20:
        return prefix + text
    return prefix + f"\n{' ' * indent}".join(textwrap.wrap(text, columns - indent, break_on_hyphens=False))
