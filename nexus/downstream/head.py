"""The head of a request.  What is not as plain as can be is left to aiohttp: `read_head` says None to it, and judges nothing.

httptools in its strict mode already refuses bare CR or LF, folded lines, blanks before a colon, two lengths and a length beside a transfer
coding.  Added here: what HTTP/1.1 has, but is not plain.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

import attrs
import httptools

METHODS = (b"GET ", b"POST ")
# no other method, version or form of target, which has no fragment; httptools takes more, and blanks between and lines before them
_LINE = re.compile(rb"(GET|POST) (/[!\x22$-~]*) HTTP/1\.1\r\n")
_MOST_FIELDS = 128  # as many as aiohttp takes
MOST_NAMES = 1024
_LENGTH = re.compile(r"[0-9]{1,15}")
# how a body is framed or coded, or a connection used, in other ways than the plain one
_NOT_PLAIN = frozenset({"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer"})


@attrs.define
class Head:
    """`path` is decoded, `query` as it was sent; names in `headers` are in lower case, a repeated one is joined by commas
    (RFC 9110, 5.3); `length` is that of the body, in bytes."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    length: int


_names: dict[bytes, str] = {}


def _name(field: bytes) -> str:
    """In lower case.  Clients send the same names again and again: keeping them saves 1.5 µs of the head that an SDK sends, and thousands of
    open heads share them.  Clients choose them, hence the bound."""
    if len(_names) >= MOST_NAMES:
        _names.clear()
    name = _names[field] = field.decode("ascii").lower()
    return name


class _Fields:
    """What a parser is told to call.  `count` is of the lines, `headers` of the names: a repeated one is joined."""

    __slots__ = ("complete", "count", "headers")

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.count = 0
        self.complete = False

    def on_header(self, field: bytes, given: bytes) -> None:
        name = _names.get(field) or _name(field)
        value = given.decode("utf-8", "surrogateescape").rstrip(" \t")
        headers = self.headers
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
        self.count += 1

    def on_headers_complete(self) -> None:
        self.complete = True


def read_head(data: bytes) -> Head | None:
    """The head in `data`, which ends with its first empty line; None for one that is not a plain HTTP/1.1 `POST` with a length, or a `GET`
    without a body, for one host."""
    line = _LINE.match(data)
    if line is None:
        return None
    fields = _Fields()
    try:
        httptools.HttpRequestParser(fields).feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    if not fields.complete or fields.count > _MOST_FIELDS:
        return None
    headers = fields.headers
    method, target = line[1].decode(), line[2].decode()
    length = headers.get("content-length", "0" if method == "GET" else "")
    if not _LENGTH.fullmatch(length) or (method == "GET" and length != "0"):
        return None
    if not _NOT_PLAIN.isdisjoint(headers):
        return None
    if headers.get("connection", "keep-alive").lower() != "keep-alive" or "," in headers.get("host", ","):
        return None
    path, _, query = target.partition("?")
    return Head(method, unquote(path) if "%" in path else path, query, headers, int(length))
