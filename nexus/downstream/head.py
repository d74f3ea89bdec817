"""The head of a request.  Framing that is not plain is left to aiohttp: `read_head` says None to it, and judges nothing."""

from __future__ import annotations

import re
from typing import Any

import httptools

from nexus.fieldnames import known, lower

LENGTH = re.compile(r"[0-9]{1,15}")
# how a body is framed or coded, or a connection used, in other ways than the plain one
NOT_PLAIN = frozenset({"transfer-encoding", "content-encoding", "expect", "upgrade", "trailer"})


class Head:
    """`path` and `query` are as they were sent; names in `headers` are in lower case, a repeated one is joined by commas
    (RFC 9110, 5.3); `length` is that of the body, in bytes."""

    __slots__ = ("complete", "headers", "length", "path", "query")

    def __init__(self) -> None:
        self.complete = False
        self.headers: dict[str, str] = {}
        self.length = 0
        self.path = ""
        self.query = ""

    # ---- what the parser calls

    def on_url(self, url: bytes) -> None:
        self.path, _, self.query = url.decode("latin-1").partition("?")

    def on_header(self, name: bytes, value: bytes) -> None:
        key = known.get(name) or lower(name)
        text = value.decode("utf-8", "surrogateescape").rstrip(" \t")
        headers = self.headers
        headers[key] = f"{headers[key]}, {text}" if key in headers else text

    def on_headers_complete(self) -> None:
        self.complete = True


def read_head(data: bytes) -> Head | None:
    """The head in `data`, which ends with its empty line; None for one that is not a plain HTTP/1.1 request with a length."""
    head = Head()
    parser: Any = httptools.HttpRequestParser(head)
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade):
        return None
    headers = head.headers
    length = headers.get("content-length", "")
    if not head.complete or parser.get_http_version() != "1.1" or not LENGTH.fullmatch(length):
        return None
    if not NOT_PLAIN.isdisjoint(headers) or headers.get("connection", "keep-alive").lower() != "keep-alive":
        return None
    head.length = int(length)
    return head
