"""JSON of any size, decoded without keeping the interpreter to itself: for threads, beside which the event loop must go on.

`json.loads` holds the interpreter's lock until it is done, a tenth of a second for 8 MiB.  Here each entry of a list that stands in
the outermost object is decoded by itself, and other threads have their turn in between. Of a longer
list than anybody needs the first entries are kept: a hundred thousand objects would keep the garbage collector busy, and everybody with it.
"""

from __future__ import annotations

import json
import re
from typing import Any

_BLANKS = re.compile(r"[ \t\n\r]*")
_DECODE = json.JSONDecoder().raw_decode


MOST_ENTRIES = 10_001  # one more than is used, which shows that there are more


def decode(raw: bytes) -> Any:
    """As `json.loads`, but for what is left out.  Raises ValueError for what is no JSON, RecursionError for what is nested too deeply."""
    text = raw.decode(json.detect_encoding(raw), "surrogatepass")
    start = _skip(text, 0)
    value, end = _object(text, start + 1) if text.startswith("{", start) else _DECODE(text, start)
    if _skip(text, end) != len(text):
        raise ValueError(f"something follows at {end}")
    return value


def _skip(text: str, at: int) -> int:
    found = _BLANKS.match(text, at)
    return found.end() if found else at


def _object(text: str, at: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    at = _skip(text, at)
    if text.startswith("}", at):
        return found, at + 1
    while True:
        if not text.startswith('"', at):
            raise ValueError(f"no key at {at}")
        key, at = _DECODE(text, at)
        at = _skip(text, at)
        if not text.startswith(":", at):
            raise ValueError(f"no colon at {at}")
        at = _skip(text, at + 1)
        found[key], at = _list(text, at + 1) if text.startswith("[", at) else _DECODE(text, at)
        at = _skip(text, at)
        if text.startswith("}", at):
            return found, at + 1
        at = _comma(text, at)


def _list(text: str, at: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    at = _skip(text, at)
    if text.startswith("]", at):
        return found, at + 1
    while True:
        value, at = _DECODE(text, at)
        if len(found) < MOST_ENTRIES:
            found.append(value)
        at = _skip(text, at)
        if text.startswith("]", at):
            return found, at + 1
        at = _comma(text, at)


def _comma(text: str, at: int) -> int:
    if not text.startswith(",", at):
        raise ValueError(f"no comma at {at}")
    return _skip(text, at + 1)
