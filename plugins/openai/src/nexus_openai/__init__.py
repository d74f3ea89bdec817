"""OpenAI and servers that speak its API: how each kind is recognised and opened.

What is asked of them is in `nexus_openai.servers` and `nexus_openai.cloud`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs

from nexus.api import Backend, BackendKind, Check, Fingerprint, hookimpl
from nexus_openai.failures import LITELLM, LLAMASWAP
from nexus_openai.limits import OPENAI

if TYPE_CHECKING:
    from nexus.api import Scope, Server


@attrs.frozen(kw_only=True)
class CompatibleOptions:
    """`takes_usage`: the server takes `stream_options` and ends a stream with its token counts when asked to."""

    takes_usage: bool = False


Opener = Callable[["Server", Any, "Scope"], AbstractAsyncContextManager[Backend]]


def _opens(word: str) -> Opener:
    @asynccontextmanager
    async def open_(server: Server, options: Any, scope: Scope) -> AsyncIterator[Backend]:
        from nexus_openai.servers import CLASSES

        yield CLASSES[word](server, scope, options)

    return open_


# The usual ports of llama.cpp and its relatives, vLLM, SGLang, LM Studio, LiteLLM, text-generation-webui, Jan, KoboldCpp, GPT4All.
PORTS = (8080, 8000, 1234, 4000, 5000, 5001, 1337, 4891, 8001, 8081, 30000)

CHATS = frozenset({("openai", "chat")})
WRITES = CHATS | {("openai", "completion")}

KINDS = (
    BackendKind(name="openai", open=_opens("openai"), cloud=True, default_url="https://api.openai.com", accepts=OPENAI),
    BackendKind(
        name="localai",
        open=_opens("localai"),
        fingerprints=(Fingerprint(ports=(8080,), checks=(Check(path="/.well-known/localai.json", json="endpoints"),), rank=1),),
    ),
    BackendKind(
        name="llamaswap",
        open=_opens("llamaswap"),
        fingerprints=(Fingerprint(ports=(8080,), checks=(Check(path="/running", json="running"),), rank=2),),
        capacity=10,  # its `concurrencyLimit` where none is written, beyond which it answers 429
        slots="model",  # it waits for running requests before it swaps, and knows which models fit side by side
        failures=LLAMASWAP,
    ),
    BackendKind(
        name="llamafile",
        refused="start the llamafile there with --host 0.0.0.0",
        open=_opens("llamafile"),
        fingerprints=(Fingerprint(ports=(8080,), checks=(Check(path="/v1/models", text='"llamafile"'),), rank=7),),
        capacity=1,
        runs_models=True,
    ),
    BackendKind(
        name="rayserve",
        refused="start Ray Serve there with the HTTP host 0.0.0.0",
        open=_opens("rayserve"),
        fingerprints=(
            Fingerprint(
                ports=(8000,), checks=(Check(path="/-/healthz", text="success"), Check(path="/v1/models", json="data")), rank=8
            ),
        ),
    ),
    BackendKind(
        name="litellm",
        open=_opens("litellm"),
        fingerprints=(Fingerprint(ports=(4000,), checks=(Check(path="/health/liveliness", text="I'm alive"),), rank=8),),
        failures=LITELLM,
    ),
    BackendKind(
        name="transformers",
        refused="start transformers serve there with --host 0.0.0.0",
        open=_opens("transformers"),
        fingerprints=(
            Fingerprint(ports=(8000,), checks=(Check(path="/v1/models", json="data.0.owned_by.0"),), rank=8),
            Fingerprint(
                ports=(8000,), checks=(Check(path="/openapi.json", json="paths./load_model.post"),), rank=9
            ),  # an empty cache
        ),
        runs_models=True,
        speaks=CHATS,
    ),
    BackendKind(
        name="mlx",
        refused="start mlx_lm.server there with --host 0.0.0.0",
        open=_opens("mlx"),
        fingerprints=(
            Fingerprint(  # it answers the question for one model with its list, whatever the name
                ports=(8080,),
                checks=(Check(path="/v1/models/-", text='{"object": "list", "data": [', header="server: BaseHTTP/"),),
                rank=8,
            ),
        ),
        runs_models=True,
        speaks=WRITES,
    ),
    BackendKind(
        name="openai-compatible",
        refused='in LM Studio there, turn on "Serve on Local Network"; most others are started with --host 0.0.0.0',
        open=_opens("openai-compatible"),
        options=CompatibleOptions,
        fingerprints=(
            Fingerprint(ports=PORTS, checks=(Check(path="/v1/models", json="data.0.id"),), rank=10),
            Fingerprint(ports=PORTS, checks=(Check(path="/v1/models", json="object", text='"list"'),), rank=11),  # of nothing yet
        ),
        service_types=("_openai._tcp", "_llm._tcp"),
    ),
)


@hookimpl
def nexus_backends() -> Iterable[BackendKind]:
    yield from KINDS
