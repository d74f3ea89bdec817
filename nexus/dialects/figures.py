"""Figures that servers report: no shape of one makes an answer fail."""

from __future__ import annotations

from typing import Any

MOST = 10**12  # tokens; more is no count


def figure_of(value: Any) -> int | None:
    """A count of tokens, from 0 to MOST.  None for what is no such number: it tells as much as if it were not there."""
    if isinstance(value, str):
        value = int(value) if value.isdecimal() and len(value) <= 16 else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return int(value) if 0 <= value <= MOST else None


def count_of(value: Any) -> int:
    """As `figure_of`, and 0 for what is no figure."""
    return figure_of(value) or 0
