"""JSON as clients and servers really send it, into plain values and back.  Nothing here knows a field."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from nexus.dialects.weight import MOST_VALUES, TooMany, weigh, windows

T = TypeVar("T")
BOM = "\ufeff".encode()
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIRST, _SECOND = rb"\\u[dD][89abAB][0-9a-fA-F]{2}", rb"\\u[dD][c-fC-F][0-9a-fA-F]{2}"
_HALF = re.compile(rb"%s(?!%s)|(?<!%s)%s" % (_FIRST, _SECOND, _FIRST, _SECOND))
_encode = msgspec.json.Encoder().encode
_value = msgspec.json.Decoder()
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TOO_DEEP = "nested too deeply"


def loads(data: bytes) -> Any:
    """The value, with halves of surrogate pairs as in `decoded`.

    Raises ValueError for what is no JSON, no UTF-8 or nested too deeply, and its kind TooMany for more values than are decoded.
    """
    try:
        return decoded(_value, data)
    except TooMany:
        raise
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None


def decoded(decoder: msgspec.json.Decoder[T], data: bytes, most: int = MOST_VALUES) -> T:
    """What the decoder makes of it.  Half of a surrogate pair, which some clients and servers send where they cut a text, becomes
    U+FFFD: no UTF-8 can hold it; a byte order mark is passed over.  Raises as the decoder does, and for more than `most` values
    without asking it."""
    weigh(data, most)
    try:
        return decoder.decode(data)
    except msgspec.DecodeError:
        mended = whole_characters(bytes(data).removeprefix(BOM))
        if mended == data:
            raise
    return decoder.decode(mended)


def whole_characters(data: bytes) -> bytes:
    """JSON of the same length, in which every half of a surrogate pair that is written as an escape is U+FFFD.

    A window at a time, for there may be millions of them.
    """
    if b"\0" in data:  # no JSON holds a nought
        return data
    whole = io.BytesIO()
    for window in windows(data):
        plain = window.replace(rb"\\", b"\0\0")  # what is left of the backslashes begins an escape
        whole.write(_HALF.sub(rb"\\ufffd", plain).replace(b"\0\0", rb"\\"))
    return whole.getvalue()


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
    """The JSON object that a tool call's arguments are; no text at all is an empty one.  None for anything else, and for what is too
    much to read: `why_no_object` tells.  It is for `dumps`: members that Python has no values for (1e400) are there as they are written."""
    if not text.strip():
        return {}
    data = text.encode("utf-8", "replace")
    try:
        value = loads(data)
    except ValueError:
        return _as_written(data)
    return {} if value is None else value if isinstance(value, dict) else None


def why_no_object(text: str) -> str:
    """What is to be said of arguments that are no object by `object_of`."""
    try:
        loads(text.encode("utf-8", "replace"))
    except TooMany as error:
        return f"arguments of {error}"
    except ValueError as error:
        if str(error) == _TOO_DEEP:
            return f"arguments that are {_TOO_DEEP}"
    return "arguments that are no JSON object"


def _as_written(data: bytes) -> Mapping[str, Any] | None:
    """The members of an object by JSON's grammar alone."""
    try:
        return decoded(_members, data)
    except (msgspec.DecodeError, RecursionError):
        return None


def _scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_scrubbed(key): _scrubbed(inner) for key, inner in value.items()}
    return [_scrubbed(inner) for inner in value] if isinstance(value, list) else value
