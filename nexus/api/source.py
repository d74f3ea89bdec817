"""A way to find servers."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator

from nexus.model import Sighting


class Source(abc.ABC):
    """A way to find servers."""

    @abc.abstractmethod
    def watch(self) -> AsyncIterator[Sighting]:
        """Yields what is found and lost, for as long as it is iterated.

        An exception is logged and shown in `/health`; what was found stays, and `watch` is called anew after 1, 2, 4 … at most 30
        seconds.
        """
