"""The tool calls of a translated reply, as the client may see them.  What a call says is read by the server's dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import attrs

from nexus.dialects.canonical import Conversation, Part, ToolCall, ToolCallStart, ToolResult, made_call_id
from nexus.model import EMPTY

C = TypeVar("C", ToolCall, ToolCallStart)


def ids_in(conversation: Conversation) -> frozenset[str]:
    """The ids of all calls that the conversation knows."""
    parts = [part for message in conversation.messages for part in message.parts]
    called = [part.id for part in parts if isinstance(part, ToolCall)]
    return frozenset(called + [part.call_id for part in parts if isinstance(part, ToolResult)])


class Calls:
    """Gives each call of one reply an id that no other call of its conversation has.

    Many servers count their calls anew in every answer (`call_0`), and clients and Anthropic's API take one id for one call.  An id
    that is unique stays: some servers find out of their own ids which call it was (`functions.get_weather:3`).
    `names` are the tools that were asked for under another name than the client's, and the client's.
    """

    __slots__ = ("_names", "_used")

    def __init__(self, used: Iterable[str] = (), names: Mapping[str, str] = EMPTY) -> None:
        self._used = set(used)
        self._names = names

    def seen(self, call: C) -> C:
        """The call as the client may see it; to be asked once for each, in their order."""
        id = call.id if call.id and call.id not in self._used else made_call_id()
        self._used.add(id)
        name = self._names.get(call.name, call.name)
        return call if (id, name) == (call.id, call.name) else attrs.evolve(call, id=id, name=name)

    def all_seen(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of a whole reply, its calls as the client may see them."""
        return tuple([self.seen(part) if isinstance(part, ToolCall) else part for part in parts])
