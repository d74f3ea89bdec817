"""The canonical form: what every dialect can be read into and written from.  No wire format and no JSON shape lives here.

A request is a `Conversation`, a whole reply an `Answer`, a streamed reply a run of `StreamEvent`s.  The form carries what
dialects have in common; what one side says and the other cannot is a `Loss`, declared by the dialect that drops it.
"""

from __future__ import annotations

import abc
import enum
import os
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from nexus.model import NO_USAGE, Usage

# ---------------------------------------------------------------- losses


@attrs.frozen(kw_only=True)
class Loss:
    """Something that was said and cannot be carried over.

    `what` is a short stable word, most often the field's own name (`top_k`, `cache_control`); it goes into a header, so it
    never holds a client's text.  Where `meaning_changed`, the answer would be one to another question (a dropped image, a
    dropped tool): the request is refused instead.
    """

    what: str
    meaning_changed: bool = False


Losses = tuple[Loss, ...]


# ---------------------------------------------------------------- requests


class Role(enum.StrEnum):
    """Who speaks.  A `system` message may stand anywhere; a `tool` message holds nothing but `ToolResult`s."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


@attrs.frozen(kw_only=True)
class Text:
    """Words; readers make none that are empty.  `cache` marks the end of a prefix worth keeping, by how long ("5m", "1h"); None is no mark."""

    text: str
    cache: str | None = None


@attrs.frozen(kw_only=True)
class Image:
    """A picture: either `url`, or `data` in base64 with its `media_type` (`image/png`).  `detail` is low, high or auto."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None
    cache: str | None = None


@attrs.frozen(kw_only=True)
class Document:
    """A file to read: `url`, or `data` in base64 with its `media_type` (`application/pdf`), or plain `text`."""

    name: str | None = None
    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    text: str | None = None
    cache: str | None = None


@attrs.frozen(kw_only=True)
class ToolCall:
    """The model calls a tool.  `arguments` is JSON text as the model wrote it: it may be empty, or no JSON at all."""

    id: str
    name: str
    arguments: str = ""
    cache: str | None = None


@attrs.frozen(kw_only=True)
class ToolResult:
    """What the call `call_id` gave back."""

    call_id: str
    parts: tuple[Text | Image | Document, ...] = ()
    is_error: bool = False
    cache: str | None = None


@attrs.frozen(kw_only=True)
class Reasoning:
    """What the model thought.  `signature` proves it to who made it; `redacted` is thinking that only its maker can read."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


Part = Text | Image | Document | ToolCall | ToolResult | Reasoning


@attrs.frozen(kw_only=True)
class Message:
    """One turn.  Dialects write several messages of one role in a row as they need (`joined`)."""

    role: Role
    parts: tuple[Part, ...] = ()


@attrs.frozen(kw_only=True)
class Tool:
    """A function the model may call.  `schema` is the JSON schema of its arguments; None takes none."""

    name: str
    description: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None
    cache: str | None = None


class ToolMode(enum.StrEnum):
    """Whether tools are called: as the model likes, never, at least one, or the one that is named."""

    AUTO = "auto"
    NONE = "none"
    REQUIRED = "required"
    NAMED = "named"


@attrs.frozen(kw_only=True)
class ToolChoice:
    """`name` is set for `NAMED` only."""

    mode: ToolMode
    name: str | None = None


class Format(enum.StrEnum):
    """What the answer's text must be."""

    TEXT = "text"
    JSON_OBJECT = "json_object"
    JSON_SCHEMA = "json_schema"


@attrs.frozen(kw_only=True)
class ResponseFormat:
    """`name`, `description`, `schema` and `strict` belong to `JSON_SCHEMA`."""

    kind: Format
    name: str | None = None
    description: str | None = None
    schema: Mapping[str, Any] | None = None
    strict: bool | None = None


@attrs.frozen(kw_only=True)
class Thinking:
    """How much the model should reason.

    `enabled` None leaves it to the model (and a server that cannot reason is no worse for it), True asks for it, False
    forbids it.  `effort` is a word (minimal, low, medium, high, …), `budget_tokens` a bound; both may be None.
    """

    enabled: bool | None = None
    effort: str | None = None
    budget_tokens: int | None = None


