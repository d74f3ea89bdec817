"""The last requests, for `/nexus/requests` and `nexus explain --request`.  What is said of one is in `render`."""

from __future__ import annotations

import json
import logging
import zlib
from itertools import islice

from nexus.api import Clock, Observer
from nexus.model import Answered, Event, replace
from nexus.observers.render import Json, answered_json

LOG = logging.getLogger("nexus")
SIZE = 250
# A plan over a large fleet can hold thousands of objections; a usual one holds a handful.
OBJECTIONS_PER_ENTRY = 20


class Entry:
    """One request: the event as it came, or, since a quiet moment, what is said of it, packed."""

    __slots__ = ("objections", "told")

    def __init__(self, told: Answered | bytes, objections: int) -> None:
        self.told = told
        self.objections = objections


class History(Observer):
    """The last `size` answered requests by id; fewer where their plans are so large that they would fill the memory.

    Where two requests carry the same id, the later one is kept.  An event is forty objects and more, which lie between those of
    all that was under way at its time, and a single one keeps a megabyte around it.  In quiet moments each event is packed, and nothing
    stays where it was.
    """

    sees = (Answered,)

    def __init__(self, clock: Clock, size: int = SIZE) -> None:
        self._clock = clock
        self._size = size
        self._most_objections = size * OBJECTIONS_PER_ENTRY
        self._entries: dict[str, Entry] = {}
        self._objections = 0

    def see(self, event: Event) -> None:
        if type(event) is not Answered:
            return
        self._forget(event.request.id)
        objections = len(event.plan.objections) if event.plan is not None else 0
        self._entries[event.request.id] = Entry(event, objections)
        self._objections += objections
        while len(self._entries) > self._size or (self._objections > self._most_objections and len(self._entries) > 1):
            self._forget(next(iter(self._entries)))

    def pack(self) -> None:
        """Keep what is known by now in less memory.  Takes up to milliseconds for each request that has come since the last time."""
        self._entries = dict(self._packed(id, entry) for id, entry in self._entries.items())

    def _packed(self, id: str, entry: Entry) -> tuple[str, Entry]:
        if isinstance(entry.told, bytes):
            return id, entry
        return id.encode().decode(), Entry(zlib.compress(self._text(entry.told).encode()), entry.objections)  # another string

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, id: str) -> Json | None:
        """One request in full (`render.answered_json`), or None where it is not, or no longer, known."""
        entry = self._entries.get(id)
        return None if entry is None else self.told(entry)

    def latest(self, limit: int) -> list[Entry]:
        """The last requests, newest first, to be `told` one after the other: each takes up to milliseconds."""
        return list(islice(reversed(self._entries.values()), limit))

    def told(self, entry: Entry) -> Json:
        """One request in full (`render.answered_json`)."""
        text = zlib.decompress(entry.told) if isinstance(entry.told, bytes) else self._text(entry.told)
        said: Json = json.loads(text)
        return said

    def _text(self, event: Answered) -> str:
        """What is said of it; without its plan where that cannot be told, for a plugin's refusal may hold anything."""
        try:
            return json.dumps(answered_json(event, self._clock))
        except Exception:
            LOG.exception("the plan of the request %s cannot be told", event.request.id)
            return json.dumps(answered_json(replace(event, plan=None), self._clock))

    def _forget(self, id: str) -> None:
        entry = self._entries.pop(id, None)
        if entry is not None:
            self._objections -= entry.objections
