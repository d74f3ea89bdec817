"""A decoder to begin a dialect's own from: what is the same for every stream that is translated.

Its subclasses are the hot path of translation: one call of `take` for each event.  No dialect's words live here, and what
passes through untranslated is in `watching`.
"""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

from nexus.dialects.canonical import Begin, Failure, FailureKind, StreamDecoder, StreamEvent
from nexus.dialects.failures import told_in, value_in
from nexus.dialects.halves import Halves, torn
from nexus.dialects.jsontext import BOM
from nexus.dialects.sse import ERROR, MUCH_BYTES, Splitter
from nexus.dialects.weight import check_events
from nexus.errors import BackendError


class EventDecoder(StreamDecoder):
    """A stream of events.  It holds back half events, tells a cut from an end, and knows an event that is named an error for one.

    A subclass puts what it reads into `out`, sets `ended` once the stream may end, `ending` where nothing but its last event should
    come, and `over` where nothing that follows is
    looked at any more; that is an end too.  `framing` says where events end: server-sent events, or
    `nexus.dialects.lines.Lines`.  `kinds` are the dialect's words for kinds of errors.
    """

    __slots__ = ("_frames", "_halves", "begun", "ended", "ending", "out", "over")

    framing: type[Splitter] = Splitter
    kinds: Mapping[str, FailureKind] = {}

    def __init__(self) -> None:
        self.out: list[StreamEvent] = []
        self.begun = False
        self.ended = False
        self.ending = False
        self.over = False
        self._frames = self.framing()
        self._halves: Halves | None = None

    def feed(self, data: bytes) -> list[StreamEvent]:
        ready = self._frames.feed(data)
        if len(ready) > MUCH_BYTES:
            check_events(self._frames.events(ready))
        if not self.begun:
            ready = ready.removeprefix(BOM)
        for event in self._frames.events(ready):
            if self.over:
                break
            self._read(event)
        out, self.out = self.out, []
        return out if self._halves is None else self._joined(out)

    def finish(self) -> list[StreamEvent]:
        rest = self._frames.rest()
        if not self.begun:
            rest = rest.removeprefix(BOM)
        if rest.strip() and not self.over:
            self._read(rest)  # the last boundary may be missing; half an event cannot be read
            if any(isinstance(event, Failure) and event.code == "malformed" for event in self.out):
                raise BackendError("cut", "the stream ended in the middle of an event")
        if not self.ended and not self.over:
            raise BackendError("cut", "the stream ended without its last event")
        if self.ended:
            self.end()
        out, self.out = self.out, []
        return out if self._halves is None else [*self._halves.joined(out), *self._halves.rest()]

    @abc.abstractmethod
    def take(self, event: bytes) -> None:
        """Read one event, which may carry no data at all."""

    def end(self) -> None:
        """Put out what is only known once the stream has ended properly."""

    def begin(self, model: str = "") -> None:
        """The first event that is put out; later calls do nothing."""
        if not self.begun:
            self.begun = True
            self.out.append(Begin(model=model))

    def fail(self, message: str, code: str = "error_event", kind: FailureKind = FailureKind.SERVER) -> None:
        """The server said that it failed, or (code "malformed") what cannot be read: nothing comes after it."""
        self.over = True
        self.ended = False
        self.out.append(Failure(message=message, code=code, kind=kind))

    def fail_by(self, value: Any) -> None:
        """The same, by the value of an event that is an error."""
        self.fail(told_in(value), kind=_kind_in(value, self.kinds))

    def torn(self, data: bytes) -> Any:
        """The value in data that no typed decoder reads.  Characters that were cut in two are whole again in what is put out.

        Raises ValueError for what is no JSON.
        """
        value = torn(data)
        if self._halves is None:
            self._halves = Halves()
        return value

    def _read(self, event: bytes) -> None:
        if ERROR in event and self._frames.name_of(event) == ERROR:
            self.fail_by(value_in(self._frames.data_of(event)))
        else:
            self.take(event)

    def _joined(self, out: list[StreamEvent]) -> list[StreamEvent]:
        halves = self._halves
        assert halves is not None
        out = halves.joined(out)
        if not halves.waiting:
            self._halves = None
        return out


def _kind_in(value: Any, words: Mapping[str, FailureKind]) -> FailureKind:
    """The kind of an error: by its `type` or its `code`, if that is one of `words` or the number of a status."""
    inner = value.get("error") if isinstance(value, dict) else None
    error = inner if isinstance(inner, dict) else value
    if not isinstance(error, dict):
        return FailureKind.SERVER
    for said in (error.get("type"), error.get("code")):
        kind = words.get(said) if isinstance(said, str) else None
        if kind := kind or FailureKind.of_status(said):
            return kind
    return FailureKind.SERVER
