"""What sources and observers promise: sightings of the right type that end when asked to, and eyes that nothing can hurt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from nexus.api import Observer, ObserverKind, Sighting, Source, SourceKind
from nexus.testing.builders import every_event
from nexus.testing.contracts.opening import opened


class ObserverContract:
    """Subclass it and name `kind` (and `options`, where defaults will not do)."""

    kind: ObserverKind
    options: Any = None

    def opened(self) -> AbstractAsyncContextManager[Observer]:
        return opened(self.kind, self.options)

    @pytest.mark.asyncio
    async def test_see_takes_every_event(self) -> None:
        async with self.opened() as observer:
            for event in every_event() * 2:
                assert observer.see(event) is None


class SourceContract:
    """Subclass it, name `kind`, and give a `world()` in which the source finds something.

    `world()` is an async context manager that yields the URLs that must be seen within `patience` seconds.
    """

    kind: SourceKind
    options: Any = None
    patience = 5.0

    def world(self) -> AbstractAsyncContextManager[set[str]]:
        """Servers to be found, and their URLs."""
        raise NotImplementedError

    def opened(self) -> AbstractAsyncContextManager[Source]:
        return opened(self.kind, self.options, still=False)

    @pytest.mark.asyncio
    async def test_watch_finds_what_is_there(self) -> None:
        async with self.world() as urls, self.opened() as source:
            assert urls, "a world without a server cannot be checked"
            sightings = source.watch()
            async with asyncio.timeout(self.patience):
                await self._see(sightings, urls)
            await _close(sightings)

    async def _see(self, sightings: AsyncIterator[Sighting], urls: set[str]) -> None:
        missing = set(urls)
        while missing:
            sighting = await anext(sightings)
            assert isinstance(sighting, Sighting)
            assert sighting.url.startswith(("http://", "https://"))
            assert not sighting.url.endswith("/"), "a URL has no trailing slash"
            assert sighting.source or sighting.evidence, "people want to know who saw it, and by what"
            if sighting.found:
                missing.discard(sighting.url)

    @pytest.mark.asyncio
    async def test_cancelling_stops_it(self) -> None:
        async with self.world() as urls, self.opened() as source:
            before = asyncio.all_tasks()
            sightings = source.watch()
            async with asyncio.timeout(self.patience):
                await self._see(sightings, urls)
                watcher = asyncio.get_running_loop().create_task(_drain(sightings))
                await asyncio.sleep(0)
                watcher.cancel()
                await asyncio.wait([watcher])
            assert watcher.cancelled(), "a source that swallows cancellation hangs the shutdown"
            left = asyncio.all_tasks() - before
        assert all(task.done() for task in left), "closing the component must end its tasks"


async def _drain(sightings: AsyncIterator[Sighting]) -> None:
    async for _ in sightings:
        pass


async def _close(sightings: AsyncIterator[Sighting]) -> None:
    if (close := getattr(sightings, "aclose", None)) is not None:
        await close()
