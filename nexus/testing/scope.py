"""A real `Scope`, so that a test can open one component without a gateway."""

from __future__ import annotations

import contextlib
import functools
import logging
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nexus.api import Clock, Fingerprint, Scope, Upstream
from nexus.clock import LoopClock
from nexus.tasks import Tasks, Work

if TYPE_CHECKING:
    import aiohttp

Spawn = Callable[[Work, str], None]


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

    Raises what spawned work crashed with, at the end: a test should not miss it.
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
    async with _tasks() as spawn:
        spawn(pool.run, "sweep the pool")
        try:
            yield pool
        finally:
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
async def _tasks() -> AsyncIterator[Spawn]:
    crashes = _Crashes()
    log = logging.Logger("nexus.testing")
    log.addHandler(crashes)
    async with Tasks(log) as tasks:
        yield tasks.spawn
    if crashes.seen:
        raise crashes.seen[0]


class _Crashes(logging.Handler):
    """Keeps the crashes that a gateway would only log."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[BaseException] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            self.seen.append(record.exc_info[1])
