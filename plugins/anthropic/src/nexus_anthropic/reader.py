"""Reading one Anthropic reply as it passes: boundaries, usage, a first event that is an error, a proper end.

On the pass-through path this is the only code that sees every chunk: byte searches, and JSON only on a hit.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nexus.api import BackendError, Reader, Usage
from nexus.dialects.sse import Splitter, data_of, events
from nexus_anthropic.errors import said_in
from nexus_anthropic.jsontext import loads
from nexus_anthropic.usage import merged, usage_of

# A text that quotes these has its quotes escaped, so the search finds the events themselves only.
_STOPPED = re.compile(rb'"type"\s*:\s*"message_stop"')
_ERROR = re.compile(rb'"error"\s*:')
_PING = re.compile(rb'"type"\s*:\s*"ping"')
_USAGE = re.compile(rb'"usage"\s*:\s*(\{)')
_WHOLE_KEPT = 1024 * 1024
_TAIL = 8192  # enough for an event that is an error


class _Message(msgspec.Struct):
    usage: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    usage: Any = None


_event = msgspec.json.Decoder(_Event)
_whole = msgspec.json.Decoder(_Message)


class StreamReader(Reader):
    """A stream of one message.  Until its usage is complete, output tokens are counted as one for each delta."""

    __slots__ = ("_counts", "_deltas", "_ended", "_estimate", "_last", "_reported", "_split", "begun", "error")

    def __init__(self, estimate: int) -> None:
        self.begun = False
        self.error: str | None = None
        self._split = Splitter()
        self._estimate = estimate
        self._counts: dict[str, int] = {}
        self._reported = False
        self._deltas = 0
        self._last = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        ready = self._split.feed(data)
        if not ready:
            return ready
        if not self.begun:
            self._first(ready)
        if b'"usage"' in ready:
            self._take_usage(ready)
        self._deltas += ready.count(b'_delta"') // 2  # the event's own type, and its delta's
        self._ended = self._ended or (b'"message_stop"' in ready and _STOPPED.search(ready) is not None)
        self._last = ready[-_TAIL:] if b'"error"' in ready else b""
        return ready

    def finish(self) -> bytes:
        rest, self._split.held = self._split.held, b""
        if rest.strip():
            if not _is_last(rest):
                raise BackendError("cut", "the stream ended in the middle of an event")
            return rest + b"\n\n"
        if self._ended:
            return b""
        if any(error_in(data_of(event)) for event in events(self._last)):
            raise BackendError("error_event", "the backend ended the stream with an error")
        raise BackendError("cut", "the stream ended without its message_stop")

    def usage(self) -> Usage:
        if self._reported:
            return usage_of(self._counts)
        if not self.begun:
            return Usage()
        counts = {"input_tokens": self._estimate} if not self._counts.get("input_tokens") else {}
        return usage_of(
            {**self._counts, **counts, "output_tokens": max(self._counts.get("output_tokens", 0), self._deltas)}, "counted"
        )

    def _first(self, ready: bytes) -> None:
        """A ping says only that the server lives: what comes after it may still be an error."""
        for event in events(ready):
            data = data_of(event)
            if data is not None and not _PING.search(data):
                self.begun = True
                self.error = error_in(data)
                return

    def _take_usage(self, ready: bytes) -> None:
        for event in events(ready):
            if not _USAGE.search(event):
                continue
            try:
                found = _event.decode(data_of(event) or b"")
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                continue
            if found.message is not None:
                self._counts = merged(self._counts, found.message.usage)
            if isinstance(found.usage, dict):
                self._counts = merged(self._counts, found.usage)
                self._reported = True


class WholeReader(Reader):
    """A whole message."""

    __slots__ = ("_estimate", "_kept", "_size", "_usage", "begun", "error")

    def __init__(self, estimate: int) -> None:
        self.begun = False
        self.error: str | None = None
        self._estimate = estimate
        self._kept = b""
        self._size = 0
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        self.begun = True
        self._size += len(data)
        self._kept = (self._kept + data)[-_WHOLE_KEPT:] if self._kept else data
        return data

    def finish(self) -> bytes:
        said = self._in_tail() if len(self._kept) < self._size else self._in_all()
        if isinstance(said, dict):
            self._usage = usage_of(merged({}, said))
        return b""

    def usage(self) -> Usage:
        if self._usage is not None:
            return self._usage
        if not self.begun:
            return Usage()
        return Usage(input_tokens=self._estimate, output_tokens=self._size // 8, source="counted")

    def _in_all(self) -> Any:
        if (said := error_in(self._kept)) is not None:
            raise BackendError("error_event", said, sent=True)
        try:
            return _whole.decode(self._kept).usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BackendError("malformed", "the answer is not a JSON object") from None

    def _in_tail(self) -> Any:
        """The last usage object of an answer too large to be kept, where it is the last but for closing braces."""
        found = list(_USAGE.finditer(self._kept))
        tail = self._kept[found[-1].start(1) :].rstrip() if found else b""
        try:
            return loads(tail[:-1])
        except ValueError:
            return None


class CountReader(WholeReader):
    """A count of tokens, which costs none."""

    __slots__ = ()

    def usage(self) -> Usage:
        return Usage(source="reported" if self.begun else "unknown")


def _is_last(rest: bytes) -> bool:
    """Whether these bytes are a whole last event that only lacks its boundary."""
    data = data_of(rest)
    if data is None or not _STOPPED.search(data):
        return False
    try:
        return isinstance(loads(data), dict)
    except ValueError:
        return False


def error_in(data: bytes | None) -> str | None:
    """The sentence of an event that is an error, also in OpenAI's shape; None for any other event."""
    if data is None or not _ERROR.search(data):
        return None
    try:
        value = loads(data)
    except ValueError:
        return None
    if not isinstance(value, dict) or not value.get("error") or value.get("type") not in (None, "error"):
        return None
    return said_in(value)[:500]
