"""Who watches one reply of a dialect pass.  Reading a body into the canonical form is the dialect's own translation."""

from __future__ import annotations

import abc

from nexus.model import Usage


class Reader(abc.ABC):
    """Reads one reply as it passes: finds event boundaries, usage and a first event that is an error.

    `begun` turns true with the first complete event that carries data.  `error` is then set where that event is an error.
    """

    begun: bool = False
    error: str | None = None

    @abc.abstractmethod
    def feed(self, data: bytes) -> bytes:
        """The bytes that may go to the client now: complete events only, less those that Nexus itself caused."""

    @abc.abstractmethod
    def finish(self) -> bytes:
        """What is left at the proper end of the body.  Raises BackendError("cut") where the dialect's last event is missing."""

    @abc.abstractmethod
    def usage(self) -> Usage:
        """The tokens so far."""
