"""The members of a JSON object, their values still as bytes: found, changed, written again.  Nothing here knows a dialect.

Clients write these bodies, and long ones: every function here looks at each byte at most a few times, whatever is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

import msgspec

from nexus.dialects.jsontext import decoded
from nexus.dialects.weight import MOST_PASSED

Members = dict[str, msgspec.Raw]

_members = msgspec.json.Decoder(Members)
_encode = msgspec.json.Encoder().encode
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPENS = re.compile(rb"\s*+\{")
_KEY = re.compile(rb"[^\"{}\[\]]*+(?:(%s)\s*+:\s*+|[{}\[\]])" % _STRING, re.DOTALL)
_SCALAR = re.compile(rb"(?:[^,\"{}\[\]]++|%s)*+" % _STRING, re.DOTALL)
_BRACKET = re.compile(rb"(?:[^\"{}\[\]]++|%s)*+([{}\[\]])" % _STRING, re.DOTALL)


def members_of(body: bytes) -> Members:
    """Return the members of a JSON object in their order; of a name that is there twice the last one counts, as for most parsers.

    Halves of surrogate pairs are mended as `nexus.dialects.jsontext.decoded` does.  Raises msgspec.DecodeError for what is no object.
    """
    return decoded(_members, body, MOST_PASSED)


def body_of(members: Mapping[str, msgspec.Raw | bytes]) -> bytes:
    """Write a JSON object of these members: each name once, in its plainest spelling, each value byte for byte."""
    return _encode({name: value if type(value) is msgspec.Raw else msgspec.Raw(value) for name, value in members.items()})


def respelled(body: bytes, changes: Mapping[str, bytes]) -> bytes:
    """Return the body with the members of `changes` set, so that no two readers differ in what it says at its top.

    Every other value stays byte for byte; white space between members does not.  Raises as `members_of`.
    """
    return body_of({**members_of(body), **changes})


def is_plain(body: bytes, members: Members) -> bool:
    """Return whether each member of the body is there once, in its plainest spelling and without white space between.

    Written so it is as short as can be: whatever else a body can have makes it longer.  The order of `members` does not matter.
    """
    return len(_encode(members)) == len(body)


def times_at_top(body: bytes, name: str) -> int:
    """Return how often the object has a member of this name, a plain word, however it is spelt."""
    if b'"%s"' % name.encode() not in body and b"\\u00" not in body:  # a plain word is spelt anew with these escapes only
        return 0
    return sum(_is_name(written, name) for written in _names_at_top(body))


def _names_at_top(body: bytes) -> Iterator[bytes]:
    """The names as they are written, in one pass; it stops where the bytes are no object."""
    opened = _OPENS.match(body)
    at = opened.end() if opened else len(body)
    while (name := _KEY.match(body, at)) and name[1]:
        at = _end_of_value(body, name.end())
        yield name[1]


def _is_name(written: bytes, name: str) -> bool:
    if b"\\" not in written:
        return written[1:-1] == name.encode()
    try:
        return bool(json.loads(written.decode("utf-8", "replace"), strict=False) == name)
    except ValueError:
        return False


def _end_of_value(body: bytes, start: int) -> int:
    """Where the comma or bracket after the value stands.  Strings and what is between brackets are passed over as a whole."""
    scalar = _SCALAR.match(body, start)
    at = scalar.end() if scalar else start
    if body[at : at + 1] not in (b"{", b"["):
        return at
    depth = 0
    while bracket := _BRACKET.match(body, at):
        depth += 1 if bracket[1] in b"{[" else -1
        at = bracket.end()
        if not depth:
            break
    return at
