"""Who watches one reply of a dialect pass.  Reading a body into the canonical form is the dialect's own translation."""

from __future__ import annotations

import abc

from nexus.model import Usage


class Reader(abc.ABC):
    """Reads one reply as it passes: finds event boundaries, usage and a first event that is an error.

    `begun` turns true with the first complete event that carries data.  `error` is then set where that event is an error.
    `ending` is true while all seems to be said, and only the last event is missing: that is waited for a few seconds, whatever else
    keeps the connection alive; then `finish` is called.
    `over` turns true with the event after which nothing comes, the dialect's last one or an error: no more is read, `finish` is
    called and the server is left, for some keep the connection open.  A reader that never says so goes on to the end of the body.
    """

    begun: bool = False
    error: str | None = None
    ending: bool = False
    over: bool = False

    @abc.abstractmethod
    def feed(self, data: bytes) -> bytes:
        """The bytes that may go to the client now: complete events only, less those that Nexus itself caused."""

    @abc.abstractmethod
    def finish(self) -> bytes:
        """What is left once the reply is over, or at the proper end of the body.  Raises BackendError: "cut" where the dialect's last
        event is missing, "error_event" where an error ended the reply and the client has it."""

    @abc.abstractmethod
    def usage(self) -> Usage:
        """The tokens so far."""
