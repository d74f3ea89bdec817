"""The fixtures that need an event loop.  Loaded by `fixtures` only where pytest-asyncio is installed."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest_asyncio

from nexus.testing.gateway import RunningGateway, running_gateway
from nexus.testing.upstream import ScriptedUpstream


class StartGateway(Protocol):
    """The type of the fixture `nexus_gateway`."""

    def __call__(self, config: str | Mapping[str, Any] = "", *, plugins: Sequence[Any] = ()) -> Awaitable[RunningGateway]: ...


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    """A scripted server that listens."""
    async with ScriptedUpstream() as server:
        yield server


@pytest_asyncio.fixture
async def nexus_gateway(tmp_path: Path) -> AsyncIterator[StartGateway]:
    """Starts gateways: `gateway = await nexus_gateway(config)`.  They are stopped after the test, the last one first.

    `config` is TOML text or the same as a mapping; `plugins` are modules or objects with hookimpls.  Every gateway of a
    test has a state directory of its own.
    """
    async with AsyncExitStack() as stack:
        count = 0

        async def start(config: str | Mapping[str, Any] = "", *, plugins: Sequence[Any] = ()) -> RunningGateway:
            nonlocal count
            count += 1
            gateway = running_gateway(config, plugins=plugins, state_dir=tmp_path / f"nexus-state-{count}")
            return await stack.enter_async_context(gateway)

        yield start
