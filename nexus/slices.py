"""A look at each of many, a few in a turn of the loop: thousands of open streams must not wait for it.  What is looked for is not known here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator, Iterable
from time import perf_counter
from typing import TypeVar

T = TypeVar("T")
SLICE = 256  # looks, most of which cost less than a microsecond
SLICE_SECONDS = 0.005  # and where they cost more, so much of a turn


async def in_slices(things: Iterable[T], look: Callable[[T], None]) -> None:
    """`look` at each of those that are there now; some may have gone before their turn comes."""
    await lazily_in_slices(tuple(things), look)


async def lazily_in_slices(things: Iterable[T], look: Callable[[T], None]) -> None:
    """The same for what bears that the world changes between two turns, since it is too much to be gathered in one."""
    until = perf_counter() + SLICE_SECONDS
    for count, thing in enumerate(things, 1):
        look(thing)
        if not count % SLICE or perf_counter() >= until:
            await asyncio.sleep(0)
            until = perf_counter() + SLICE_SECONDS


async def step_by_step(work: Generator[None, None, T]) -> T:
    """What the work returns; it pauses where another turn of the loop may come."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        await asyncio.sleep(0)


def at_once(work: Generator[None, None, T]) -> T:
    """What the work returns, without its pauses."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
