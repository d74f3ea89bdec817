"""Runs `nexus` with the arguments after the first, which is a file: in it stands the longest turn of the event loop, in seconds of CPU.

Counted is from the first time on that the file is emptied, so that starting is none of it.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from pathlib import Path
from time import thread_time

LOOK_TURNS = 64  # between two looks at the file, since a look costs as much as a turn


def watched(file: Path) -> None:
    """From now on, every turn of every loop is timed."""
    inner = asyncio.base_events.BaseEventLoop._run_once  # type: ignore[attr-defined]
    longest, turns = 0.0, 0

    def timed(loop: asyncio.BaseEventLoop) -> None:
        nonlocal longest, turns
        began = thread_time()
        inner(loop)
        spent = thread_time() - began
        turns += 1
        if turns % LOOK_TURNS == 0 and not file.read_text():
            longest = 0.0
        if spent > longest:
            longest = spent
            file.write_text(repr(longest))

    asyncio.base_events.BaseEventLoop._run_once = timed  # type: ignore[attr-defined]


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text("0.0")
    watched(path)
    sys.argv = ["nexus", *sys.argv[2:]]
    runpy.run_module("nexus", run_name="__main__", alter_sys=True)
