"""Work that would keep the event loop, in a thread of its own: one piece of it at a time.

Python gives the interpreter from one thread to the other between two of its instructions, so what is done here must be made of many
short ones.  What such a piece of work holds in memory is held once, however many clients ask for it at the same time.
"""

from __future__ import annotations

import asyncio
import functools
import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

T = TypeVar("T")


async def aside(work: Callable[..., T], *args: object) -> T:
    """What `work(*args)` gives or raises.  For what would keep the loop: `nexus.dialects.weight.is_much` tells.  Who is cancelled does not
    wait for it."""
    return await asyncio.get_running_loop().run_in_executor(_thread(), _uncollected, work, *args)


def _uncollected(work: Callable[..., T], *args: object) -> T:
    """The result.  Meanwhile nobody looks for cycles: with all that such work makes at one time, each look would keep the loop for tens of
    milliseconds, and what it makes it gives back without."""
    if not gc.isenabled():
        return work(*args)
    gc.disable()
    try:
        return work(*args)
    finally:
        gc.enable()


@functools.cache
def _thread() -> ThreadPoolExecutor:
    from concurrent.futures import ThreadPoolExecutor  # by the first large body

    return ThreadPoolExecutor(1, "nexus-aside")
