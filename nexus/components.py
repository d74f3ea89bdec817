"""Opening components: each once, with a scope of its own, closed in reverse order.  What they are for is not known here."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Hashable, Mapping, MutableMapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import msgspec

from nexus.api import Backend, BackendKind, Clock, Fingerprint, Open, Scope, Server, Upstream
from nexus.errors import StartupError
from nexus.overriding import misspelt
from nexus.tasks import Tasks, Work
from nexus.upstream.guards import Guard, Guarded

LOG = logging.getLogger("nexus")


class Kind(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def open(self) -> Open[Any]: ...
    @property
    def options(self) -> type: ...


class Sessions:
    """One shared `aiohttp.ClientSession`, made when somebody first asks for it.  The only place that makes one."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    def __call__(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=100, limit_per_host=4),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy variable must not send probes of home servers elsewhere
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


class Ground(msgspec.Struct, frozen=True, kw_only=True):
    """What every scope is made from.  `guard` puts somebody before a URL who judges where its name leads; `problems` holds what is wrong with what runs in the background, by its name."""

    clock: Clock
    upstream: Upstream
    guard: Callable[[str, Guard], Guarded]
    session: Callable[[], aiohttp.ClientSession]
    changed: Callable[[], None]
    state_dir: Callable[[], Path]
    problems: MutableMapping[str, str]
    fingerprints: tuple[Fingerprint, ...] = ()

    def tasks(self, name: str) -> Tasks:
        """For what a component does in the background."""
        return Tasks(LOG.getChild(name), self.problems)

    def scope(self, name: str, spawn: Callable[[Work, str], None]) -> Scope:
        def own_dir() -> Path:
            directory = self.state_dir() / name
            try:
                directory.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StartupError(f"the state directory {directory} cannot be made: {error}") from None
            return directory

        return Scope(
            name=name,
            log=LOG.getChild(name),
            clock=self.clock,
            upstream=self.upstream,
            session=self.session,
            spawn=spawn,
            changed=self.changed,
            state_dir=own_dir,
            fingerprints=self.fingerprints,
        )


class Components:
    """The opened components of one gateway.  Descriptors that share one `open` are opened once."""

    def __init__(self, ground: Ground, options: Mapping[str, object], stack: AsyncExitStack) -> None:
        self._ground = ground
        self._options = options
        self._stack = stack
        self._opened: dict[Open[Any], Any] = {}

    async def open(self, kind: Kind) -> Any:
        """The component of a descriptor.  Raises StartupError where it cannot be opened."""
        if kind.open not in self._opened:
            tasks = await self._stack.enter_async_context(self._ground.tasks(kind.name))
            options = self._options.get(kind.name)
            scope = self._ground.scope(kind.name, tasks.spawn)
            component = kind.open(kind.options() if options is None else options, scope)
            try:
                opened = self._opened[kind.open] = await self._stack.enter_async_context(component)
                _warn(opened.__class__)
            except StartupError:
                raise
            except Exception as error:
                raise StartupError(f"{kind.name} could not be opened: {type(error).__name__}: {error}") from error
        return self._opened[kind.open]


@functools.cache
def _warn(cls: Hashable) -> None:
    """Once for each class, of which many backends may be."""
    for sentence in misspelt(cls):
        LOG.warning("%s", sentence)


async def open_backend(ground: Ground, kind: BackendKind, server: Server, options: object, stack: AsyncExitStack) -> Backend:
    """The component of one server, closed with `stack`.  Raises StartupError where it cannot be opened."""
    tasks = await stack.enter_async_context(ground.tasks(server.name))
    scope = ground.scope(server.name, tasks.spawn)
    try:
        backend = await stack.enter_async_context(kind.open(server, kind.options() if options is None else options, scope))
        _warn(backend.__class__)
        return backend
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(f"the backend {server.name!r} could not be opened: {type(error).__name__}: {error}") from error
