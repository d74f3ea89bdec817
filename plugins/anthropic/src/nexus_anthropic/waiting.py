"""What cannot be written yet: Anthropic's blocks come one after another, and servers of other dialects mix their calls.

Every event is put down once and taken up once, however many calls there are and however small their pieces.  How blocks are
written is in `stream_out`.
"""

from __future__ import annotations

from collections import deque

from nexus.dialects.canonical import StreamEvent, ToolCallDelta, ToolCallStart


class Waiting:
    """What waits for the open call, in blocks: a call with its pieces, or what stands between two calls."""

    __slots__ = ("_blocks", "_calls")

    def __init__(self) -> None:
        self._blocks: deque[list[StreamEvent]] = deque()
        self._calls: dict[int, list[StreamEvent]] = {}

    def __bool__(self) -> bool:
        return bool(self._blocks)

    def put(self, event: StreamEvent) -> None:
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
        return block
