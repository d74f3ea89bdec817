"""What the core registers through the same hooks as every plugin: its dialect, its source, its witnesses."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any

import attrs

from nexus.api import Dialect, DialectKind, ObserverKind, Scope, SourceKind, hookimpl, opens
from nexus.loopback import Loopback, LoopbackOptions
from nexus.observers.feed import Feed
from nexus.observers.history import SIZE, History
from nexus.observers.log import RequestLog
from nexus.observers.stats import Stats


@attrs.frozen(kw_only=True)
class HistoryOptions:
    """The `[history]` table."""

    size: int = attrs.field(
        default=SIZE, validator=attrs.validators.ge(0), metadata={"meaning": "answered requests that are remembered, in memory"}
    )


def _openai(options: Any, scope: Scope) -> Dialect:
    from nexus.dialects.openai import OpenAI

    return OpenAI()


@asynccontextmanager
async def _feed(options: Any, scope: Scope) -> AsyncIterator[Feed]:
    feed = Feed(scope.clock)
    try:
        yield feed
    finally:
        feed.close()


@hookimpl
def nexus_dialects() -> Iterable[DialectKind]:
    yield DialectKind(name="openai", open=opens(_openai))


@hookimpl
def nexus_sources() -> Iterable[SourceKind]:
    yield SourceKind(name="loopback", open=opens(Loopback), options=LoopbackOptions)


@hookimpl
def nexus_observers() -> Iterable[ObserverKind]:
    yield ObserverKind(name="log", open=opens(lambda options, scope: RequestLog(scope.clock)))
    yield ObserverKind(
        name="history", open=opens(lambda options, scope: History(scope.clock, options.size)), options=HistoryOptions
    )
    yield ObserverKind(name="feed", open=_feed)
    yield ObserverKind(name="stats", open=opens(lambda options, scope: Stats(scope.clock)))