@attrs.frozen(kw_only=True)
class Conversation:
    """A chat request.  None is "not said" everywhere; `model` is the name the client asked for.

    A reply carries one answer: every dialect declares `n` above 1 as a loss that changes the meaning.  `user` is an opaque id of the end user.  `wants_usage` says that a stream must end with its usage.
    """

    model: str
    messages: tuple[Message, ...] = ()
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tools: bool | None = None
    max_output_tokens: int | None = None
    stop: tuple[str, ...] = ()
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    response_format: ResponseFormat | None = None
    thinking: Thinking | None = None
    n: int = 1
    user: str | None = None
    stream: bool = False
    wants_usage: bool = False


@attrs.frozen(kw_only=True)
class Target:
    """Who a request is written for.

    `model` is the server's own id.  `max_output_tokens` is the most the model can write, where known: for dialects that
    must name a bound.  `room` is how many tokens surely fit into the model's context beside the prompt, where known: some
    servers reject a larger bound.  `home` marks a server that runs models itself: such servers take fields that the dialect's own
    cloud rejects (OpenAI's has no `top_k`), and often have templates that accept no system message but the first.
    `thinks` is whether the model reasons; None is unknown.  `takes_usage` is whether a stream may be asked for its usage.
    """

    model: str
    max_output_tokens: int | None = None
    room: int | None = None
    home: bool = False
    thinks: bool | None = None
    takes_usage: bool = True


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same turns with neighbours of one role made one message."""
    turns: list[Message] = []
    for message in messages:
        if turns and turns[-1].role is message.role:
            turns[-1] = attrs.evolve(turns[-1], parts=turns[-1].parts + message.parts)
        else:
            turns.append(message)
    return tuple(turns)


def made_call_id() -> str:
    """An id for a tool call that came without one.  Random: the same conversation may hold calls of many turns."""
    return f"call_{os.urandom(12).hex()}"


# ---------------------------------------------------------------- replies


class FinishReason(enum.StrEnum):
    """Why the model stopped.  `STOP_SEQUENCE` is only said where the server tells that it was one."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    STOP_SEQUENCE = "stop_sequence"


@attrs.frozen(kw_only=True)
class Answer:
    """A whole reply.  `usage.input_tokens` counts the whole prompt, the cached part of it included.

    `parts` are `Text`, `Reasoning` and `ToolCall`.  `id` and `model` are the server's own words, "" where it said none.
    """

    id: str = ""
    model: str = ""
    parts: tuple[Part, ...] = ()
    finish: FinishReason | None = None
    stop_sequence: str | None = None
    usage: Usage = NO_USAGE


@attrs.frozen(kw_only=True)
class ReplyContext:
    """What a reply is written with beside what the server said.

    `model` is the name of the model that answers, `created` seconds since the epoch.  `input_estimate` is in tokens, for
    dialects that name the prompt's length before the server does.
    """

    request_id: str
    model: str
    created: int = 0
    wants_usage: bool = False
    input_estimate: int = 0


# ---------------------------------------------------------------- streams


@attrs.frozen(kw_only=True)
class Begin:
    """The first event of every stream, exactly once.  "" where the server did not say."""

    id: str = ""
    model: str = ""


@attrs.frozen(kw_only=True)
class TextDelta:
    """A piece of the answer; never empty."""

    text: str


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


@attrs.frozen(kw_only=True)
class Failure:
    """The server ended the stream with an error, or sent what cannot be read (`code` "malformed").  Nothing comes after it."""

    message: str
    code: str = "error_event"


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
    """Bytes of one stream in, events out.  How the bytes are cut changes nothing."""

    @abc.abstractmethod
    def feed(self, data: bytes) -> list[StreamEvent]:
        """The events that are complete now.  What cannot be read is a `Failure`; unknown events are passed over."""

    @abc.abstractmethod
    def finish(self) -> list[StreamEvent]:
        """The body has ended: what was still held back.  Raises BackendError("cut") where the proper last event is missing; after
        a `Failure` there is nothing more to say."""


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
