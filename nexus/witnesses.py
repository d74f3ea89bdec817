"""Events on their way to the observers, one turn of the loop at a time.  What an observer makes of one is its own business."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from nexus.api import Observer
from nexus.errors import CRASHES_OF_A_CALL
from nexus.model import Event

LOG = logging.getLogger("nexus")


class Witnesses:
    """Shows the observers what has happened as soon as the present turn of the loop is over.

    They see what happened in one turn together: that is quicker, and no request waits for them.  Who sees events of a type is looked
    up once: for each event anew it would cost a request 1 µs more.
    """

    def __init__(self) -> None:
        self._observers: tuple[tuple[str, Observer], ...] = ()
        self._seers: dict[type[Event], tuple[tuple[str, Callable[[Event], None]], ...]] = {}
        self._unseen: list[Event] = []
        self._soon = asyncio.get_running_loop().call_soon

    def call(self, observers: Iterable[tuple[str, Observer]]) -> None:
        """From now on these, by name, are shown what happens."""
        self._observers = tuple(observers)
        self._seers.clear()

    def tell(self, event: Event) -> None:
        """Something has happened."""
        if not self._unseen:
            self._soon(self.show)
        self._unseen.append(event)

    def show(self) -> None:
        """Show what has not been seen yet.  A failing observer changes nothing."""
        events, self._unseen = self._unseen, []
        for event in events:
            for name, see in self._seers.get(type(event)) or self._seers_of(type(event)):
                try:
                    see(event)
                except CRASHES_OF_A_CALL:
                    LOG.exception("the observer %s failed", name)

    def _seers_of(self, kind: type[Event]) -> tuple[tuple[str, Callable[[Event], None]], ...]:
        found = []
        for name, observer in self._observers:
            try:
                if issubclass(kind, tuple(observer.sees)):
                    found.append((name, observer.see))
            except CRASHES_OF_A_CALL:
                LOG.exception("the observer %s failed", name)
        self._seers[kind] = tuple(found)
        return self._seers[kind]
