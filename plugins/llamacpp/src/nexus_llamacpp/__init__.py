"""llama.cpp's server: how it is recognised and opened.  What is asked of it is in `nexus_llamacpp.backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus.api import Backend, BackendKind, Check, FailureRule, Fault, Fingerprint, NoOptions, hookimpl

if TYPE_CHECKING:
    from nexus.api import Scope, Server


@asynccontextmanager
async def _open(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
    from nexus_llamacpp.backend import LlamaCpp

    yield LlamaCpp(server, scope)


FAILURES = (
    FailureRule(
        fault=Fault.MODEL,
        status=500,
        words=("model name=… failed to load", "model name=… exited"),
        code="model_failed",
        source="llama.cpp's router",
    ),
)

PORTS = (8080, 9931)  # the usual one, and the one that its start announces as the next

KIND = BackendKind(
    name="llamacpp",
    refused="start llama-server there with --host 0.0.0.0",
    open=_open,
    fingerprints=tuple(Fingerprint(ports=(port,), checks=(Check(path="/props", json="build_info"),), rank=6) for port in PORTS),
    slots="model",  # as a router it has a server for each model, and waits until one is idle before it puts another in its place
    runs_models=True,
    default_url="http://127.0.0.1:8080",
    failures=FAILURES,
)


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield KIND
