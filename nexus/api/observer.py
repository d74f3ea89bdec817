"""A witness of events, which can change nothing."""

from __future__ import annotations

import abc

from nexus.model import Event


class Observer(abc.ABC):
    """A witness.  What it raises is logged and changes nothing.  `sees` are the kinds of event that `see` is called for."""

    sees: tuple[type[Event], ...] = (Event,)

    @abc.abstractmethod
    def see(self, event: Event) -> None:
        """Count it, log it.  Must not block."""
