"""What signals do to a running gateway: the first SIGTERM or SIGINT asks it to drain, the second ends it at once."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Self

LOG = logging.getLogger("nexus")


class Signals:
    """`with Signals() as signals: await signals.first.wait()`, in the task that the second signal cancels.

    SIGHUP means that the terminal is gone: there it drains too.  Without a terminal, where others use it to ask for a reload,
    it is told in the log and changes nothing: a changed configuration needs a restart.
    """

    def __init__(self) -> None:
        self.first = asyncio.Event()
        self._set: list[int] = []
        self._attended = sys.stdin is not None and sys.stdin.isatty()

    def __enter__(self) -> Self:
        task = asyncio.current_task()
        assert task is not None
        self._task = task
        self._on("SIGTERM", self._stop)
        self._on("SIGINT", self._stop)
        self._on("SIGHUP", self._stop if self._attended else self._hang_up)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number in self._set:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _on(self, name: str, handler: Callable[[], None]) -> None:
        """Windows has neither SIGHUP nor handlers in the loop; Ctrl-C ends the process there."""
        number = getattr(signal, name, None)
        if number is None:
            return
        try:
            asyncio.get_running_loop().add_signal_handler(number, handler)
        except NotImplementedError:
            return
        self._set.append(number)

    def _stop(self) -> None:
        if self.first.is_set():
            self._task.cancel()
        self.first.set()

    def _hang_up(self) -> None:
        LOG.info("SIGHUP is ignored: restart to read the configuration again")
