"""Events that are errors: what is said in one, whatever its shape.  Its kind is read in `decoding`, whole bodies in `complaints`."""

from __future__ import annotations

from typing import Any

from nexus.dialects.complaints import sentence_in, shortened
from nexus.dialects.jsontext import loads

UNSAID = "the backend ended the stream with an error"
_LONGEST = 500


def value_in(data: bytes | None) -> Any:
    """The value in an event's data; its text where that is no JSON, "" where there is none."""
    try:
        return loads(data or b'""')
    except ValueError:
        return shortened((data or b"").decode("utf-8", "replace"), _LONGEST).strip()


def told_in(value: Any) -> str:
    """The sentence in a value that is an error; one of ours where it holds none."""
    if isinstance(value, dict) and not any(value.get(key) for key in ("error", "message", "detail")):
        return UNSAID
    return sentence_in(value) if value else UNSAID
