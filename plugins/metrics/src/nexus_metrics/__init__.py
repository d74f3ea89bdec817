"""Prometheus metrics for Nexus: descriptors and hooks only.  Counting lives in `counts`, the endpoint in `component`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import attrs

from nexus.api import ObserverKind, RoutesKind, Scope, hookimpl, opens

if TYPE_CHECKING:
    from nexus_metrics.component import Metrics


@attrs.frozen(kw_only=True)
class MetricsOptions:
    """`[metrics]`.  `public`: the counts, which name models and backends, are for whoever asks, also where keys are configured."""

    public: bool = False


def _make(options: Any, scope: Scope) -> Metrics:
    from nexus_metrics.component import Metrics

    return Metrics(public=options.public)


# One `open` in both descriptors: the gateway opens it once, and what it counts is what it serves.
_open = opens(_make)


@hookimpl
def nexus_observers() -> Iterable[ObserverKind]:
    yield ObserverKind(name="metrics", open=_open, options=MetricsOptions)


@hookimpl
def nexus_routes() -> Iterable[RoutesKind]:
    yield RoutesKind(name="metrics", open=_open, options=MetricsOptions)
