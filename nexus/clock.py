"""The real clock.  Everything else is handed one, so that a test can move it."""

from __future__ import annotations

import asyncio
import time


class LoopClock:
    """`now()` in the running event loop's seconds, `time()` in seconds since the epoch."""

    def __init__(self) -> None:
        self.now = asyncio.get_running_loop().time
        self.time = time.time  # noqa: TID251 - here is where the time comes from
