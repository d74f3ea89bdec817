"""Reading a request's body with our own limits: an embedding app has its own, which must not decide here."""

from __future__ import annotations

import asyncio
import io

from nexus.errors import Problem
from nexus.model import Payload
from nexus.visit import Visit

SILENCE_SECONDS = 30.0  # the longest pause within a body
LEAST_RATE = (
    500.0  # bytes a second, on average and after a first pause of that length: who drips holds memory and a connection for days
)
RETRY_SECONDS = 1
JOINED_BYTES = 8 * 1024 * 1024


class Pieces:
    """What comes in pieces and is wanted in one.

    A little is joined at the end, which copies it once.  Much would take too long then: getting so much memory from the system takes
    longer than copying, so it is got as the pieces come.
    """

    def __init__(self) -> None:
        self._few: list[bytes] = []
        self._much: io.BytesIO | None = None
        self._size = 0

    def add(self, piece: bytes) -> None:
        """One more."""
        self._size += len(piece)
        if self._much is not None:
            self._much.write(piece)
        else:
            self._few.append(piece)
            if self._size > JOINED_BYTES:
                self._much, self._few = io.BytesIO(b"".join(self._few)), []
                self._much.seek(0, io.SEEK_END)

    def drop(self) -> None:
        """Let go of all: the frame that holds this may live as long as the error that left it, which is until the next garbage collection."""
        self._few, self._much = [], None

    def whole(self) -> bytes:
        """All of it.  Nothing may be added any more."""
        return b"".join(self._few) if self._much is None else self._much.getvalue()


class Bodies:
    """All bodies that are held or arriving at this moment, bounded one by one and in sum.  Sizes are in bytes."""

    def __init__(self, largest: int, in_sum: int) -> None:
        self._largest = largest
        self._in_sum = in_sum
        self.held = 0

    async def read(self, visit: Visit) -> bytes:
        """The whole body, counted as held until `release`.

        Raises Problem: 400, 408, 413, or 503 where too much is held already; ConnectionError where the client has gone.
        """
        self._check(visit.announced, visit.announced)
        body = visit.ready()  # nearly always it came in one piece with the head, and nothing has to be waited for
        if body is None:
            return await self._slowly(visit)
        self.held += len(body)
        return body

    def release(self, payload: Payload) -> None:
        """Let go of a body that was read; harmless when it is gone already."""
        self.held -= len(payload.body)
        payload.body = b""

    async def _slowly(self, visit: Visit) -> bytes:
        pieces, size = Pieces(), 0
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(SILENCE_SECONDS) as patience:
                while piece := await visit.piece():
                    pieces.add(piece)
                    size += len(piece)
                    self.held += len(piece)
                    self._check(size, 0)
                    patience.reschedule(min(loop.time(), began + size / LEAST_RATE) + SILENCE_SECONDS)
            return pieces.whole()
        except TimeoutError:
            self.held -= size
            pieces.drop()
            said = f"the body came too slowly: no byte for {SILENCE_SECONDS:g} s, or fewer than {LEAST_RATE:g} bytes a second"
            raise Problem(408, "request_timeout", said) from None
        except BaseException:
            self.held -= size
            pieces.drop()
            raise

    def _check(self, size: int, more: int) -> None:
        """A body of `size` bytes, of which `more` are not yet held."""
        if size > self._largest:
            raise Problem(413, "request_too_large", f"the body is larger than {self._largest} bytes ([server] max_body_bytes)")
        if self.held + more > self._in_sum:
            raise Problem(503, "overloaded", "too many request bodies are held at the moment; try again", retry_after=RETRY_SECONDS)
