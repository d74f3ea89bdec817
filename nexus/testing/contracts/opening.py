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


async def hurried(coro: Coroutine[Any, Any, T], patch: pytest.MonkeyPatch, at_most: float) -> T:
    """The coroutine's result, with the event loop's clock running 50 times as fast: timeouts come soon.

    Fails the test where it has not ended after `at_most` of those seconds.
    """
    loop = asyncio.get_running_loop()
    real, ahead = loop.time, 0.0
    patch.setattr(loop, "time", lambda: real() + ahead)
    task = loop.create_task(coro)
    while not task.done():
        if ahead >= at_most:
            task.cancel()
            await asyncio.wait([task])
            pytest.fail(f"still waiting after {at_most:g} seconds")
        ahead += 1.0
        await asyncio.wait([task], timeout=0.02)
    return task.result()
