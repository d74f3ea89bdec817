"""Garbage is collected in quiet moments, and only where something has come or gone."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import weakref

import attrs
import pytest

from nexus.runtime import memory
from nexus.tasks import Tasks


@attrs.define(eq=False)
class Busy:
    """As much of a gateway as is asked."""

    under_way: int = 0
    rests: int = 0
    claims: int = 0

    def pack(self) -> None:
        self.rests += 1

    async def tidied(self) -> None:
        await memory.tidy(lambda: self.under_way, lambda: self.claims, self.pack)


class Knot:
    """Refers to itself, as a closed transport does."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _no_collector_of_its_own(monkeypatch):
    monkeypatch.setattr(memory, "PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(memory, "resident_bytes", lambda: 0)
    gc.collect()
    gc.disable()
    yield
    gc.enable()


async def looks() -> None:
    """A few rounds of the loop, in each of which it looks once."""
    for _ in range(10):
        await asyncio.sleep(0)


def a_rush() -> tuple[weakref.ref[Knot], list[list[int]]]:
    return weakref.ref(Knot()), [[] for _ in range(sys.getallocatedblocks() // 4)]


async def test_what_a_rush_left_goes_once_nothing_is_under_way():
    gateway = Busy()
    async with Tasks(logging.getLogger(__name__)) as tasks:
        tasks.spawn(gateway.tidied, "tidy")
        await looks()
        knot, kept = a_rush()
        gateway.under_way = 1
        await looks()
        assert knot() is not None  # now it would be in somebody's way
        assert not gateway.rests
        gateway.under_way = 0
        await looks()
        assert knot() is None
        assert gateway.rests == 1
        knot = weakref.ref(Knot())
        await looks()
        assert knot() is not None  # nothing much has changed: not worth a look
        kept.clear()
        await looks()
        assert knot() is None  # what has gone may have left something, too


async def test_who_asks_one_thing_after_the_other_is_not_held_up():
    gateway = Busy()
    async with Tasks(logging.getLogger(__name__)) as tasks:
        tasks.spawn(gateway.tidied, "tidy")
        await looks()
        knot, _memory = a_rush()
        for _ in range(10):  # nothing is under way at any look, but something was
            gateway.claims += 1
            await asyncio.sleep(0)
        assert knot() is not None
        assert not gateway.rests
        await looks()
        assert knot() is None
        assert gateway.rests == 1


async def test_it_is_not_put_off_for_ever(monkeypatch):
    monkeypatch.setattr(memory, "MOST_PUT_OFF", 5)
    gateway = Busy()
    async with Tasks(logging.getLogger(__name__)) as tasks:
        tasks.spawn(gateway.tidied, "tidy")
        await looks()
        _, _memory = a_rush()
        for _ in range(10):
            gateway.claims += 1
            await asyncio.sleep(0)
        assert gateway.rests == 1
        _, _more = a_rush()
        for _ in range(3):  # it waits as long again
            gateway.claims += 1
            await asyncio.sleep(0)
        assert gateway.rests == 1


async def test_the_memory_of_large_bodies_goes_too(monkeypatch):
    """They are few objects."""
    gateway, resident = Busy(), [50 * 1024 * 1024]
    monkeypatch.setattr(memory, "resident_bytes", lambda: resident[0])
    async with Tasks(logging.getLogger(__name__)) as tasks:
        tasks.spawn(gateway.tidied, "tidy")
        await looks()
        resident[0] += memory.GROWN_BYTES - 1
        await looks()
        assert gateway.rests == 0
        resident[0] += 1
        await looks()
        assert gateway.rests == 1  # and that is where it begins anew
