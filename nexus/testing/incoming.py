"""Reading HTTP/1.1 requests for the scripted server: strictly enough to notice a smuggled one, and no more.

Answers, connections and counting do not belong here.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import attrs

from nexus.testing.acts import Headers

MAX_HEAD_BYTES = 1024 * 1024


@attrs.frozen(kw_only=True)
class Received:
    """A request as it arrived.  Header names are lower case and stay repeated; `connection` counts from 0."""

    method: str
    target: str
    headers: Headers
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]

    @property
    def json(self) -> Any:
        """The body as JSON.  Raises ValueError where it is none."""
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        """The first header of this (lower case) name."""
        return next((value for key, value in self.headers if key == name), None)


class BadRequest(Exception):
    """What arrived is no request that a client may send."""


async def read_request(reader: asyncio.StreamReader, connection: int) -> Received | None:
    """The next request, or None at the end of the connection.  Raises BadRequest."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, headers = parse_head(head)
        body = await _body(reader, headers)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise BadRequest(f"the connection ended within a request, after {error.partial[-80:]!r}") from None
        return None
    except asyncio.LimitOverrunError:
        raise BadRequest(f"a head of more than {MAX_HEAD_BYTES} bytes") from None
    return Received(method=method, target=target, headers=headers, body=body, connection=connection)


def parse_head(head: bytes) -> tuple[str, str, Headers]:
    """Method, target and headers (names in lower case).  Raises BadRequest."""
    start, *lines = head[:-4].decode("latin-1").split("\r\n")
    match start.split(" "):
        case [method, target, "HTTP/1.1"] if method.isalpha() and target:
            return method, target, tuple(_header(line) for line in lines)
    raise BadRequest(f"a request line {start[:200]!r}")


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(":")
    if not colon or not name or name.strip() != name or any(c in value for c in "\r\n\0"):
        raise BadRequest(f"a header line {line[:200]!r}")
    return name.lower(), value.strip()


async def _body(reader: asyncio.StreamReader, headers: Headers) -> bytes:
    lengths = [value for name, value in headers if name == "content-length"]
    codings = [value for name, value in headers if name == "transfer-encoding"]
    if len(lengths) + len(codings) > 1:
        raise BadRequest(f"two framings: {lengths} {codings}")
    if codings:
        return await _chunks(reader, codings[0])
    if not lengths:
        return b""
    if not lengths[0].isdecimal():
        raise BadRequest(f"a content-length of {lengths[0]!r}")
    return await reader.readexactly(int(lengths[0]))


async def _chunks(reader: asyncio.StreamReader, coding: str) -> bytes:
    if coding.lower() != "chunked":
        raise BadRequest(f"a transfer-encoding of {coding!r}")
    body = bytearray()
    while True:
        line = await reader.readuntil(b"\r\n")
        try:
            size = int(line.split(b";")[0], 16)
        except ValueError:
            raise BadRequest(f"a chunk size of {line!r}") from None
        data = await reader.readexactly(size + 2)
        if data[-2:] != b"\r\n":
            raise BadRequest("a chunk longer than it says")
        if not size:
            return bytes(body)
        body += data[:-2]
