"""Changing one value of a JSON object without touching any other byte.  Nothing here knows a dialect."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_STRINGS = re.compile(_STRING, re.DOTALL)
_TOKEN = re.compile(_STRING + rb"|[{}\[\],]", re.DOTALL)
_AFTER_KEY = re.compile(rb"\s*:\s*")
_TAIL = b" \t\r\n"


def replace_top_level(body: bytes, key: str, value: bytes) -> bytes:
    """`body` with the value of its top-level `key` replaced, wherever and however often it stands.  `body` is a JSON object."""
    if body.count(b'"%s"' % key.encode()) == 1:
        quick = re.search(rb'"%s"\s*:\s*("(?:[^"\\]|\\.)*")' % re.escape(key.encode()), body)
        # the only such key is the top-level one, unless that one is spelt with escapes
        if quick and (b"\\u00" not in body or at_top(body, quick.start())):
            return body[: quick.start(1)] + value + body[quick.end(1) :]
    for start, end in reversed(list(_values(body, key))):
        body = body[:start] + value + body[end:]
    return body


def set_member(body: bytes, key: str, member: str, value: bytes) -> bytes:
    """`body` with `key.member` set, and the objects for it made where they are missing."""
    spans = list(_values(body, key)) if b'"%s"' % key.encode() in body else []
    if not spans:
        return append_top_level(body, key, b'{"%s":%s}' % (member.encode(), value))
    start, end = spans[-1]
    inner = body[start:end]
    if inner[:1] != b"{":
        changed = b'{"%s":%s}' % (member.encode(), value)
    elif list(_values(inner, member)):
        changed = inner
        for s, e in reversed(list(_values(inner, member))):
            changed = changed[:s] + value + changed[e:]
    else:
        changed = append_top_level(inner, member, value)
    return body[:start] + changed + body[end:]


def times_at_top(body: bytes, key: str) -> int:
    """How often the object has this key at its top."""
    return sum(1 for _ in _values(body, key))


def append_top_level(body: bytes, key: str, value: bytes) -> bytes:
    """`body` with one more member at its end."""
    close = body.rindex(b"}")
    head = body[:close].rstrip(_TAIL)
    comma = b"" if head.endswith(b"{") else b","
    return head + comma + b'"%s":%s' % (key.encode(), value) + body[len(head) :]


def at_top(body: bytes, position: int) -> bool:
    """Whether `position`, which is outside of every string, is in the outermost object itself and in nothing within it."""
    count = _STRINGS.sub(b"", body[:position]).count
    return count(b"{") + count(b"[") - count(b"}") - count(b"]") == 1


def _values(body: bytes, key: str) -> Iterator[tuple[int, int]]:
    """Where the values of the top-level `key` begin and end."""
    depth, expect_key, wanted = 0, True, None
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if depth == 1 and wanted is not None and first in b",}":
            yield wanted, _rstrip(body, wanted, token.start())
            wanted = None
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        elif depth == 1 and first == 0x2C:
            expect_key = True
        elif depth == 1 and expect_key and first == 0x22:
            expect_key = False
            after = _AFTER_KEY.match(body, token.end())
            if after and json.loads(token.group().decode("utf-8", "replace"), strict=False) == key:
                wanted = after.end()


def _rstrip(body: bytes, start: int, end: int) -> int:
    while end > start and body[end - 1] in _TAIL:
        end -= 1
    return end
