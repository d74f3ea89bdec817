"""Backend kinds that speak one dialect and know one model, whatever is asked: the suite's servers are scripts and answer no probe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from nexus.api import Backend, BackendKind, Model, NoOptions, Report, Scope, Server, hookimpl
from nexus.backends import HTTPBackend
from nexus.model import CHAT, JSON_SCHEMA, TOOLS, VISION
from nexus.testing.conformance.golden import GoldenTable
from nexus.testing.conformance.scenarios import MODEL

OFFERS = {CHAT: True, TOOLS: True, VISION: True, JSON_SCHEMA: True, "documents": True, "thinking": True}


class Speaker(HTTPBackend):
    """Its one model can do everything; it says its usage unasked."""

    speaks: frozenset[tuple[str, str]] = frozenset()

    async def look(self) -> Report:
        return Report(ok=True, models=(Model(id=MODEL, offers=OFFERS, speaks=self.speaks, takes_usage=True),))


class Speakers:
    """A plugin with one kind for each table: `golden-<dialect>`."""

    def __init__(self, tables: Sequence[GoldenTable]) -> None:
        self._tables = tables

    @hookimpl
    def nexus_backends(self) -> Iterable[BackendKind]:
        for table in self._tables:
            yield BackendKind(name=kind_of(table), open=_opens(table), cloud=not table.home)


def kind_of(table: GoldenTable) -> str:
    """The word for a table's servers in a configuration."""
    return f"golden-{table.dialect}"


def _opens(table: GoldenTable) -> Callable[[Server, Any, Scope], AbstractAsyncContextManager[Backend]]:
    @asynccontextmanager
    async def open_(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
        speaker = Speaker(server, scope)
        speaker.speaks = frozenset({(table.dialect, CHAT)})
        yield speaker

    return open_
