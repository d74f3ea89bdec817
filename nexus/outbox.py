"""What is written to many connections in one turn of the loop, written together once the turn is over.

A system call makes the processor forget the code that both sides of it run.  Requests that come together are therefore worked on
one after the other without one, and leave together: where many come in one turn that took up to a fifth off the whole cost of a request
(docs/decisions/leave-together.md).  A turn lasts well under a millisecond.  Who is alone has nothing to gain, and writes at once.
"""

from __future__ import annotations

import asyncio
import logging

LOG = logging.getLogger("nexus")


class Outbox:
    """For what those under way in one room write, in one event loop.  `company` is how many they are."""

    __slots__ = ("_letters", "company")

    def __init__(self) -> None:
        self._letters: list[tuple[asyncio.WriteTransport, bytes]] = []
        self.company = 0

    def write(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write it at once for who is alone; else before anything that becomes due from now on is run, and not at all where the
        connection closes before that."""
        if self.company < 2:
            transport.write(data)
            return
        if not self._letters:
            asyncio.get_running_loop().call_soon(self.flush)
        self._letters.append((transport, data))

    def flush(self) -> None:
        """Write what has been put off."""
        letters, self._letters = self._letters, []
        for transport, data in letters:
            if not transport.is_closing():
                try:
                    transport.write(data)
                except Exception:
                    LOG.exception("a connection could not be written to")
                    transport.abort()
