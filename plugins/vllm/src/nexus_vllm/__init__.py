"""vLLM: how it is recognised and opened.  What is asked of it is in `nexus_vllm.backend`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from nexus.api import Backend, BackendKind, Check, Fingerprint, NoOptions, hookimpl

if TYPE_CHECKING:
    from nexus.api import Scope, Server


@asynccontextmanager
async def _open(server: Server, options: NoOptions, scope: Scope) -> AsyncIterator[Backend]:
    from nexus_vllm.backend import VLLM

    yield VLLM(server, scope)


KIND = BackendKind(
    name="vllm",
    open=_open,
    fingerprints=(
        Fingerprint(
            ports=(8000,),
            checks=(Check(path="/version", json="version"), Check(path="/v1/models", json="data.0.max_model_len")),
            rank=7,
        ),
    ),
    runs_models=True,
    default_url="http://127.0.0.1:8000",
)


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield KIND
