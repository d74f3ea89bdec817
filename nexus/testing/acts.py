"""What a scripted server does with one request: frozen values that know how to play themselves on a wire.

Sockets and counting are `upstream`'s; what an inference server would say is `servers`'.
"""

from __future__ import annotations

import abc
import asyncio
import contextlib
import json
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any, Protocol

import attrs

Headers = tuple[tuple[str, str], ...]
Event = bytes | asyncio.Event


class Wire(Protocol):
    """What an act may do to the client.  Every await ends in CancelledError once the client has gone."""

    @property
    def head_only(self) -> bool:
        """Whether the request was a HEAD: an answer without a body."""

    async def send(self, data: bytes) -> None:
        """Write these bytes, and wait until the socket has taken them."""

    async def pause(self, seconds: float) -> None: ...

    def close(self) -> None:
        """Close the connection after what was sent."""

    def reset(self) -> None:
        """Close the connection with a TCP reset."""


class Act(abc.ABC):
    """One scripted behaviour."""

    @abc.abstractmethod
    async def play(self, wire: Wire) -> None:
        """Answer one request.  Returning leaves the connection open for the next one, unless the wire was closed."""


def sse(data: Any) -> bytes:
    """One server-sent event: a str as it is, anything else as JSON."""
    text = data if isinstance(data, str) else json.dumps(data, separators=(",", ":"))
    return b"data: " + text.encode() + b"\n\n"


def _headers(value: Mapping[str, str] | Iterable[tuple[str, str]]) -> Headers:
    return tuple(value.items() if isinstance(value, Mapping) else value)


def _events(value: Iterable[Any]) -> tuple[Event, ...]:
    return tuple(item if isinstance(item, bytes | asyncio.Event) else sse(item) for item in value)


def _head(status: int, headers: Headers) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Scripted"
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _with_defaults(headers: Headers, *defaults: tuple[str, str]) -> Headers:
    """The script's own headers win over what the act would add."""
    given = {name.lower() for name, _ in headers}
    return (*(pair for pair in defaults if pair[0].lower() not in given), *headers)


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@attrs.frozen
class Respond(Act):
    """A whole answer.  `json` wins over `body`.  `framing` is `length`, `chunked` or `close` (the end of the connection)."""

    status: int = 200
    body: bytes = attrs.field(default=b"", kw_only=True)
    json: Any = attrs.field(default=..., kw_only=True)
    headers: Headers = attrs.field(default=(), converter=_headers, kw_only=True)
    framing: str = attrs.field(default="length", validator=attrs.validators.in_(("length", "chunked", "close")), kw_only=True)

    async def play(self, wire: Wire) -> None:
        is_json = self.json is not ...
        body = json.dumps(self.json).encode() if is_json else self.body
        kind = ("Content-Type", "application/json" if is_json else "text/plain; charset=utf-8")
        head = _head(self.status, _with_defaults(self.headers, kind, *self._frame(body)))
        await wire.send(head if wire.head_only else head + self._framed(body))
        if self.framing == "close":
            wire.close()

    def _frame(self, body: bytes) -> Headers:
        if self.framing == "chunked":
            return (("Transfer-Encoding", "chunked"),)
        if self.framing == "close":
            return (("Connection", "close"),)
        bodiless = self.status in (204, 304) or self.status < 200
        return () if bodiless else (("Content-Length", str(len(body))),)

    def _framed(self, body: bytes) -> bytes:
        if self.framing != "chunked":
            return body
        return (_chunk(body) if body else b"") + _chunk(b"")


