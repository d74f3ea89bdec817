"""The tool calls of a translated reply, as the client may see them.  What a call says is read by the server's dialect."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

import attrs

from nexus.dialects.arguments import may_say_nothing, say_nothing
from nexus.dialects.canonical import (
    Conversation,
    Part,
    StreamEvent,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolResult,
    made_call_id,
)
from nexus.model import EMPTY

C = TypeVar("C", ToolCall, ToolCallStart)


def ids_in(conversation: Conversation) -> frozenset[str]:
    """The ids of all calls that the conversation knows."""
    parts = [part for message in conversation.messages for part in message.parts]
    called = [part.id for part in parts if isinstance(part, ToolCall)]
    return frozenset(called + [part.call_id for part in parts if isinstance(part, ToolResult)])


class Calls:
    """Gives each call of one reply an id that no other call of its conversation has, and arguments that are something or nothing.

    Many servers count their calls anew in every answer (`call_0`), and clients and Anthropic's API take one id for one call.  An id
    that is unique stays: some servers find out of their own ids which call it was (`functions.get_weather:3`).
    `names` are the tools that were asked for under another name than the client's, and the client's.
    Servers have several words for no arguments (nothing, blanks, null), and to a client null is no object: it is told nothing, for which
    every dialect has its word.
    """

    __slots__ = ("_names", "_quiet", "_used")

    def __init__(self, used: Iterable[str] = (), names: Mapping[str, str] = EMPTY) -> None:
        self._used = set(used)
        self._names = names
        self._quiet: dict[int, str] = {}  # what calls have said that may still come to nothing

    def began(self, call: ToolCallStart) -> ToolCallStart:
        """As `seen`, of a stream."""
        self._quiet[call.index] = ""
        return self.seen(call)

    def goes_on(self, piece: ToolCallDelta) -> ToolCallDelta | None:
        """What a client is told of a piece of arguments; None while they may come to nothing."""
        before = self._quiet.get(piece.index)
        if before is None:
            return piece
        said = (before + piece.arguments).lstrip()
        if may_say_nothing(said):
            self._quiet[piece.index] = said.rstrip()
            return None
        del self._quiet[piece.index]
        return piece if said == piece.arguments else attrs.evolve(piece, arguments=said)

    def rest(self) -> list[StreamEvent]:
        """The stream has ended: what began as null does, and is not."""
        quiet, self._quiet = self._quiet, {}
        return [ToolCallDelta(index=index, arguments=said) for index, said in quiet.items() if not say_nothing(said)]

    def seen(self, call: C) -> C:
        """The call as the client may see it; to be asked once for each, in their order."""
        id = call.id if call.id and call.id not in self._used else made_call_id()
        self._used.add(id)
        name = self._names.get(call.name, call.name)
        return call if (id, name) == (call.id, call.name) else attrs.evolve(call, id=id, name=name)

    def all_seen(self, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        """The parts of a whole reply, its calls as the client may see them."""
        return tuple([self._whole(part) if isinstance(part, ToolCall) else part for part in parts])

    def _whole(self, call: ToolCall) -> ToolCall:
        return self.seen(attrs.evolve(call, arguments="") if call.arguments and say_nothing(call.arguments) else call)
