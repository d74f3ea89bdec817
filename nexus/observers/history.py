"""The last requests, for `/nexus/requests` and `nexus explain --request`.  It keeps events as they came; `render` says them."""

from __future__ import annotations

from nexus.api import Clock, Observer
from nexus.model import Answered, Event
from nexus.observers.render import Json, answered_json

SIZE = 250
# A plan over a large fleet can hold thousands of objections; a usual one holds a handful.
OBJECTIONS_PER_ENTRY = 20


class History(Observer):
    """The last `size` answered requests by id; fewer where their plans are so large that they would fill the memory.

    Where two requests carry the same id, the later one is kept.
    """

    sees = (Answered,)

    def __init__(self, clock: Clock, size: int = SIZE) -> None:
        self._clock = clock
        self._size = size
        self._most_objections = size * OBJECTIONS_PER_ENTRY
        self._events: dict[str, Answered] = {}
        self._objections = 0

    def see(self, event: Event) -> None:
        if type(event) is not Answered:
            return
        self._forget(event.request.id)
        self._events[event.request.id] = event
        self._objections += _weight(event)
        while len(self._events) > self._size or (self._objections > self._most_objections and len(self._events) > 1):
            self._forget(next(iter(self._events)))

    def __len__(self) -> int:
        return len(self._events)

    def event(self, id: str) -> Answered | None:
        """The event of one request, or None where it is not, or no longer, known."""
        return self._events.get(id)

    def get(self, id: str) -> Json | None:
        """One request in full (`render.answered_json`), or None."""
        event = self._events.get(id)
        return None if event is None else answered_json(event, self._clock)

    def recent(self, limit: int = 50) -> list[Json]:
        """The last requests in full, newest first."""
        newest = [event for event, _ in zip(reversed(self._events.values()), range(limit), strict=False)]
        return [answered_json(event, self._clock) for event in newest]

    def _forget(self, id: str) -> None:
        event = self._events.pop(id, None)
        if event is not None:
            self._objections -= _weight(event)


def _weight(event: Answered) -> int:
    return len(event.plan.objections) if event.plan is not None else 0
