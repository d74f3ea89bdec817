"""Where the events of a server-sent stream end, and what data they carry.  Nothing here knows a dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nexus.errors import BackendError

MAX_EVENT_BYTES = 16 * 1024 * 1024
_BOUNDARY = re.compile(rb"\r?\n\r?\n")


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block of complete ones, each with its boundary."""
    start = 0
    for boundary in _BOUNDARY.finditer(block):
        yield block[start : boundary.end()]
        start = boundary.end()
    if start < len(block):
        yield block[start:]


def data_of(event: bytes) -> bytes | None:
    """The data of an event; None for one that carries none (a comment, a bare `event:` line)."""
    lines = [line[5:].lstrip(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) if lines else None


class Splitter:
    """Holds back what comes after the last event boundary.  A subclass for another framing (`nexus.dialects.lines`) has its own
    `boundary`, `end_in`, `events` and `data_of`."""

    __slots__ = ("held",)

    boundary = b"\n\n"
    events = staticmethod(events)
    data_of = staticmethod(data_of)

    def __init__(self) -> None:
        self.held = b""

    def feed(self, data: bytes) -> bytes:
        """All complete events.  Raises BackendError("too_large") where one event outgrows MAX_EVENT_BYTES."""
        if self.held:
            data = self.held + data
        if data.endswith(self.boundary):
            self.held = b""
            return data
        end = self.end_in(data)
        self.held = data[end:]
        if len(self.held) > MAX_EVENT_BYTES:
            raise BackendError("too_large", f"one event of the stream is larger than {MAX_EVENT_BYTES} bytes")
        return data[:end]

    def rest(self) -> bytes:
        """What is left at the end of the body: the last event may lack its boundary."""
        rest, self.held = self.held, b""
        return rest

    def end_in(self, data: bytes) -> int:
        """Where the last complete event ends."""
        lf, crlf = data.rfind(b"\n\n"), data.rfind(b"\n\r\n")
        return max(lf + 2 if lf >= 0 else 0, crlf + 3 if crlf >= 0 else 0)
