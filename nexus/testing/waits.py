"""Waiting for something to become true, so that no test sleeps.  What is waited for belongs to the test."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

Predicate = Callable[[], object]

POLL_SECONDS = 0.02


class Watch:
    """Predicates that are looked at whenever `changed()` is called, and every 20 ms for what changes elsewhere."""

    def __init__(self) -> None:
        self._waiting: list[tuple[Predicate, asyncio.Future[None]]] = []

    def changed(self) -> None:
        """Look at every predicate now: a state that lasts for a moment only is seen too."""
        for predicate, future in self._waiting:
            if not future.done():
                _look(predicate, future)

    async def until(self, predicate: Predicate, timeout: float = 5.0, state: Callable[[], str] = str) -> None:
        """Return as soon as `predicate()` is true.  Raises TimeoutError, with `state()` in it, after `timeout` seconds."""
        if predicate():
            return
        future = asyncio.get_running_loop().create_future()
        entry = (predicate, future)
        self._waiting.append(entry)
        try:
            await _poll(predicate, future, timeout)
        except TimeoutError:
            raise TimeoutError(f"not true within {timeout:g} s: {state()}".rstrip(": ")) from None
        finally:
            self._waiting.remove(entry)


async def until(predicate: Predicate, timeout: float = 5.0) -> None:
    """Return as soon as `predicate()` is true, looking every 20 ms.  Raises TimeoutError after `timeout` seconds."""
    await Watch().until(predicate, timeout)


def _look(predicate: Predicate, future: asyncio.Future[None]) -> None:
    try:
        if predicate():
            future.set_result(None)
    except Exception as error:
        future.set_exception(error)


async def _poll(predicate: Predicate, future: asyncio.Future[None], timeout: float) -> None:
    async with asyncio.timeout(timeout):
        while not future.done():
            await asyncio.wait([future], timeout=POLL_SECONDS)
            if not future.done():
                _look(predicate, future)
    future.result()
