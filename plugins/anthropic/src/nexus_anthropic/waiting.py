"""What cannot be written yet: Anthropic's blocks come one after another, and servers of other dialects mix their calls.

Every event is put down once and taken up once, however many calls there are and however small their pieces.  A call that never ends
makes all that follows wait: how much that may be is in `nexus.dialects.held`.  How blocks are written is in `stream_out`.
"""

from __future__ import annotations

from collections import deque

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
        """The block that began first."""
        block = self._blocks.popleft()
        if isinstance(block[0], ToolCallStart):
            del self._calls[block[0].index]
        for event in block:
            self._held.let_go(*_weight(event))
        return block


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
