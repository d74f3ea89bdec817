"""A client that sends any bytes, and what it hears.  No gateway and no test lives here."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from nexus.testing import a_body

CHAT = "/v1/chat/completions"
GOOD = a_body("tiny")
STREAMED = a_body("tiny", stream=True)


@attrs.frozen
class Answer:
    """What a client got.  `whole` says that the framing came to its proper end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool = True

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Mapping[str, Any]:
        """The error, in OpenAI's form, under a request id."""
        assert self.headers.get("x-nexus-request-id"), self
        assert self.headers["content-type"].startswith("application/json"), self
        error: Mapping[str, Any] = self.json["error"]
        assert {"message", "type", "param", "code"} <= error.keys(), self
        assert error["message"], self
        assert error["type"], self
        return error

    @property
    def events(self) -> list[bytes]:
        """The events of a stream without their boundaries; comments are left out."""
        assert self.body.endswith(b"\n\n") or not self.body, self.body[-200:]
        return [e for e in self.body.split(b"\n\n") if e and not e.startswith(b":")]

    @property
    def last_error(self) -> Mapping[str, Any]:
        """The error event at the end of a stream that has begun; there is no normal end beside it."""
        assert b"[DONE]" not in self.body
        error: Mapping[str, Any] = json.loads(self.events[-1].removeprefix(b"data: "))["error"]
        return error


class Line:
    """A connection on which anything may be said."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, prefix: str) -> None:
        self.reader = reader
        self.writer = writer
        self.prefix = prefix

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, url: str) -> AsyncIterator[Line]:
        parts = urlsplit(url)
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=2**20)
        try:
            yield cls(reader, writer, parts.path)
        finally:
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def say(self, data: bytes) -> None:
        """Send; a peer that has closed already is no error of ours."""
        with contextlib.suppress(ConnectionError):
            self.writer.write(data)
            await self.writer.drain()

    async def ask(self, body: bytes = GOOD, path: str = CHAT, *headers: str) -> None:
        """An ordinary request."""
        await self.say(post(body, self.prefix + path, *headers))

    async def hear(self, timeout: float = 5.0) -> Answer:
        """One answer.  Raises EOFError, with what came, where the connection closes without one."""
        async with asyncio.timeout(timeout):
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise EOFError(getattr(error, "partial", b"")) from None
            start, *lines = head[:-4].decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body, whole = await self._body(headers)
        return Answer(int(start.split()[1]), headers, body, whole)

    async def hear_or_closed(self) -> Answer | None:
        """One answer, or None where the connection closes without a byte of one."""
        try:
            return await self.hear()
        except EOFError as closed:
            if closed.args[0]:
                raise
            return None

    async def _body(self, headers: Mapping[str, str]) -> tuple[bytes, bool]:
        pieces = []
        try:
            if headers.get("transfer-encoding") != "chunked":
                return await self.reader.readexactly(int(headers.get("content-length", 0))), True
            while True:
                size = int((await self.reader.readuntil(b"\r\n"))[:-2], 16)
                pieces.append((await self.reader.readexactly(size + 2))[:-2])
                if not size:
                    return b"".join(pieces), True
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            return b"".join(pieces) + getattr(error, "partial", b""), False

    async def closed(self, timeout: float = 5.0) -> bytes:
        """What still comes until the connection is closed.  Raises TimeoutError where it stays open."""
        rest = b""
        async with asyncio.timeout(timeout):
            with contextlib.suppress(ConnectionError):
                while more := await self.reader.read(65536):
                    rest += more
        return rest


def post(body: bytes = GOOD, path: str = CHAT, *headers: str) -> bytes:
    """The bytes of an ordinary request; with a framing header of its own it gets no other."""
    framed = any(h.lower().startswith(("content-length", "transfer-encoding")) for h in headers)
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers, *([] if framed else [f"Content-Length: {len(body)}"])]
    return "\r\n".join(lines).encode("latin-1", "surrogateescape") + b"\r\n\r\n" + body
