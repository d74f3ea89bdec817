"""JSON as clients and servers really send it, into plain values and back.  Nothing here knows a field."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import msgspec

_SURROGATE = re.compile("[\ud800-\udfff]")
_encode = msgspec.json.Encoder().encode


def loads(data: bytes) -> Any:
    """The value.  Half of a surrogate pair, which some clients send where they cut a text, becomes U+FFFD: no UTF-8 can hold it.

    Raises ValueError for what is no JSON, no UTF-8 or nested too deeply.
    """
    try:
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        return _scrubbed(json.loads(data.decode(), parse_constant=_no_number))
    except RecursionError:
        raise ValueError("nested too deeply") from None


def is_object(data: bytes) -> bool:
    """Whether these bytes are a whole JSON object."""
    try:
        return isinstance(loads(data), dict)
    except ValueError:
        return False


def dumps(value: Any) -> bytes:
    """The value as compact JSON in UTF-8."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return _encode(_scrubbed(value))


def dumps_text(value: Any) -> str:
    """As `dumps`, as text."""
    return dumps(value).decode()


def object_of(text: str) -> Mapping[str, Any] | None:
    """The JSON object that a tool call's arguments are; no text at all is an empty one.  None for anything else."""
    if not text.strip():
        return {}
    try:
        value = loads(text.encode("utf-8", "replace"))
    except ValueError:
        return None
    return {} if value is None else value if isinstance(value, dict) else None


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(inner) for key, inner in value.items()}
    return [_scrubbed(inner) for inner in value] if isinstance(value, list) else value
