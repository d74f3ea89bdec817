"""When garbage is collected, and rest after a rush: what ended connections have left in memory goes while nothing is under way.

What plugins and libraries leave behind in cycles stays until the garbage collector looks at all that is old.  By itself it would do so in
the middle of the next rush, whose memory has then come on top.  glibc keeps what was freed below its last
piece in use until it is asked to give it back.
"""

from __future__ import annotations

import asyncio
import gc
import linecache
import mmap
import sys
from collections.abc import Callable

PAUSE_SECONDS = 0.5
MOST_PUT_OFF = 20  # looks
CHANGED = 0.02  # share of the blocks of memory that were left the last time, without what was loaded at the start
GROWN_BYTES = 4 * 1024 * 1024
# Requests and connections leave no cycles behind: looking for them every 700 objects would cost a tenth of the time, a look at
# 50,000 that are not old takes up to 50 ms, and one at all objects, of which 4,000 streams have 300,000, more than 100 ms in which nobody is
# served.  So no more than 25,000 are looked at in one go, and all only after two and a half million new ones that stay, for what plugins
# leave behind, and in quiet moments (`tidy`).
COLLECTED = (5000, 4, 110)


def drop_loaded() -> None:
    """Give back what loading has left.  Call it before anything is served."""
    linecache.clearcache()  # the sources of generated methods, kept for debuggers: most of a megabyte
    gc.collect()


def keep_loaded() -> None:
    """Collect rarely from now on, and never look again at what is loaded: that would only cost time.  Call it once all is open."""
    gc.set_threshold(*COLLECTED)
    gc.freeze()


async def tidy(under_way: Callable[[], int], claims: Callable[[], int], pack: Callable[[], object]) -> None:
    """Collect garbage in quiet moments, where much has come or gone since the last time: many objects, or the memory of large bodies,
    which are few.  Never returns.

    A moment is quiet when nothing is `under_way` and no server was asked since the last look (`claims` counts them): who asks one thing after the other would
    notice the few hundredths of a second that it takes.  But it is not put off for that for more than so many looks.
    `pack` puts what is kept into less memory.
    """
    left, resident = sys.getallocatedblocks(), resident_bytes()
    before, put_off = claims(), 0
    while True:
        await asyncio.sleep(PAUSE_SECONDS)
        asked, before = claims() != before, claims()
        if under_way():
            continue
        if abs(sys.getallocatedblocks() - left) <= CHANGED * left and resident_bytes() - resident < GROWN_BYTES:
            continue
        if asked and put_off < MOST_PUT_OFF:
            put_off += 1
            continue
        gc.collect()
        pack()  # after that: it finds its place among what stays
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
