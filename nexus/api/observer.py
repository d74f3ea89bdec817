"""A witness of events, which can change nothing."""

from __future__ import annotations

import abc
from collections.abc import Callable

from nexus.model import Event


class Observer(abc.ABC):
    """A witness.  What it raises is logged and changes nothing.  `sees` are the kinds of event that `see` is called for."""

    sees: tuple[type[Event], ...] = (Event,)

    @abc.abstractmethod
    def see(self, event: Event) -> None:
        """Count it, log it.  Must not block."""

    def seer(self, kind: type[Event]) -> Callable[[Event], None] | None:
        """What is called with every event of this very type; None where it need not be seen.  Asked once for each type.

        To be overridden by an observer that does something else for each type: then nobody looks at types for every event.
        """
        return self.see if issubclass(kind, tuple(self.sees)) else None

    def rest(self) -> None:
        """Nothing is under way: what is kept may be kept in less memory.  Called now and then, or never; must not take long."""
