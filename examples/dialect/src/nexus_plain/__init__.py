"""The plain dialect, and the kind of server that speaks it, as the gateway finds them.  What they mean is in the other files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from nexus.api import Backend, BackendKind, Check, Dialect, DialectKind, Fingerprint, NoOptions, Scope, Server, hookimpl


@asynccontextmanager
async def _dialect(options: NoOptions, scope: Scope) -> AsyncIterator[Dialect]:
    from nexus_plain.dialect import Plain

    yield Plain()


@asynccontextmanager
async def _backend(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
    from nexus_plain.backend import PlainServer

    yield PlainServer(server, scope)


DIALECT = DialectKind(name="plain", open=_dialect)
KIND = BackendKind(
    name="plain",
    open=_backend,
    fingerprints=(Fingerprint(ports=(7078,), checks=(Check(path="/plain/models", json="plain"),), rank=5),),
    runs_models=True,
    default_url="http://127.0.0.1:7078",
)


@hookimpl
def nexus_dialects() -> Iterable[DialectKind]:
    yield DIALECT


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield KIND
