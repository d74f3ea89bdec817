"""A decoder to begin a dialect's own from: what is the same for every stream that is translated.

Its subclasses are the hot path of translation: one call of `take` for each event.  No dialect's words live here, and what
passes through untranslated is in `watching`.
"""

from __future__ import annotations

import abc

from nexus.dialects.canonical import Begin, Failure, StreamDecoder, StreamEvent
from nexus.dialects.sse import Splitter
from nexus.errors import BackendError


class EventDecoder(StreamDecoder):
    """A stream of events.  It holds back half events, and tells a cut from an end.

    A subclass puts what it reads into `out`, sets `ended` once the stream may end, and `over` where nothing that follows is
    looked at any more; that is an end too.  `framing` says where events end: server-sent events, or
    `nexus.dialects.lines.Lines`.
    """

    __slots__ = ("_frames", "begun", "ended", "out", "over")

    framing: type[Splitter] = Splitter

    def __init__(self) -> None:
        self.out: list[StreamEvent] = []
        self.begun = False
        self.ended = False
        self.over = False
        self._frames = self.framing()

    def feed(self, data: bytes) -> list[StreamEvent]:
        for event in self._frames.events(self._frames.feed(data)):
            if self.over:
                break
            self.take(event)
        out, self.out = self.out, []
        return out

    def finish(self) -> list[StreamEvent]:
        rest = self._frames.rest()
        if rest.strip() and not self.over:
            self.take(rest)  # the last boundary may be missing; half an event cannot be read
            if any(isinstance(event, Failure) and event.code == "malformed" for event in self.out):
                raise BackendError("cut", "the stream ended in the middle of an event")
        if not self.ended and not self.over:
            raise BackendError("cut", "the stream ended without its last event")
        out, self.out = self.out, []
        return out

    @abc.abstractmethod
    def take(self, event: bytes) -> None:
        """Read one event, which may carry no data at all."""

    def begin(self, id: str = "", model: str = "") -> None:
        """The first event that is put out; later calls do nothing."""
        if not self.begun:
            self.begun = True
            self.out.append(Begin(id=id, model=model))

    def fail(self, message: str, code: str = "error_event") -> None:
        """The server said that it failed, or (code "malformed") what cannot be read: nothing comes after it."""
        self.over = True
        self.out.append(Failure(message=message, code=code))
