"""The echo server: how it is recognised and opened.  What is asked of it is in `nexus_echo.backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from nexus.api import Backend, BackendKind, Check, Fingerprint, NoOptions, Scope, Server, hookimpl


@asynccontextmanager
async def _open(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
    from nexus_echo.backend import Echo  # here, so that a gateway without such a server does not load it

    yield Echo(server, scope)


KIND = BackendKind(
    name="echo",
    open=_open,
    # It also lists its models as OpenAI does, so it must be asked before the generic kind, whose rank is 9.
    fingerprints=(Fingerprint(ports=(7077,), checks=(Check(path="/echo", json="echo.version"),), rank=5),),
    runs_models=True,
    default_url="http://127.0.0.1:7077",
)


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield KIND
