"""What a component is given, and all that it may touch."""

from __future__ import annotations

import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from nexus.api.fingerprint import Fingerprint
from nexus.api.upstream import Upstream

if TYPE_CHECKING:
    import aiohttp


class Secret:
    """A key.  It prints as `***`; `reveal()` is the one way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Clock(Protocol):
    """`now()` is monotonic seconds (the event loop's), for durations; `time()` is seconds since the epoch, for people."""

    def now(self) -> float: ...
    def time(self) -> float: ...


@attrs.frozen(kw_only=True)
class Scope:
    """All that a component may touch.

    `upstream` is the hot path's HTTP client; `session()` gives an `aiohttp.ClientSession` for everything else (made on
    first use, shared, closed by the gateway).  `spawn(work, name)` runs `work()` until it returns or the
    component closes; a crash is logged, shown in `/health`, and `work()` is called again after 1, 2, 4 … at most 30 seconds.
    `changed()` wakes waiting requests: a stage calls it when something it refused for may now pass.  `state_dir()` is a
    directory of the component's own that survives restarts, and that several processes may share (StartupError where it cannot be
    had; where no state is kept, it goes with the gateway).  `fingerprints` are
    those of all installed backend kinds.
    """

    name: str
    log: logging.Logger
    clock: Clock
    upstream: Upstream
    session: Callable[[], aiohttp.ClientSession]
    spawn: Callable[[Callable[[], Coroutine[Any, Any, None]], str], None]
    changed: Callable[[], None]
    state_dir: Callable[[], Path]
    fingerprints: tuple[Fingerprint, ...] = ()
