"""The bytes of plain: JSON objects and their members.  What they mean is in the other files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nexus.api import Usage


def dumps(value: Any) -> bytes:
    """ASCII: half a surrogate pair, which JSON can hold and UTF-8 cannot, stays what it was."""
    return json.dumps(value, separators=(",", ":")).encode()


def object_in(data: bytes) -> dict[str, Any] | None:
    """The JSON object that these bytes are; None where they are none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # UnicodeDecodeError is a ValueError
        return None
    return value if isinstance(value, dict) else None


def text_in(value: Mapping[str, Any], name: str) -> str:
    """A text field; "" for anything else."""
    found = value.get(name)
    return found if isinstance(found, str) else ""


def usage_in(value: Mapping[str, Any]) -> Usage | None:
    """The counts of `{"tokens": {"in": 3, "out": 2}}`; None where they are not there."""
    tokens = value.get("tokens")
    if not isinstance(tokens, dict):
        return None
    counts = [tokens[name] if isinstance(tokens.get(name), int) else 0 for name in ("in", "out")]
    return Usage(input_tokens=max(counts[0], 0), output_tokens=max(counts[1], 0), source="reported")


def tokens_of(usage: Usage) -> dict[str, int]:
    return {"in": usage.input_tokens, "out": usage.output_tokens}
