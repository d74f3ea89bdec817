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
    """Letters of one event loop."""

    __slots__ = ("_letters", "_soon")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._letters: list[tuple[asyncio.WriteTransport, bytes]] = []
        self._soon = loop.call_soon

    def put(self, transport: asyncio.WriteTransport, data: bytes) -> None:
        """Write it before anything that becomes due from now on is run; not at all where the connection closes before that."""
        if not self._letters:
            self._soon(self._post)
        self._letters.append((transport, data))

    def _post(self) -> None:
        letters, self._letters = self._letters, []
        for transport, data in letters:
            if not transport.is_closing():
                try:
                    transport.write(data)
                except Exception:
                    LOG.exception("a connection could not be written to")
                    transport.abort()
