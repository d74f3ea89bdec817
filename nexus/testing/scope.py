"""A real `Scope`, so that a test can open one component without a gateway."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nexus.api import Clock, Fingerprint, Scope, Upstream

if TYPE_CHECKING:
    import aiohttp


class LoopClock:
    """The running event loop's time, and the wall clock for people."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        return time.time()  # noqa: TID251 - this is the clock


@contextlib.asynccontextmanager
async def a_scope(
    name: str = "test",
    *,
    clock: Clock | None = None,
    upstream: Upstream | None = None,
    changed: Callable[[], None] = lambda: None,
    fingerprints: Sequence[Fingerprint] = (),
    state_dir: Path | None = None,
) -> AsyncIterator[Scope]:
    """A scope with a real pool, a real session and a temporary state directory.  Leaving it cancels what was spawned.

    Raises what a spawned coroutine crashed with, at the end: a test should not miss it.
    """
    clock = clock or LoopClock()
    async with contextlib.AsyncExitStack() as stack:
        yield Scope(
            name=name,
            log=logging.getLogger(f"nexus.{name}"),
            clock=clock,
            upstream=upstream if upstream is not None else await stack.enter_async_context(_pool(clock)),
            session=await stack.enter_async_context(_session()),
            spawn=await stack.enter_async_context(_tasks()),
            changed=changed,
            state_dir=functools.cache(lambda: state_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="nexus-")))),
            fingerprints=tuple(fingerprints),
        )


@contextlib.asynccontextmanager
async def _pool(clock: Clock) -> AsyncIterator[Upstream]:
    from nexus.upstream import Pool

    pool = Pool(clock=clock.now)
    sweeper = asyncio.get_running_loop().create_task(pool.run(), name="pool")
    try:
        yield pool
    finally:
        sweeper.cancel()
        await asyncio.gather(sweeper, return_exceptions=True)
        await pool.close()


@contextlib.asynccontextmanager
async def _session() -> AsyncIterator[Callable[[], aiohttp.ClientSession]]:
    import aiohttp

    session = functools.cache(lambda: aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
    try:
        yield session
    finally:
        if session.cache_info().currsize:
            await session().close()


@contextlib.asynccontextmanager
async def _tasks() -> AsyncIterator[Callable[[Coroutine[Any, Any, None], str], None]]:
    tasks: set[asyncio.Task[None]] = set()

    def spawn(coro: Coroutine[Any, Any, None], name: str) -> None:
        tasks.add(asyncio.get_running_loop().create_task(coro, name=name))

    try:
        yield spawn
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end
