"""Streams of JSON objects, one a line (`application/x-ndjson`): where they end.  Nothing here knows a dialect."""

from __future__ import annotations

from collections.abc import Iterator

from nexus.dialects.sse import Splitter


def lines(block: bytes) -> Iterator[bytes]:
    """The lines of a block of complete ones, each with its end."""
    return iter(block.splitlines(keepends=True))


def said_in(event: bytes) -> bytes | None:
    """The line without its end; None for an empty one, which only keeps the connection alive."""
    return event.strip() or None


def unnamed(event: bytes) -> bytes:
    """A line has no name beside what it says."""
    return b""


class Lines(Splitter):
    """Holds back what comes after the last end of a line."""

    __slots__ = ()

    boundary = b"\n"
    events = staticmethod(lines)
    data_of = staticmethod(said_in)
    name_of = staticmethod(unnamed)

    def end_in(self, data: bytes) -> int:
        return data.rfind(b"\n") + 1
