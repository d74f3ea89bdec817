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
from nexus.dialects.failures import told_in, value_in
from nexus.dialects.jsontext import BOM
from nexus.dialects.sse import ERROR, MUCH_BYTES, Splitter
from nexus.dialects.weight import check_events, is_light
from nexus.errors import BackendError
from nexus.model import NO_USAGE, Usage, completed

_KEPT = 1024 * 1024
_USAGE = re.compile(rb'"usage"\s*:\s*(?=\{)')
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
        said = self.reported or NO_USAGE
        if said.source == "reported" or not self.begun:
            return said
        return completed(said, Usage(input_tokens=self.estimate, output_tokens=max(self.pieces, 0), source="counted"))


class EventReader(_Watcher):
    """A stream of events.  It holds back half events, tells an error and a cut from an end, and passes nothing on after either.

    A subclass sets `ended` once the stream may end, `ending` where nothing but its last event should come, `reported` where it finds the usage, and adds to `pieces` what counts as a
    token where it finds none.  `estimate` is the likely tokens of the prompt.  `framing` says where events end: server-sent
    events, or `nexus.dialects.lines.Lines`.

    Where it is known what to look for, an event is spared up to 5 µs: those without the bytes `error_mark` are not asked whether they are
    errors, but for the first, and those without `end_mark` not whether they are the last.
    """

    __slots__ = ("_failed", "_frames", "ended", "ending", "over")

    framing: type[Splitter] = Splitter
    error_mark: bytes = ERROR
    end_mark: bytes = b""

    def __init__(self, estimate: int) -> None:
        super().__init__(estimate)
        self.ended = False
        self.ending = False
        self.over = False
        self._failed: str | None = None
        self._frames = self.framing()

    def feed(self, data: bytes) -> bytes:
        if self.over:
            return b""
        ready = self._frames.feed(data)
        if not ready:
            return ready
        if len(ready) > MUCH_BYTES:
            check_events(self._frames.events(ready))
        if not self.begun:
            ready = ready.removeprefix(BOM)
            self._first(ready)
        if self.end_mark in ready or self.error_mark in ready:
            ready = self._up_to_the_end(ready)
        return self.watch(ready)

    def finish(self) -> bytes:
        if self._failed is not None:
            raise BackendError("error_event", self._failed)
        rest = b"" if self.over else self._frames.rest()
        if not self.begun:
            rest = rest.removeprefix(BOM)
        if rest.strip():
            rest = self._completed(rest)
        if self.ended:
            return rest
        raise BackendError("cut", "the stream ended without its last event")

    @abc.abstractmethod
    def watch(self, ready: bytes) -> bytes:
        """Look at a block of complete events, never empty; what may go on of it.  Called for every chunk: it must be quick."""

    @abc.abstractmethod
    def error_in(self, data: bytes) -> str | None:
        """The sentence of an event whose data is an error; None for any other.  One that is named so (`event: error`) is one anyway."""

    @abc.abstractmethod
    def is_last(self, data: bytes) -> bool:
        """Whether this is the whole data of an event with which a stream may end."""

    def is_over(self, data: bytes) -> bool:
        """Whether nothing comes after an event with this data.  It is the same as `is_last` but where a dialect may have more to say."""
        return self.is_last(data)

    def opens(self, event: bytes) -> bytes | None:
        """The data of an event with which the reply begins; None for one that says only that the server lives."""
        return self._frames.data_of(event)

    def _first(self, ready: bytes) -> None:
        for event in self._frames.events(ready):
            if self.opens(event) is not None:
                self.begun = True
                self.error = self._said_by(event)
                return

    def _up_to_the_end(self, ready: bytes) -> bytes:
        """The block, but for what comes after the event that ends the stream."""
        end = 0
        for event in self._frames.events(ready):
            end += len(event)
            self._failed = self._said_by(event)
            if self._failed is not None:
                self.over = True
                return ready[:end]
            data = self._frames.data_of(event)
            if data is not None and self.end_mark in data and self.is_over(data):
                self.over = self.ended = True
                return ready[:end]
        return ready

    def _said_by(self, event: bytes) -> str | None:
        """The sentence of an event that is an error, by its data or by its name."""
        data = self._frames.data_of(event)
        said = None if data is None else self.error_in(data)
        if said is None and ERROR in event and self._frames.name_of(event) == ERROR:
            return told_in(value_in(data))
        return said

    def _completed(self, rest: bytes) -> bytes:
        """The last event may lack its boundary; half of one is a cut."""
        if (said := self._said_by(rest)) is not None:  # nobody has passed it on
            raise BackendError("cut", said)
        data = self._frames.data_of(rest)
        if data is None or not self.is_last(data):
            raise BackendError("cut", "the stream ended in the middle of an event")
        return self.watch(rest + self._frames.boundary)


class BodyReader(_Watcher):
    """A reply that is one body of JSON.  Of a very large one only the end is kept, and the last `usage` in it is the one that counts."""

    __slots__ = ("_held", "_kept", "_size")

    def __init__(self, estimate: int) -> None:
        super().__init__(estimate)
        self._kept: list[bytes] = []
        self._held = 0
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        self.begun = True
        self._size += len(data)
        self.pieces = self._size // 8
        self._kept.append(data)
        self._held += len(data)
        if self._held > 2 * _KEPT:  # seldom: each cut moves all that stays
            self._kept = [b"".join(self._kept)[-_KEPT:]]
            self._held = _KEPT
        return data

    def finish(self) -> bytes:
        kept = b"".join(self._kept)
        self.reported = self.read(kept) if self._held == self._size else self.usage_of(_last_usage(kept))
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
    end = tail[found[-1].end() :]
    if not is_light(end):
        return None
    try:
        return _decoder.raw_decode(end.decode("utf-8", "replace"))[0]
    except (ValueError, RecursionError):
        return None
