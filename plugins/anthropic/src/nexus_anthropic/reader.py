"""Reading one Anthropic reply as it passes: usage, errors, a proper end.  Holding back half events is in `nexus.dialects.watching`.

On the pass-through path this is the only code that sees every chunk: byte searches, and JSON only on a hit.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from nexus.api import BackendError, Usage
from nexus.dialects.failures import told_in
from nexus.dialects.jsontext import decoded, loads
from nexus.dialects.sse import data_of, events
from nexus.dialects.watching import BodyReader, EventReader
from nexus.model import completed
from nexus_anthropic.usage import merged, tells_output, usage_of

# A text that quotes these has its quotes escaped, so the search finds the events themselves only.
_PING = re.compile(rb'"type"\s*:\s*"ping"')
_GIVEN = re.compile(rb'"input"\s*:\s*\{\s*"')  # the arguments of a call, with its start
_USAGE = re.compile(rb'"usage"\s*:\s*\{')


class _Message(msgspec.Struct):
    usage: Any = None


class _Delta(msgspec.Struct):
    stop_reason: Any = None


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    delta: _Delta | None = None
    usage: Any = None


class _Whole(msgspec.Struct):
    content: list[msgspec.Raw] | None = None
    usage: Any = None


_event = msgspec.json.Decoder(_Event)
_whole = msgspec.json.Decoder(_Whole)


class StreamReader(EventReader):
    """A stream of one message.  Until its usage is complete, output tokens are counted as one for each delta."""

    __slots__ = ("_complete", "_counts", "_fickle")

    end_mark = b'"message_stop"'

    def __init__(self, estimate: int) -> None:
        super().__init__(estimate)
        self._counts: dict[str, int] = {}
        self._complete = False
        self._fickle = False  # content came after a stop reason

    def watch(self, ready: bytes) -> bytes:
        if b'"usage"' in ready:
            self._take_usage(ready)
        elif self.ending and b"content_block" in ready:
            self.ending, self._fickle = False, True
        # the event's own type, and its delta's
        self.pieces += ready.count(b'_delta"') // 2 or len(_GIVEN.findall(ready))
        return ready

    def error_in(self, data: bytes) -> str | None:
        return error_in(data)

    def is_last(self, data: bytes) -> bool:
        try:
            return _event.decode(data).type == "message_stop"
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False

    def opens(self, event: bytes) -> bytes | None:
        """A ping says only that the server lives: what comes after it may still be an error."""
        data = data_of(event)
        return None if data is None or _PING.search(data) else data

    def usage(self) -> Usage:
        said = usage_of(self._counts, begins=not self._complete)
        if said.source == "reported" or not self.begun:
            return said
        written = max(self._counts.get("output_tokens", 0), self.pieces)
        return completed(said, Usage(input_tokens=self.estimate, output_tokens=written, source="counted"))

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
                self._complete = self._complete or tells_output(found.usage)
            if found.delta is not None and found.delta.stop_reason:
                self.ending = not self._fickle


class WholeReader(BodyReader):
    """A whole message."""

    __slots__ = ()

    def read(self, body: bytes) -> Usage | None:
        if (said := error_in(body)) is not None:
            raise BackendError("error_event", said, sent=True)
        try:
            whole = decoded(_whole, body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BackendError("malformed", "the answer is not a message") from None
        self.check(whole.content)
        return self.usage_of(whole.usage)

    def check(self, content: list[msgspec.Raw] | None) -> None:
        """Raises BackendError("malformed") where the answer says nothing that a client reads."""
        if content is None:
            raise BackendError("malformed", "the answer holds no message", sent=True)

    def usage_of(self, said: Any) -> Usage | None:
        counts = merged({}, said)
        return usage_of(counts) if any(counts.values()) else None


class CountReader(WholeReader):
    """A count of tokens, which costs none."""

    __slots__ = ()

    def check(self, content: list[msgspec.Raw] | None) -> None:
        """A count has no content."""

    def usage(self) -> Usage:
        return Usage(source="reported" if self.begun else "unknown")


def error_in(data: bytes) -> str | None:
    """The sentence of an event or a body that is an error, also in OpenAI's shape; None for any other."""
    if b'"error"' not in data:
        return None
    try:
        value = loads(data)
    except ValueError:
        return None
    if not isinstance(value, dict) or not (value.get("type") == "error" or (value.get("error") and "type" not in value)):
        return None
    return told_in(value)
