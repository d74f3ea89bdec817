"""Changing one value of a JSON object without touching any other byte.  Nothing here knows a dialect.

Clients write these bodies, and long ones: every function here looks at each byte at most a few times, whatever is in it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_OPENS = re.compile(rb"\s*+\{")
_KEY = re.compile(rb"[^\"{}\[\]]*+(?:(%s)\s*+:\s*+|[{}\[\]])" % _STRING, re.DOTALL)
_SCALAR = re.compile(rb"(?:[^,\"{}\[\]]++|%s)*+" % _STRING, re.DOTALL)
_BRACKET = re.compile(rb"(?:[^\"{}\[\]]++|%s)*+([{}\[\]])" % _STRING, re.DOTALL)
_TAIL = b" \t\r\n"
Span = tuple[int, int]


def top_level_members(body: bytes) -> Iterator[tuple[bytes, int, int]]:
    """The members of a JSON object in the order in which they stand: the key as it is written, and where its value begins and
    ends.  One pass, and no further than the caller reads; it stops where the bytes are no object."""
    opened = _OPENS.match(body)
    at = opened.end() if opened else len(body)
    while (key := _KEY.match(body, at)) and key[1]:
        start = key.end()
        at = _end_of_value(body, start)
        yield key[1], start, _rstrip(body, start, at)


def is_key(written: bytes, key: str) -> bool:
    """Whether this is the key, however it is written: a letter may be an escape."""
    if b"\\" not in written:
        return written[1:-1] == key.encode()
    try:
        return bool(json.loads(written.decode("utf-8", "replace"), strict=False) == key)
    except ValueError:
        return False


def replace_top_level(body: bytes, key: str, value: bytes) -> bytes:
    """`body` with the value of its top-level `key` replaced, wherever and however often it stands.  `body` is a JSON object."""
    if body.count(b'"%s"' % key.encode()) == 1:
        quick = re.search(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % re.escape(key.encode()), body)
        # the only such key is the top-level one, unless that one is spelt with escapes
        if quick and (b"\\u00" not in body or _is_top_level(body, quick.start(1))):
            return body[: quick.start(1)] + value + body[quick.end(1) :]
    return _replaced(body, _values(body, key), value)


def set_member(body: bytes, key: str, member: str, value: bytes) -> bytes:
    """`body` with `key.member` set, and the objects for it made where they are missing."""
    spans = _values(body, key)
    if not spans:
        return append_top_level(body, key, b'{"%s":%s}' % (member.encode(), value))
    start, end = spans[-1]
    inner = body[start:end]
    if inner[:1] != b"{":
        changed = b'{"%s":%s}' % (member.encode(), value)
    elif found := _values(inner, member):
        changed = _replaced(inner, found, value)
    else:
        changed = append_top_level(inner, member, value)
    return body[:start] + changed + body[end:]


def times_at_top(body: bytes, key: str) -> int:
    """How often the object has this key, a plain word, at its top."""
    return len(_values(body, key))


def append_top_level(body: bytes, key: str, value: bytes) -> bytes:
    """`body` with one more member at its end."""
    close = body.rindex(b"}")
    head = body[:close].rstrip(_TAIL)
    comma = b"" if head.endswith(b"{") else b","
    return head + comma + b'"%s":%s' % (key.encode(), value) + body[len(head) :]


def _values(body: bytes, key: str) -> list[Span]:
    """Where the values of the top-level `key` begin and end.  A plain word is spelt anew with `\\u00..` only."""
    if b'"%s"' % key.encode() not in body and b"\\u00" not in body:
        return []
    return [(start, end) for written, start, end in top_level_members(body) if is_key(written, key)]


def _is_top_level(body: bytes, value: int) -> bool:
    return value == next((start for _, start, _ in top_level_members(body) if start >= value), None)


def _replaced(body: bytes, spans: Iterable[Span], value: bytes) -> bytes:
    pieces, at = [], 0
    for start, end in spans:
        pieces += [body[at:start], value]
        at = end
    return b"".join([*pieces, body[at:]])


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


def _rstrip(body: bytes, start: int, end: int) -> int:
    while end > start and body[end - 1] in _TAIL:
        end -= 1
    return end
