"""The tool calls of an OpenAI stream, put together from their pieces.  Everything else of a stream is in `openai_stream`.

Which call a piece belongs to, servers say in many ways: by its place, by its id, by both, or by a name alone.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.dialects.arguments import Arguments
from nexus.dialects.canonical import StreamEvent, ToolCallDelta, ToolCallStart, made_call_id
from nexus.dialects.held import EACH_CALL, Held
from nexus.dialects.openai_content import arguments_text
from nexus.errors import BackendError

NAMELESS = "the backend sent a tool call without a name"


class Function(msgspec.Struct):
    """`arguments` is text; a few servers send the object, and some null for none."""

    name: str | None = None
    arguments: Any = msgspec.UNSET


class Piece(msgspec.Struct):
    """A call, or more of one."""

    index: int | None = None
    id: str | None = None
    function: Function | None = None


_NOTHING = Function()


class _Call:
    """A call that has begun.  Its name may go on while it is `open`: nobody has been told of it yet."""

    __slots__ = ("arguments", "id", "name", "number", "open", "told_none")

    def __init__(self, number: int, id: str, name: str, held: Held, *, open: bool) -> None:
        self.number = number
        self.id = id  # "" where the server gave none
        self.name = name
        self.open = open
        self.told_none = False  # null for arguments: there are none
        self.arguments = Arguments(held)

    def goes_on(self, id: str | None, name: str, piece: str, *, beside: bool) -> bool:
        """Whether a piece with a name, at this call's place, is more of it; else it is a new call.

        `beside`: the call began in the same event.  Some servers repeat the name in every piece, or tell it in several.
        """
        if beside and not id:
            return False
        if self.open:
            return True
        if name != self.name or (self.told_none and not id):
            return False
        return not self.arguments.complete or (bool(id) and piece in ("", self.arguments.text))


class ToolCalls:
    """Reads the pieces of one stream."""

    __slots__ = ("_at", "_by_id", "_calls", "_held", "_open")

    def __init__(self) -> None:
        self._at: dict[int | None, _Call] = {}  # by the server's index: the last one there
        self._by_id: dict[tuple[int | None, str], _Call] = {}
        self._calls: list[_Call] = []
        self._held = Held()
        self._open: _Call | None = None  # nobody has been told of it yet

    def __bool__(self) -> bool:
        return bool(self._calls)

    def read(self, pieces: list[Piece], out: list[StreamEvent]) -> None:
        """Put out what an event says of its calls.  Raises BackendError: "malformed" for one without a name, "too_large" for more than
        anybody keeps."""
        began = len(self._calls)
        for piece in pieces:
            function = piece.function or _NOTHING
            said = "" if function.arguments is msgspec.UNSET else arguments_text(function.arguments)
            call = self._call(piece, function, said, began)
            if self._open is not call:  # what began first is told first
                self._tell(out)
                self._open = call if call.open else None
            if function.arguments is not msgspec.UNSET:
                self._tell(out)
                call.told_none = call.told_none or (function.arguments is None and bool(function.name))
            if said and not (function.name and call.arguments.complete):  # a whole call that is told again says nothing new
                call.arguments.add(said)
                out.append(ToolCallDelta(index=call.number, arguments=said))

    def finish(self, out: list[StreamEvent]) -> None:
        """Put out a call of which nobody has been told yet."""
        self._tell(out)

    def _call(self, piece: Piece, function: Function, said: str, began: int) -> _Call:
        name, at = function.name, self._at.get(piece.index)
        if piece.id and (at is None or at.id != piece.id):
            known = self._by_id.get((piece.index, piece.id))
            at = known or (None if name else at)  # some servers give each piece an id of its own
        if not name:
            if at is None and self._calls and (piece.index is None or None in self._at):
                at = self._calls[-1]
            if at is None:
                raise BackendError("malformed", NAMELESS)
            return at
        if at is None or not at.goes_on(piece.id, name, said, beside=at.number >= began):
            return self._begin(piece, name)
        if at.open and name != at.name:
            self._held.add(name)
            at.name = name if name.startswith(at.name) else at.name + name
        return at

    def _begin(self, piece: Piece, name: str) -> _Call:
        self._held.add(name + (piece.id or ""), EACH_CALL)
        call = self._at[piece.index] = _Call(len(self._calls), piece.id or "", name, self._held, open=True)
        self._calls.append(call)
        if piece.id:
            self._by_id[piece.index, piece.id] = call
        return call

    def _tell(self, out: list[StreamEvent]) -> None:
        call, self._open = self._open, None
        if call is not None:
            call.open = False
            out.append(ToolCallStart(index=call.number, id=call.id or made_call_id(), name=call.name))
