"""Figures that servers report: no shape of one makes an answer fail."""

from __future__ import annotations

from typing import Any

MOST = 10**12  # tokens; more is no count


def count_of(value: Any) -> int:
    """A count of tokens, from 0 to MOST.  What is no such number counts as none: nobody has used less than nothing."""
    if isinstance(value, str):
        value = int(value) if value.isdecimal() and len(value) <= 16 else 0
    if not isinstance(value, int | float) or isinstance(value, bool):
        return 0
    return int(value) if 0 < value <= MOST else 0
