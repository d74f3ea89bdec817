"""Characters that a server cut in two: the halves of a surrogate pair come in two deltas, each as an escape that no UTF-8 can hold.

Servers do so that cut a text by its UTF-16 units.  It is rare: whoever reads a stream comes here once an event cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any

import attrs

from nexus.dialects.canonical import Failure, Finish, ReasoningDelta, StreamEvent, TextDelta, ToolCallDelta, UsageSeen

_Delta = TextDelta | ReasoningDelta | ToolCallDelta
_Place = tuple[type[_Delta], int]
_WINDOW = 16 * 1024  # characters


def torn(data: bytes) -> Any:
    """The value, halves of pairs kept as they are: only `Halves` may see it.  Raises ValueError for what is no JSON, no UTF-8 or
    nested too deeply."""
    try:
        return json.loads(data.decode(), parse_constant=_no_number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Halves:
    """Puts halves together that follow each other in one text; a half that stays alone becomes U+FFFD.

    Texts are the answer, the thinking, and the arguments of each call.  Calls may interleave, so what one says leaves the others
    as they are; usage may come at any time.
    """

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held: dict[_Place, _Delta] = {}

    def joined(self, events: Iterable[StreamEvent]) -> list[StreamEvent]:
        """The events with whole characters only.  A half at the end of a delta waits for the next one."""
        out: list[StreamEvent] = []
        for event in events:
            place = _place(event)
            if not isinstance(event, UsageSeen):
                out += self.rest(but=place, calls=isinstance(event, Finish | Failure))
            if isinstance(event, _Delta) and place is not None:
                out += self._delta(place, event)
            else:
                out.append(_whole(event))
        return out

    def rest(self, *, but: _Place | None = None, calls: bool = True) -> list[StreamEvent]:
        """What nobody can complete any more, without `calls` but for their arguments; `but` may still go on."""
        ended = [place for place in self._held if place != but and (calls or place[0] is not ToolCallDelta)]
        return [_whole(self._held.pop(place)) for place in ended]

    @property
    def waiting(self) -> bool:
        return bool(self._held)

    def _delta(self, place: _Place, event: _Delta) -> list[StreamEvent]:
        before = self._held.pop(place, None)
        text = (_text(before) if before else "") + _text(event)
        if "\ud800" <= text[-1:] <= "\udbff":
            self._held[place] = _with(event, text[-1:])
            text = text[:-1]
        return [_with(event, _mended(text))] if text else []


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _place(event: StreamEvent) -> _Place | None:
    if isinstance(event, ToolCallDelta):
        return ToolCallDelta, event.index
    return (type(event), 0) if isinstance(event, TextDelta | ReasoningDelta) else None


def _text(event: _Delta) -> str:
    return event.arguments if isinstance(event, ToolCallDelta) else event.text


def _with(event: _Delta, text: str) -> _Delta:
    return attrs.evolve(event, arguments=text) if isinstance(event, ToolCallDelta) else attrs.evolve(event, text=text)


def _mended(text: str) -> str:
    """Halves that follow each other are one character, others none.  A window at a time, for there may be millions of them."""
    pieces, at = [], 0
    while at < len(text):
        end = at + _WINDOW
        if "\ud800" <= text[end - 1 : end] <= "\udbff":
            end -= 1  # it may be the first of two; whatever is before it is not
        pieces.append(text[at:end].encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))
        at = end
    return "".join(pieces)


def _whole(event: StreamEvent) -> StreamEvent:
    """The event without halves: names and ids come in one piece."""
    said = {name: _mended(value) if type(value) is str else value for name, value in attrs.asdict(event, recurse=False).items()}
    made: Callable[..., StreamEvent] = type(event)
    return made(**said)
