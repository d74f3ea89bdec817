"""A streamed reply in the canonical form, and what reads and writes one.  What is the same for all that read is in `decoding`."""

from __future__ import annotations

import abc

import attrs

from nexus.dialects.canonical.failure import Failure
from nexus.dialects.canonical.reply import FinishReason
from nexus.model import Usage


@attrs.frozen(kw_only=True)
class Begin:
    """The first event of every stream, exactly once.  "" where the server did not say."""

    model: str = ""


@attrs.frozen(kw_only=True)
class TextDelta:
    """A piece of the answer; never empty."""

    text: str


@attrs.frozen(kw_only=True)
class RefusalDelta(TextDelta):
    """A piece of what the model says where it will not answer: to a dialect without a place for that, a piece of the answer."""


@attrs.frozen(kw_only=True)
class ReasoningDelta:
    """A piece of thinking; never empty."""

    text: str


@attrs.frozen(kw_only=True)
class ReasoningSignature:
    """The signature of the thinking so far; ends that block."""

    signature: str


@attrs.frozen(kw_only=True)
class RedactedReasoning:
    """A whole block of thinking that only its maker can read."""

    data: str


@attrs.frozen(kw_only=True)
class ToolCallStart:
    """A tool call begins.  `index` counts the calls of the reply from 0, in the order of their starts; `id` is never empty."""

    index: int
    id: str
    name: str


@attrs.frozen(kw_only=True)
class ToolCallDelta:
    """A piece of the arguments' JSON text; never empty, and only after the call's start.  Calls may interleave."""

    index: int
    arguments: str


@attrs.frozen(kw_only=True)
class UsageSeen:
    """The totals so far; the last one holds.  As in `Answer`, `input_tokens` includes the cached part."""

    usage: Usage


@attrs.frozen(kw_only=True)
class Finish:
    """Why the model stopped; at most once, nothing but `UsageSeen` comes after it."""

    reason: FinishReason
    stop_sequence: str | None = None


StreamEvent = (
    Begin
    | TextDelta
    | ReasoningDelta
    | ReasoningSignature
    | RedactedReasoning
    | ToolCallStart
    | ToolCallDelta
    | UsageSeen
    | Finish
    | Failure
)


class StreamDecoder(abc.ABC):
    """Bytes of one stream in, events out.  How the bytes are cut changes nothing.

    `ending` is true while all seems to be said, and only the last event is missing.  `over` turns true with the stream's last event or a `Failure`: no more is read, and `finish` is called at once.
    """

    ending: bool = False
    over: bool = False

    @abc.abstractmethod
    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that are complete now.  What cannot be read is a `Failure`; unknown events are passed over."""

    @abc.abstractmethod
    def finish(self) -> list[StreamEvent]:
        """The stream is over, or its body has ended: what was still held back.  Raises BackendError("cut") where the proper last event
        is missing; after a `Failure` there is nothing more to say."""


class StreamEncoder(abc.ABC):
    """Events of one stream in, bytes out: complete events of the dialect only.

    Both verbs raise BackendError("malformed") for what the dialect has no form for (arguments that must be an object).
    """

    @abc.abstractmethod
    def encode(self, event: StreamEvent) -> bytes:
        """The bytes for one event; b"" where the dialect says it later, or never.  It is not asked to encode a `Failure`."""

    @abc.abstractmethod
    def finish(self) -> bytes:
        """What ends the stream properly: all that was held back (finish reason, usage) and the last event."""
