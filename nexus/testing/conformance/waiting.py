"""A server that lets its client wait, before its first event and within a later one: what keeps the client's stream alive meanwhile.

That the answer is complete in the end is `cells`' to see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from nexus.testing.acts import Stream
from nexus.testing.conformance.golden import GoldenTable, need
from nexus.testing.conformance.house import PATIENCE_SECONDS, Heard, House, heard

SSE = "text/event-stream"
KEPT_ALIVE_AFTER = 0.05
"""Seconds of silence; the gateway looks less often."""


async def ask_slowly(at: House, client: GoldenTable, body: bytes, frames: Sequence[bytes]) -> Heard:
    """The server goes on only when its client has been told to wait.  Raises TimeoutError where that does not come."""
    first, second = asyncio.Event(), asyncio.Event()
    *begun, split = frames[: len(frames) // 2]
    rest = (split[: len(split) // 2], second, split[len(split) // 2 :], *frames[len(begun) + 1 :])
    at.upstream.default = Stream([first, *begun, *rest], done=False)
    async with asyncio.timeout(PATIENCE_SECONDS * 2), at.post(client, body) as answer:
        sign = got = await answer.content.readany()
        need(answer.content_type != SSE or sign.endswith(b"\n\n"), f"a sign of life that is a whole event, not {sign!r}")
        first.set()
        while not second.is_set():
            got += await answer.content.readany()
            if _said(got, sign) and got.endswith(sign):
                second.set()
        return heard(answer, got + await answer.content.read())


def _said(got: bytes, sign: bytes) -> bytes:
    """What came beside the signs of life."""
    return got.replace(sign, b"")
