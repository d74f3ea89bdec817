"""Opening one component for a contract, and making its waiting short.  No promise of any kind is checked here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import pytest

from nexus.api import Scope
from nexus.testing.builders import FakeClock
from nexus.testing.scope import a_scope

T = TypeVar("T")


class Kind(Protocol):
    """What the descriptors of stages, dialects, sources and observers have in common."""

    @property
    def name(self) -> str: ...
    @property
    def options(self) -> type: ...
    @property
    def open(self) -> Any: ...


@asynccontextmanager
async def opened(kind: Kind, options: Any, *, still: bool = True) -> AsyncIterator[Any]:
    """The component of a descriptor, in a scope of its own; with `still` on a clock that stands still."""
    async with a_scope(kind.name, clock=FakeClock() if still else None) as scope, component(kind, options, scope) as it:
        yield it


def component(kind: Kind, options: Any, scope: Scope) -> AbstractAsyncContextManager[Any]:
    """The descriptor's component; without options, with the defaults of its options class."""
    found: AbstractAsyncContextManager[Any] = kind.open(kind.options() if options is None else options, scope)
    return found


class FastLoop:
    """An event loop whose clock runs 50 times as fast while something is awaited: timeouts come soon.

    Make it before the component is opened, since clocks keep a hold of the loop's.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._loop = asyncio.get_running_loop()
        self._ahead = 0.0
        real = self._loop.time
        patch.setattr(self._loop, "time", lambda: real() + self._ahead)

    async def result(self, coro: Coroutine[Any, Any, T], at_most: float) -> T:
        """The coroutine's result.  Fails the test where it has not ended after `at_most` seconds of the fast clock."""
        task = self._loop.create_task(coro)
        end = self._ahead + at_most
        while not task.done():
            if self._ahead >= end:
                task.cancel()
                await asyncio.wait([task])
                pytest.fail(f"still waiting after {at_most:g} seconds")
            self._ahead += 1.0
            await asyncio.wait([task], timeout=0.02)
        return task.result()
