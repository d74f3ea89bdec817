"""The questions Nexus asks of a plugin.  Each is asked once, at wiring, without arguments, and yields descriptors.

A plugin module implements those it has an answer to with `nexus.api.hookimpl` and is found through the entry-point
group `nexus.plugins`, or named in `plugins = [...]` of `nexus.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from nexus.api import BackendKind, DialectKind, ObserverKind, RoutesKind, SourceKind, StageKind

PROJECT = "nexus"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def nexus_backends() -> Iterable[BackendKind]:  # type: ignore[empty-body]
    """Kinds of inference server: how to recognise one, how to talk to it."""


@hookspec
def nexus_stages() -> Iterable[StageKind]:  # type: ignore[empty-body]
    """Stages of the routing pipeline.  One is active when its name is in `[routing] stages`; where that is not written, the
    standard ones are, and those with `default`."""


@hookspec
def nexus_dialects() -> Iterable[DialectKind]:  # type: ignore[empty-body]
    """Wire formats that clients or servers speak."""


@hookspec
def nexus_sources() -> Iterable[SourceKind]:  # type: ignore[empty-body]
    """Ways to find servers.  One is active when its name is in `[discovery] sources` (default: all installed)."""


@hookspec
def nexus_observers() -> Iterable[ObserverKind]:  # type: ignore[empty-body]
    """Witnesses of events: metrics, logs, histories.  They cannot change traffic."""


@hookspec
def nexus_routes() -> Iterable[RoutesKind]:  # type: ignore[empty-body]
    """Extra endpoints beside the dialects' own."""