@attrs.frozen
class Stream(Act):
    """Server-sent events, `interval` seconds apart (the first one at once).

    An event is bytes (sent as they are), a str or a JSON value (made into a `data:` line), or an `asyncio.Event` that the
    stream waits for.  `done` adds `data: [DONE]`.  `end` is `proper`, `cut` (closed without the last chunk), `reset`, or
    `hang` (open until the client goes).  `framing` is `chunked` or `close`.
    """

    events: tuple[Event, ...] = attrs.field(converter=_events)
    interval: float = 0.0
    done: bool = True
    end: str = attrs.field(default="proper", validator=attrs.validators.in_(("proper", "cut", "reset", "hang")), kw_only=True)
    status: int = attrs.field(default=200, kw_only=True)
    headers: Headers = attrs.field(default=(), converter=_headers, kw_only=True)
    framing: str = attrs.field(default="chunked", validator=attrs.validators.in_(("chunked", "close")), kw_only=True)

    async def play(self, wire: Wire) -> None:
        chunked = self.framing == "chunked"
        frame = ("Transfer-Encoding", "chunked") if chunked else ("Connection", "close")
        await wire.send(_head(self.status, _with_defaults(self.headers, ("Content-Type", "text/event-stream"), frame)))
        if wire.head_only:
            return
        await self._play_events(wire, chunked)
        await self._finish(wire, chunked)

    async def _play_events(self, wire: Wire, chunked: bool) -> None:
        now = asyncio.get_running_loop().time
        due = now()
        for event in (*self.events, sse("[DONE]")) if self.done else self.events:
            if isinstance(event, asyncio.Event):
                await event.wait()
                due = now()
                continue
            if self.interval and due > now():
                await wire.pause(due - now())
            await wire.send(_chunk(event) if chunked else event)
            due += self.interval

    async def _finish(self, wire: Wire, chunked: bool) -> None:
        if self.end == "hang":
            await Hang().play(wire)
        elif self.end == "reset":
            wire.reset()
        elif self.end == "cut" or not chunked:
            wire.close()
        else:
            await wire.send(_chunk(b""))


@attrs.frozen
class Slow(Act):
    """`then`, `after` seconds later."""

    after: float
    then: Act

    async def play(self, wire: Wire) -> None:
        await wire.pause(self.after)
        await self.then.play(wire)


@attrs.frozen
class Held(Act):
    """`then`, once the test has set `gate`."""

    gate: asyncio.Event
    then: Act

    async def play(self, wire: Wire) -> None:
        await self.gate.wait()
        await self.then.play(wire)


@attrs.frozen
class Hang(Act):
    """Not a byte, until the client goes."""

    async def play(self, wire: Wire) -> None:
        await asyncio.Event().wait()


class _Spent(Exception):
    """A CutAfter has sent all it may."""


@attrs.frozen
class CutAfter(Act):
    """`then`, of which only the first `n` bytes on the wire are sent (head and framing count); then the connection is closed,
    with a TCP reset where `reset` says so."""

    n: int
    then: Act
    reset: bool = False

    async def play(self, wire: Wire) -> None:
        with contextlib.suppress(_Spent):
            await self.then.play(_Budget(wire, self.n))
        if self.reset:
            wire.reset()
        else:
            wire.close()


@attrs.frozen
class Dribble(Act):
    """`then`, sent in pieces of `size` bytes, `interval` seconds apart."""

    then: Act
    size: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    interval: float = 0.0

    async def play(self, wire: Wire) -> None:
        await self.then.play(_Pieces(wire, self.size, self.interval))


@attrs.frozen
class Malformed(Act):
    """These bytes, whatever they are; then the connection is closed."""

    raw: bytes

    async def play(self, wire: Wire) -> None:
        await wire.send(self.raw)
        wire.close()


@attrs.frozen
class ErrorEventFirst(Act):
    """A 200 stream whose first event is an OpenAI error, as servers do that fail after they have sent their head."""

    message: str = "CUDA out of memory"
    code: int | str | None = 500

    async def play(self, wire: Wire) -> None:
        error = {"message": self.message, "type": "server_error", "param": None, "code": self.code}
        await Stream([{"error": error}]).play(wire)


@attrs.define
class Through:
    """A wire that passes everything on, to begin one from that changes what is sent."""

    wire: Wire

    @property
    def head_only(self) -> bool:
        return self.wire.head_only

    async def pause(self, seconds: float) -> None:
        await self.wire.pause(seconds)

    def close(self) -> None:
        self.wire.close()

    def reset(self) -> None:
        self.wire.reset()


@attrs.define
class _Budget(Through):
    """Sends `left` bytes and not one more."""

    left: int

    async def send(self, data: bytes) -> None:
        part = data[: self.left]
        self.left -= len(part)
        if part:
            await self.wire.send(part)
        if len(part) < len(data) or not self.left:
            raise _Spent


@attrs.define
class _Pieces(Through):
    """Sends in small pieces, each of which reaches the socket alone."""

    size: int
    interval: float

    async def send(self, data: bytes) -> None:
        for start in range(0, len(data), self.size):
            await self.wire.send(data[start : start + self.size])
            await self.wire.pause(self.interval)
