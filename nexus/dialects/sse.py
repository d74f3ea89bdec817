"""Where the events of a server-sent stream end, and what data they carry.  Nothing here knows a dialect."""

from __future__ import annotations

import re
from collections.abc import Iterator

from nexus.errors import BackendError

ERROR = b"error"  # the name of an event that is one, in every dialect
MAX_EVENT_BYTES = 16 * 1024 * 1024
MUCH_BYTES = 64 * 1024  # of events at one time
_OVERLAP = 2  # bytes of what is held back that may begin a boundary

# A line ends with CR LF, LF or CR (https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream), an event
# with an empty line.  Empty lines at the start of a block are nobody's: an LF may be the rest of the CR LF that ended the block before.
_BOUNDARY = re.compile(rb"\A[\r\n]++|(?>\r\n|\n|\r)(?>\r\n|\n|\r)")


def events(block: bytes) -> Iterator[bytes]:
    """The events of a block of complete ones, each with its boundary."""
    return _by_any_end(block) if b"\r" in block or block[:1] == b"\n" else _by_lf(block)


def _by_lf(block: bytes) -> Iterator[bytes]:
    """As nearly every server writes them: 1 µs for one event, and 0.3 for each of many at once, where others take 3 µs."""
    start = 0
    while (end := block.find(b"\n\n", start)) >= 0:
        yield block[start : end + 2]
        start = end + 2
    if start < len(block):
        yield block[start:]


def _by_any_end(block: bytes) -> Iterator[bytes]:
    start = 0
    for boundary in _BOUNDARY.finditer(block):
        yield block[start : boundary.end()]
        start = boundary.end()
    if start < len(block):
        yield block[start:]


def data_of(event: bytes) -> bytes | None:
    """The data of an event; None for one that carries none (a comment, a bare `event:` line, `data:` and nothing)."""
    lines = [line[5:].lstrip(b" ") for line in event.splitlines() if line.startswith(b"data:")]
    return b"\n".join(lines) or None


def name_of(event: bytes) -> bytes:
    """What the `event:` line says; b"" where there is none."""
    return next((line[6:].strip() for line in event.splitlines() if line.startswith(b"event:")), b"")


class Splitter:
    """Holds back what comes after the last event boundary.  A subclass for another framing (`nexus.dialects.lines`) has its own
    `boundary`, `end_in`, `events`, `data_of` and `name_of`."""

    __slots__ = ("_held",)

    boundary = b"\n\n"
    events = staticmethod(events)
    data_of = staticmethod(data_of)
    name_of = staticmethod(name_of)

    def __init__(self) -> None:
        self._held = bytearray()

    def feed(self, data: bytes) -> bytes:
        """All complete events.  Raises BackendError("too_large") where one event outgrows MAX_EVENT_BYTES.

        What is held back is looked at once, however many pieces an event comes in.
        """
        held = self._held
        if data.endswith(self.boundary):
            if not held:
                return data
            end = len(data)
        else:
            before = bytes(held[-_OVERLAP:])
            end = self.end_in(before + data) - len(before)
        if end <= 0:
            ready = b""
            held += data
        elif held:
            held += data[:end]
            ready = bytes(held)
            held[:] = data[end:]
        else:
            ready = data[:end]
            held += data[end:]
        if len(held) > MAX_EVENT_BYTES:
            raise BackendError("too_large", f"one event of the stream is larger than {MAX_EVENT_BYTES} bytes")
        return ready

    def rest(self) -> bytes:
        """What is left at the end of the body: the last event may lack its boundary."""
        rest = bytes(self._held)
        self._held.clear()
        return rest

    def end_in(self, data: bytes) -> int:
        """Where the last complete event ends; 0 where none does."""
        end = data.rfind(b"\n\n") + 2
        if b"\r" in data:
            end = max(end, data.rfind(b"\n\r") + 2, data.rfind(b"\r\r") + 2)
            if data[end - 1 : end + 1] == b"\r\n":
                end += 1
        return end if end > 1 else 0
