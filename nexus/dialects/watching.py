"""Readers to begin a dialect's own from: what is the same for every stream of events, and for every body of JSON.

This is the pass-through path, where every chunk is seen: byte searches, and JSON only on a hit.  No dialect's words live here,
and nothing is translated (`decoding`).
"""

from __future__ import annotations

import abc
import json
import re
from typing import Any

from nexus.api import Reader
from nexus.dialects.sse import Splitter
from nexus.errors import BackendError
from nexus.model import Usage

_KEPT = 1024 * 1024
_TAIL = 8192  # enough for an event that is an error
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
_NOTHING = Usage()
_decoder = json.JSONDecoder()


class _Watcher(Reader):
    """What is counted where nothing is reported: `pieces` is an estimate of the tokens that were written, `estimate` of the prompt's."""

    __slots__ = ("begun", "error", "estimate", "pieces", "reported")

    def __init__(self, estimate: int) -> None:
        self.begun = False
        self.error: str | None = None
        self.estimate = estimate
        self.pieces = 0
        self.reported: Usage | None = None

    def usage(self) -> Usage:
        if self.reported is not None:
            return self.reported
        if not self.begun:
            return _NOTHING
        return Usage(input_tokens=self.estimate, output_tokens=max(self.pieces, 0), source="counted")


class EventReader(_Watcher):
    """A stream of events.  It holds back half events, sees whether the first one is an error, and tells a cut from an end.

    A subclass sets `ended` once the stream may end, `reported` where it finds the usage, and adds to `pieces` what counts as a
    token where it finds none.  `estimate` is the likely tokens of the prompt.  `framing` says where events end: server-sent
    events, or `nexus.dialects.lines.Lines`.  Events without the bytes `error_mark` are never asked whether they are errors, but
    for the first.
    """

    __slots__ = ("_frames", "_last", "ended")

    framing: type[Splitter] = Splitter
    error_mark: bytes = b'"error"'

    def __init__(self, estimate: int) -> None:
        super().__init__(estimate)
        self.ended = False
        self._frames = self.framing()
        self._last = b""

    def feed(self, data: bytes) -> bytes:
        ready = self._frames.feed(data)
        if not ready:
            return ready
        if not self.begun:
            self._first(ready)
        # thousands of streams may be open: keep only what may be asked for
        self._last = ready[-_TAIL:] if self.error_mark in ready else b""
        return self.watch(ready)

    def finish(self) -> bytes:
        rest = self._frames.rest()
        if rest.strip():
            rest = self._completed(rest)
        if self.ended:
            return rest
        data = map(self._frames.data_of, self._frames.events(self._last))
        if any(self.error_in(event) for event in data if event is not None):
            raise BackendError("error_event", "the backend ended the stream with an error")
        raise BackendError("cut", "the stream ended without its last event")

    @abc.abstractmethod
    def watch(self, ready: bytes) -> bytes:
        """Look at a block of complete events, never empty; what may go on of it.  Called for every chunk: it must be quick."""

    @abc.abstractmethod
    def error_in(self, data: bytes) -> str | None:
        """The sentence of an event that is an error; None for any other event."""

    @abc.abstractmethod
    def is_last(self, data: bytes) -> bool:
        """Whether this is the whole data of an event with which a stream may end."""

    def opens(self, event: bytes) -> bytes | None:
        """The data of an event with which the reply begins; None for one that says only that the server lives."""
        return self._frames.data_of(event)

    def _first(self, ready: bytes) -> None:
        for event in self._frames.events(ready):
            data = self.opens(event)
            if data is not None:
                self.begun = True
                self.error = self.error_in(data)
                return

    def _completed(self, rest: bytes) -> bytes:
        """The last event may lack its boundary; half of one is a cut."""
        data = self._frames.data_of(rest)
        if data is None or not self.is_last(data):
            raise BackendError("cut", "the stream ended in the middle of an event")
        return self.watch(rest + self._frames.boundary)


class BodyReader(_Watcher):
    """A reply that is one body of JSON.  Of a very large one only the end is kept, and the last `usage` in it is the one that counts."""

    __slots__ = ("_kept", "_size")

    def __init__(self, estimate: int) -> None:
        super().__init__(estimate)
        self._kept = bytearray()
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        self.begun = True
        self._size += len(data)
        self.pieces = self._size // 8
        self._kept += data
        if len(self._kept) > 2 * _KEPT:  # seldom: each cut moves all that stays
            del self._kept[:-_KEPT]
        return data

    def finish(self) -> bytes:
        kept = bytes(self._kept)
        self.reported = self.read(kept) if len(kept) == self._size else self.usage_of(_last_usage(kept))
        return b""

    @abc.abstractmethod
    def read(self, body: bytes) -> Usage | None:
        """The usage that a whole body reports.  Raises BackendError: "malformed", or "error_event" for an error under a 200."""

    @abc.abstractmethod
    def usage_of(self, said: Any) -> Usage | None:
        """The usage in what stands under `usage`; None where that is no usage."""


def _last_usage(tail: bytes) -> Any:
    """The last `usage` object in the end of a body."""
    found = list(_USAGE.finditer(tail))
    if not found:
        return None
    try:
        return _decoder.raw_decode(tail[found[-1].end() :].decode("utf-8", "replace"))[0]
    except (ValueError, RecursionError):
        return None
