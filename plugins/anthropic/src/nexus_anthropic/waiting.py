"""What cannot be written yet: Anthropic's blocks come one after another, and servers of other dialects mix their calls.

Every event is put down once and taken up once, however many calls there are and however small their pieces.  A call that never ends
makes all that follows wait: how much that may be is in `nexus.dialects.held`.  How blocks are written is in `stream_out`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from nexus.dialects.canonical import (
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
)
from nexus.dialects.held import EACH, EACH_CALL, Held

_MANY = 256  # events of a block that are written one by one
_LARGE = 16 * 1024  # characters


class Waiting:
    """What waits for the open call, in blocks: a call with its pieces, or what stands between two calls."""

    __slots__ = ("_blocks", "_calls", "_held")

    def __init__(self, held: Held) -> None:
        self._held = held
        self._blocks: deque[list[StreamEvent]] = deque()
        self._calls: dict[int, list[StreamEvent]] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def put(self, event: StreamEvent) -> None:
        """Raises as `Held.add`."""
        self._held.add(*_weight(event))
        if isinstance(event, ToolCallStart):
            self._calls[event.index] = [event]
            self._blocks.append(self._calls[event.index])
        elif isinstance(event, ToolCallDelta) and event.index in self._calls:
            self._calls[event.index].append(event)
        elif self._blocks and not isinstance(self._blocks[-1][0], ToolCallStart):
            self._blocks[-1].append(event)
        else:
            self._blocks.append([event])

    def take(self) -> list[StreamEvent]:
        """The block that began first.  What came in very many small pieces is in few large ones, for all of it is written at one time."""
        block = self._blocks.popleft()
        if isinstance(block[0], ToolCallStart):
            del self._calls[block[0].index]
        for event in block:
            self._held.let_go(*_weight(event))
        return (
            block if len(block) < _MANY else [joined for kind, run in groupby(block, type) for joined in _joined(kind, list(run))]
        )


def _joined(kind: type, run: list[Any]) -> list[StreamEvent]:
    if kind is ToolCallDelta:
        return [ToolCallDelta(index=run[0].index, arguments=piece) for piece in _pieces([event.arguments for event in run])]
    if kind is TextDelta or kind is ReasoningDelta:
        return [kind(text=piece) for piece in _pieces([event.text for event in run])]
    return run


def _pieces(texts: list[str]) -> Iterator[str]:
    whole = "".join(texts)
    return (whole[at : at + _LARGE] for at in range(0, len(whole), _LARGE))


def _weight(event: StreamEvent) -> tuple[str, int]:
    match event:
        case TextDelta() | ReasoningDelta():
            return event.text, EACH
        case ToolCallDelta():
            return event.arguments, EACH
        case ToolCallStart():
            return event.id + event.name, EACH_CALL
        case ReasoningSignature():
            return event.signature, EACH
        case RedactedReasoning():
            return event.data, EACH
    return "", EACH
