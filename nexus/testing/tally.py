"""What has happened to a scripted server so far, as its connections tell it.  Tests look at it through `ScriptedUpstream`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nexus.testing.incoming import Received
from nexus.testing.waits import Watch

if TYPE_CHECKING:
    from nexus.testing.connection import Connection


class Tally:
    """The counts, the open connections, and those who wait for a change.  Of the requests the last `remember` are kept."""

    def __init__(self, remember: int) -> None:
        self.requests: list[Received] = []
        self.in_flight = 0
        self.peak = 0
        self.finished = 0
        self.disconnected = 0
        self.connections = 0
        self.violations: list[str] = []
        self.crashes: list[Exception] = []
        self.open: set[Connection] = set()
        self.watch = Watch()
        self._remember = remember

    def joined(self, connection: Connection) -> int:
        """A client has connected; the connection's number."""
        self.open.add(connection)
        self.connections += 1
        self.watch.changed()
        return self.connections - 1

    def left(self, connection: Connection) -> None:
        """The connection is closed."""
        self.open.discard(connection)
        self.watch.changed()

    def began(self, received: Received) -> None:
        """A request has been read."""
        self.requests.append(received)
        if len(self.requests) > self._remember:
            del self.requests[0]
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self.watch.changed()

    def ended(self, *, finished: bool, client_left: bool) -> None:
        """Its answer has come to its end, or the client went before."""
        self.in_flight -= 1
        self.finished += finished
        self.disconnected += client_left
        self.watch.changed()

    def crashed(self, error: Exception) -> None:
        """A script has."""
        self.crashes.append(error)
        self.watch.changed()

    def violated(self, what: str) -> None:
        """The client sent what none may."""
        self.violations.append(what)
        self.watch.changed()
