"""Rest after a rush: what ended connections have left in memory goes while nothing is under way.

What plugins and libraries leave behind in cycles stays until the garbage collector looks at all that is old.  By itself it would do so in
the middle of the next rush, whose memory has then come on top.  glibc keeps what was freed below its last
piece in use until it is asked to give it back.  For a process of our own only: an application that embeds Nexus has its own ways.
"""

from __future__ import annotations

import asyncio
import gc
import mmap
import sys
from collections.abc import Callable

from nexus.gateway import Gateway

PAUSE_SECONDS = 0.5
MOST_PUT_OFF = 20  # looks
CHANGED = 0.02  # share of the blocks of memory that were left the last time, without what was loaded at the start
GROWN_BYTES = 4 * 1024 * 1024


async def tidy(gateway: Gateway) -> None:
    """Collect garbage in quiet moments, where much has come or gone since the last time: many objects, or the memory of large bodies,
    which are few.  Never returns.

    A moment is quiet when nothing is under way and no server was asked since the last look: who asks one thing after the other would
    notice the few hundredths of a second that it takes.  But it is not put off for that for more than so many looks.
    """
    left, resident = sys.getallocatedblocks(), resident_bytes()
    claims, put_off = gateway.fleet.claims, 0
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        asked, claims = gateway.fleet.claims != claims, gateway.fleet.claims
        if gateway.under_way or gateway.upstream.under_way:
            continue
        if abs(sys.getallocatedblocks() - left) <= CHANGED * left and resident_bytes() - resident < GROWN_BYTES:
            continue
        if asked and put_off < MOST_PUT_OFF:
            put_off += 1
            continue
        gc.collect()
        gateway.witnesses.rest()  # what they keep finds its place among what stays
        _trim()(0)
        left, resident, put_off = sys.getallocatedblocks(), resident_bytes(), 0


def resident_bytes() -> int:
    """How much memory of this process is in use; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * mmap.PAGESIZE
    except OSError:
        return 0


def _trim() -> Callable[[int], object]:
    """glibc's `malloc_trim`; where another library gives out memory, nothing."""
    import ctypes  # a quarter of a megabyte, that nobody needs before there is something to give back

    try:
        found: Callable[[int], object] = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError, TypeError):
        return lambda pad: None
    return found
