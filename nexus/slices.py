"""A look at each of many, a few in a turn of the loop: thousands of open streams must not wait for it.  What is looked for is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import TypeVar

T = TypeVar("T")
SLICE = 256  # a look costs less than a microsecond


async def in_slices(things: Iterable[T], look: Callable[[T], None]) -> None:
    """`look` at each of those that are there now; some may have gone before their turn comes."""
    for count, thing in enumerate(tuple(things), 1):
        look(thing)
        if not count % SLICE:
            await asyncio.sleep(0)
