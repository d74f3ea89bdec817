"""Reading a request's body with our own limits: an embedding app has its own, which must not decide here."""

from __future__ import annotations

import asyncio

from aiohttp import web

from nexus.errors import Problem

SILENCE_SECONDS = 30.0  # the longest pause within a body
RETRY_SECONDS = 1


class Bodies:
    """All bodies that are held at this moment, bounded one by one and in sum.  Sizes are in bytes."""

    def __init__(self, largest: int, in_sum: int) -> None:
        self._largest = largest
        self._in_sum = in_sum
        self.held = 0

    async def read(self, http: web.BaseRequest) -> bytes:
        """The whole body, counted as held until `release`.  Raises Problem: 400, 408, 413, or 503 where too much is held already."""
        announced = http.content_length or 0
        if announced > self._largest:
            raise self._too_large()
        if self.held + announced > self._in_sum:
            raise Problem(503, "overloaded", "too many request bodies are held at the moment; try again", retry_after=RETRY_SECONDS)
        content = http.content
        try:
            # nearly always the body came in one piece with the head, and nothing has to be waited for
            if content.total_bytes == announced and content.is_eof():
                body = content.read_nowait()
            else:
                body = await self._slowly(http)
        except (web.PayloadAccessError, OSError):
            raise
        except Exception as error:
            raise Problem(400, "invalid_request", f"the body could not be read: {type(error).__name__}") from None
        self.held += len(body)
        return body

    def release(self, body: bytes) -> None:
        self.held -= len(body)

    async def _slowly(self, http: web.BaseRequest) -> bytes:
        pieces, size = [], 0
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(SILENCE_SECONDS) as patience:
                while piece := await http.content.readany():
                    pieces.append(piece)
                    size += len(piece)
                    if size > self._largest or self.held + size > self._in_sum:
                        raise self._too_large()
                    patience.reschedule(loop.time() + SILENCE_SECONDS)
        except TimeoutError:
            raise Problem(408, "request_timeout", f"no byte of the body came for {SILENCE_SECONDS:g} s") from None
        return b"".join(pieces)

    def _too_large(self) -> Problem:
        return Problem(413, "request_too_large", f"the body is larger than {self._largest} bytes ([server] max_body_bytes)")
