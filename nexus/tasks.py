"""Background tasks: named, supervised, cancelled and awaited.  The only place that makes tasks, but for those of requests (`downstream`)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, MutableMapping
from types import TracebackType
from typing import Any

from nexus.errors import CRASHES, is_cancelled

FIRST_PAUSE_SECONDS = 1.0  # until work that crashed is begun again; doubled each time
LONGEST_PAUSE_SECONDS = 30.0
WELL_SECONDS = 60.0  # without a crash, and it counts as well again

Work = Callable[[], Coroutine[Any, Any, None]]


class Tasks:
    """The tasks of one component.  `async with` it: leaving cancels all of them and waits until they are gone.

    `problems` holds, by its name, what is wrong with each piece of work that has crashed and is not well again; several may share it.
    """

    def __init__(self, log: logging.Logger, problems: MutableMapping[str, str] | None = None) -> None:
        self._log = log
        self._problems: MutableMapping[str, str] = {} if problems is None else problems
        self._running: set[asyncio.Task[None]] = set()
        self._closing = False

    def spawn(self, work: Work, name: str) -> None:
        """Run `work()` until it returns or this is closed.  A crash is logged and told in `problems`, and the work is begun again
        after 1, 2, 4 … at most 30 seconds: nothing that goes on for ever ends at its first mishap."""
        self._start(self._supervise(work, name), name)

    def once(self, work: Work, name: str) -> None:
        """Run `work()` one time, for what would be wrong or of no use a second time.  A crash is logged, and is its end."""
        self._start(work(), name)

    def _start(self, coro: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.get_running_loop().create_task(coro, name=name)
        self._running.add(task)
        task.add_done_callback(self._ended)

    async def _supervise(self, work: Work, name: str) -> None:
        loop = asyncio.get_running_loop()
        pause, said = FIRST_PAUSE_SECONDS, ""
        try:
            while True:
                began = loop.time()
                well = loop.call_later(WELL_SECONDS, self._problems.pop, name, None)
                try:
                    return await work()
                except (*CRASHES, asyncio.CancelledError) as error:
                    if self._is_cancelled(error):
                        raise
                    if loop.time() - began >= WELL_SECONDS:
                        pause, said = FIRST_PAUSE_SECONDS, ""
                    said = self._crashed(name, error, pause, said)
                finally:
                    well.cancel()
                await asyncio.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            self._problems.pop(name, None)

    def _is_cancelled(self, error: BaseException) -> bool:
        """Whether it is we who are to stop: awaiting something that somebody else has cancelled raises the same."""
        return isinstance(error, asyncio.CancelledError) and (self._closing or is_cancelled())

    def _crashed(self, name: str, error: BaseException, pause: float, said: str) -> str:
        """Tell it, with the traceback where it is another crash than the last one.  Returns what was told."""
        self._problems[name] = f"crashed ({type(error).__name__}) and is tried again; the log says more"
        what = f"{type(error).__name__}: {error}"
        self._log.error(
            "the task %r crashed (%s) and begins again in %g s", name, what, pause, exc_info=None if what == said else error
        )
        return what

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("the task %r crashed", task.get_name(), exc_info=error)

    async def close(self) -> None:
        self._closing = True
        running = tuple(self._running)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def __aenter__(self) -> Tasks:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self.close()
