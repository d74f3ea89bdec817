"""The head of a request.  What is not as plain as can be is left to aiohttp: `read_head` says None to it, and judges nothing."""

from __future__ import annotations

import re
from sys import intern

import attrs

# The grammar of RFC 9112 without what it only tolerates: no bare CR or LF, no folded line, no blank before a colon; no other
# method, version or form of target, which has no fragment.
_TARGET = r"/[!\x22$-~]*"
_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_VALUE = r"[^\x00-\x08\x0a-\x1f\x7f]*"
_HEAD = re.compile(rf"POST ({_TARGET}) HTTP/1\.1\r\n(?:{_NAME}:{_VALUE}\r\n)*+\r\n")
_MOST_LINES = 128  # as many as aiohttp takes
_AFTER_TARGET = len(" HTTP/1.1\r\n")
_LENGTH = re.compile(r"[0-9]{1,15}")
_LENGTH_LINE = re.compile(rb"\r\n[Cc]ontent-[Ll]ength: ([0-9]{1,15})\r\n")
MOST_KNOWN = 256
LONGEST_KNOWN = 2048  # bytes: nobody has shown a key yet, so little must be kept for anybody
# how a body is framed or coded, or a connection used, in other ways than the plain one
_NOT_PLAIN = frozenset({"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer"})


@attrs.define
class Head:
    """`path` and `query` are as they were sent; names in `headers` are in lower case, a repeated one is joined by commas
    (RFC 9110, 5.3); `length` is that of the body, in bytes."""

    path: str
    query: str
    headers: dict[str, str]
    length: int


class Heads:
    """Reads heads, and keeps those it has read for a little while: a client sends the same head again and again, but for the length.

    Who keeps one has to `forget` soon: credentials are among what is kept.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._known)

    def read(self, data: bytes) -> Head | None:
        """As `read_head`."""
        found = _LENGTH_LINE.search(data)
        if found is None or len(data) > LONGEST_KNOWN:
            return read_head(data)
        start, end = found.span(1)
        rest = b"%b\0%b" % (data[:start], data[end:])  # no head holds a zero byte: two of the same rest differ in these digits only
        known = self._known.get(rest)
        if known is None:
            known = read_head(data)
            if known is None:
                return None
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[rest] = known
        length = found[1].decode()
        return Head(known.path, known.query, {**known.headers, "content-length": length}, int(length))

    def forget(self) -> None:
        self._known.clear()


def read_head(data: bytes) -> Head | None:
    """The head in `data`, which ends with its empty line; None for one that is not a plain HTTP/1.1 `POST` with one host and a length."""
    text = data.decode("utf-8", "surrogateescape")
    found = _HEAD.fullmatch(text)
    if found is None:
        return None
    lines = text[found.end(1) + _AFTER_TARGET : -4].split("\r\n")
    if len(lines) > _MOST_LINES:
        return None
    headers = _fields(lines)
    length = headers.get("content-length", "")
    if not _LENGTH.fullmatch(length) or not _NOT_PLAIN.isdisjoint(headers):
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive" or "," in headers.get("host", ","):
        return None
    path, _, query = found[1].partition("?")
    return Head(path, query, headers, int(length))


def _fields(lines: list[str]) -> dict[str, str]:
    """Names are interned: thousands of open heads share them."""
    pairs = [line.partition(":") for line in lines]
    headers = {intern(name.lower()): value.strip(" \t") for name, _, value in pairs}
    if len(headers) == len(pairs):
        return headers
    repeated: dict[str, list[str]] = {}
    for name, _, value in pairs:
        repeated.setdefault(name.lower(), []).append(value.strip(" \t"))
    return {name: ", ".join(values) for name, values in repeated.items()}
