"""A request in the canonical form, and who it is written for.  What its messages hold is in `content`."""

from __future__ import annotations

import enum
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

from nexus.dialects.canonical.content import Part
from nexus.model import ANYTHING, Accepts


class Role(enum.StrEnum):
    """Who speaks.  A `system` message may stand anywhere; a `tool` message holds nothing but `ToolResult`s."""

    SYSTEM = "system"
    USER = "user"
    ASSISTANT = "assistant"
    TOOL = "tool"


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


ANY_NAME = "answer"
"""What a JSON schema is called where nobody gave it a name and a dialect needs one."""


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
    must name a bound.  `room` is how many tokens likely fit into the model's context beside the prompt, where known: some
    servers reject a larger bound.  `home` marks a server that runs models itself: such servers take fields that the dialect's own
    cloud rejects (OpenAI's has no `top_k`), and often have templates that accept no system message but the first.
    `thinks` is whether the model reasons, `image_urls` whether pictures are taken by their address; None is unknown.
    `takes_usage` is whether a stream may be asked for its usage.  `accepts` is what servers of its kind take: the conversation has
    been made to fit it, and a dialect need not look.
    """

    model: str
    max_output_tokens: int | None = None
    room: int | None = None
    home: bool = False
    thinks: bool | None = None
    image_urls: bool | None = None
    takes_usage: bool = True
    accepts: Accepts = ANYTHING


def must_call(conversation: Conversation) -> bool:
    """Whether the model is told to call a tool: without tools, that is an order that no dialect has words for."""
    choice = conversation.tool_choice
    return choice is not None and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED)


def joined(messages: Iterable[Message]) -> tuple[Message, ...]:
    """The same turns with neighbours of one role made one message."""
    turns = []
    for _, run in itertools.groupby(messages, lambda message: message.role):
        first, *more = run
        parts = itertools.chain(first.parts, *(message.parts for message in more))
        turns.append(attrs.evolve(first, parts=tuple(parts)) if more else first)
    return tuple(turns)
