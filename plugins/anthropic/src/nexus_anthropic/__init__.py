"""Anthropic: the dialect `anthropic` (`/v1/messages`) and the backend kind `anthropic`, as the gateway finds them.

What the dialect means is in `nexus_anthropic.dialect`, what is asked of the cloud in `nexus_anthropic.backend`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus.api import Backend, BackendKind, Dialect, DialectKind, NoOptions, hookimpl
from nexus_anthropic.limits import ANTHROPIC

if TYPE_CHECKING:
    from nexus.api import Scope, Server


@asynccontextmanager
async def _dialect(options: NoOptions, scope: Scope) -> AsyncIterator[Dialect]:
    from nexus_anthropic.dialect import Anthropic

    yield Anthropic()


@asynccontextmanager
async def _backend(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
    from nexus_anthropic.backend import AnthropicCloud

    yield AnthropicCloud(server, scope)


DIALECT = DialectKind(name="anthropic", open=_dialect)
KIND = BackendKind(
    name="anthropic",
    open=_backend,
    cloud=True,
    default_url="https://api.anthropic.com",
    accepts=ANTHROPIC,
    speaks=frozenset({("anthropic", "chat"), ("anthropic", "count")}),
)


@hookimpl
def nexus_dialects() -> Iterable[DialectKind]:
    yield DIALECT


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield KIND
