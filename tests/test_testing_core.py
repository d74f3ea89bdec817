"""The core's own components keep the contracts that plugins are held to."""

from __future__ import annotations

from contextlib import asynccontextmanager

from nexus.builtin import nexus_observers, nexus_sources
from nexus.loopback import LoopbackOptions
from nexus.testing import openai_server
from nexus.testing.contracts import ObserverContract, SourceContract

OBSERVERS = {kind.name: kind for kind in nexus_observers()}


class TestLog(ObserverContract):
    kind = OBSERVERS["log"]


class TestHistory(ObserverContract):
    kind = OBSERVERS["history"]


class TestFeed(ObserverContract):
    kind = OBSERVERS["feed"]


class TestStats(ObserverContract):
    kind = OBSERVERS["stats"]


class TestLoopback(SourceContract):
    (kind,) = nexus_sources()

    @asynccontextmanager
    async def world(self):
        async with openai_server() as server:
            self.options = LoopbackOptions(interval_seconds=0.05, ports=(server.port,))
            yield {server.url}
