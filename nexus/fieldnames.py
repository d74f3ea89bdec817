"""Names of HTTP header fields in lower case: the same object for the same name, so that thousands of open heads share it."""

from __future__ import annotations

_MAX_NAMES = 512
_LONGEST_KEPT = 64

known: dict[bytes, str] = {}


def lower(name: bytes) -> str:
    """The name, from now on `known`.  Names are few, but whoever is at the other end may choose some, hence the bounds."""
    key = name.decode("latin-1").lower()
    if len(name) <= _LONGEST_KEPT:
        if len(known) >= _MAX_NAMES:
            known.clear()
        known[name] = key
    return key
