"""Ollama: how it is recognised and opened.  What is asked of it is in `nexus_ollama.backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus.api import Backend, BackendKind, Check, FailureRule, Fault, Fingerprint, NoOptions, hookimpl

if TYPE_CHECKING:
    from nexus.api import Scope, Server


@asynccontextmanager
async def _open(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
    from nexus_ollama.backend import Ollama

    yield Ollama(server, scope)


FAILURES = (
    FailureRule(
        fault=Fault.BUSY,
        status=503,
        words="server busy, please try again",
        code="busy",
        pause=1.0,
        source="Ollama, when more wait than OLLAMA_MAX_QUEUE",
    ),
    FailureRule(
        fault=Fault.MODEL,
        status=500,
        words=("model requires more system memory", "llama runner process has terminated", "timed out waiting for llama runner"),
        code="model_failed",
        source="Ollama",
    ),
    FailureRule(
        fault=Fault.MODEL,
        status=(500, 502),
        words='post "https://ollama.com',
        code="model_failed",
        source="Ollama without a way to its cloud",
    ),
)

KIND = BackendKind(
    name="ollama",
    refused="start Ollama there with OLLAMA_HOST=0.0.0.0",
    open=_open,
    fingerprints=(
        Fingerprint(
            ports=(11434,),
            checks=(Check(path="/api/version", json="version"), Check(path="/", text="Ollama is running")),
            rank=5,
        ),
    ),
    service_types=("_ollama._tcp",),
    # OLLAMA_NUM_PARALLEL is 1 unless somebody sets it, and the server does not say what it is.  It counts for each loaded model, of
    # which several answer at one time.
    capacity=1,
    slots="resident",
    runs_models=True,
    any_spelling=True,
    forwards=("*:cloud", "*-cloud"),  # `cloudPassthroughMiddleware` there
    default_url="http://127.0.0.1:11434",
    failures=FAILURES,
)


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield KIND
