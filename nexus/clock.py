"""The real clock.  Everything else is handed one, so that a test can move it."""

from __future__ import annotations

import time


class LoopClock:
    """`now()` in the event loop's seconds (asyncio's loops read this very clock), `time()` in seconds since the epoch."""

    def __init__(self) -> None:
        self.now = time.monotonic
        self.time = time.time  # noqa: TID251 - here is where the time comes from
