"""One answer as it arrives: parsed, checked, buffered until it is read.  No sockets, no clock.

httptools in its strict mode already refuses: Content-Length together with Transfer-Encoding, a second Content-Length, signs,
blanks and overflows in lengths and chunk sizes, folded headers, bare CR or LF, blanks before the colon.  Added here: other
transfer codings than chunked, statuses and versions that HTTP/1 does not have, limits, and bytes after the end.
"""

from __future__ import annotations

import asyncio

import attrs
import httptools

from nexus.errors import BackendError


@attrs.frozen(kw_only=True)
class Limits:
    """`max_header_bytes` and `max_headers` bound a head with its interim answers, and trailers; `read_ahead_bytes` is how
    much of a body may wait unread before the connection is no longer read from (one more piece may come)."""

    max_header_bytes: int = 65536
    max_headers: int = 256
    read_ahead_bytes: int = 65536


class Malformed(Exception):
    """The peer does not speak HTTP/1.1.  The text continues a sentence that starts with the peer's name."""


class Answer:
    """A parser's target.  A fresh parser for each answer: httptools keeps the last trailer and would prepend it to the next head."""

    __slots__ = (
        "_bodiless", "_chunked", "_fields", "_limits", "_measured", "_parser", "_pieces", "_quiet", "_size",
        "buffered", "done", "error", "head_done", "headers", "keep_alive", "received", "started", "status", "surplus", "waiter",
    )  # fmt: skip

    def __init__(self, limits: Limits, bodiless: bool) -> None:
        self._bodiless = bodiless
        self._chunked = False
        self._fields: list[tuple[str, str]] = []
        self._limits = limits
        self._measured = False
        self._pieces: list[bytes] = []
        self._quiet = 0
        self._size = 0
        self.buffered = 0
        self.done = False
        self.error: BackendError | None = None
        self.head_done = False
        self.headers: tuple[tuple[str, str], ...] = ()
        self.keep_alive = False
        self.received = 0
        self.started = False
        self.status = 0
        self.surplus = False
        self.waiter: asyncio.Future[None] | None = None
        self._parser: httptools.HttpResponseParser | None = None

    def begin(self) -> None:
        """Ready to be fed."""
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: memoryview) -> None:
        """Take what has arrived.  Raises Malformed; bytes after the end only set `surplus`, for the answer itself is good."""
        assert self._parser is not None
        before = self.received
        self.started = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done:
                raise Malformed(_sentence(error)) from None
            self.surplus = True
        if self.received != before:
            self._quiet = 0
        elif not self.done:
            self._count_quiet(len(data))

    def _count_quiet(self, size: int) -> None:
        """Bound what brings no body: a head without end, trailers without end, a chunk extension without end."""
        self._quiet += size
        if self._quiet > self._limits.max_header_bytes:
            raise Malformed(f"sent more than {self._limits.max_header_bytes} bytes of headers")

    def close(self) -> bool:
        """The peer has closed its side.  True where that is the proper end of the body."""
        if self.head_done and not self._chunked and not self._measured:
            self.done = True
        return self.done

    def fail(self, error: BackendError) -> None:
        """There will be no more: `take` gives what has arrived, then the error is due."""
        self.error = error
        self.finish()
        self.wake()

    def problem(self) -> BackendError:
        """`error` made anew, to be raised: a kept one would tie itself, the frame and this answer into a knot."""
        error = self.error
        assert error is not None
        return BackendError(error.code, error.hint, reused=error.reused, sent=error.sent)

    def finish(self) -> None:
        """Let go of the parser, which points back here."""
        self._parser = None

    def wake(self) -> None:
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def take(self) -> bytes:
        """All that has arrived and was not taken; may be empty."""
        pieces = self._pieces
        if not pieces:
            return b""
        self.buffered = 0
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        return data

    # ---- what the parser calls; an exception here comes back from `feed_data` as the context of its own

    def on_message_begin(self) -> None:
        if self.done:
            raise Malformed("sent bytes after the end of its answer")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Of the head or a trailer.  Trailers are counted and not handed on: httptools does not report the last one."""
        self._size += len(name) + len(value) + 4
        if self._size > self._limits.max_header_bytes:
            raise Malformed(f"sent more than {self._limits.max_header_bytes} bytes of headers")
        key = name.decode("latin-1").lower()
        text = value.decode("latin-1").rstrip(" \t")
        if key == "transfer-encoding":
            self._check_coding(text)
        self._fields.append((key, text))
        if len(self._fields) > self._limits.max_headers:
            raise Malformed(f"sent more than {self._limits.max_headers} headers")

    def _check_coding(self, text: str) -> None:
        if self._chunked or text.lower() != "chunked":
            raise Malformed("sent a transfer coding that nobody asked for")
        self._chunked = True

    def on_headers_complete(self) -> None:
        parser = self._parser
        assert parser is not None
        status: int = parser.get_status_code()
        if not 200 <= status <= 599:
            self._interim(status)
            return
        self.status = status
        self.headers = tuple(self._fields)
        self._measured = any(name == "content-length" for name, _ in self.headers)
        self._fields = []
        self.keep_alive = parser.should_keep_alive()
        if not self.keep_alive and parser.get_http_version() not in ("1.1", "1.0"):
            raise Malformed("answered in another version than HTTP/1")
        self.head_done = True
        if self._bodiless:
            self.done = True

    def _interim(self, status: int) -> None:
        """Skip 100, 102 and 103, whose size counts as the head's; RFC 9110, 15.2."""
        if status == 101:
            raise Malformed("switched to a protocol that nobody asked for")
        if not 100 <= status <= 199:
            raise Malformed(f"answered with the status {status}, which HTTP does not have")
        self._fields.clear()
        self._chunked = False

    def on_body(self, data: bytes) -> None:
        if self.done:
            self.surplus = True
            return
        size = len(data)
        self._pieces.append(data)
        self.received += size
        self.buffered += size

    def on_message_complete(self) -> None:
        if self.head_done:
            self.done = True


def _sentence(error: Exception) -> str:
    """Our own words where the exception came from a callback, else the parser's, which never quote what was sent."""
    if isinstance(error.__context__, Malformed):
        return str(error.__context__)
    return f"sent what is not HTTP: {error}"
