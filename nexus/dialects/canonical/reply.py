"""A whole reply in the canonical form, and what one is written with.  Streamed ones are in `stream`."""

from __future__ import annotations

import enum

import attrs

from nexus.dialects.canonical.content import Part, made_id
from nexus.model import NO_USAGE, Usage


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

    `parts` are `Text`, `Reasoning` and `ToolCall`.  `model` is the server's own word, "" where it said none.  The server's id of the
    reply is not here: some servers repeat theirs.
    """

    model: str = ""
    parts: tuple[Part, ...] = ()
    finish: FinishReason | None = None
    stop_sequence: str | None = None
    usage: Usage = NO_USAGE


@attrs.frozen(kw_only=True)
class ReplyContext:
    """What a reply is written with beside what the server said.

    `id` is unique to the reply and without the dialect's prefix: clients take two replies of one id for one.  `model` is the name of
    the model that answers, `created` seconds since the epoch.  `input_estimate` is in tokens, for dialects that name the prompt's
    length before the server does.
    """

    request_id: str
    model: str
    created: int = 0
    wants_usage: bool = False
    input_estimate: int = 0
    id: str = attrs.field(factory=made_id)
