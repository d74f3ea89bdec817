"""A double of vLLM's OpenAI server: `/health`, `/version`, `max_model_len` in the model list, and its metrics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from nexus.testing.acts import Act, Respond
from nexus.testing.incoming import Received
from nexus.testing.servers.base import FakeModel, Knobs
from nexus.testing.servers.openai import OpenAIServer


class VLLMServer(OpenAIServer):
    """vLLM.  `old_metrics` says the cache gauge by its older name; `down` makes `/health` answer 503 (a dead engine)."""

    owner = "vllm"
    open_paths = frozenset({"/health", "/version", "/metrics"})

    def __init__(self, models: Iterable[str | FakeModel] = ("tiny",), *, old_metrics: bool = False, **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self.old_metrics = old_metrics
        self.down = False
        self.by_itself("/health", lambda _: Respond(503 if self.down else 200), method="GET")
        self.by_itself("/version", Respond(json={"version": "0.11.2"}), method="GET")
        self.by_itself("/metrics", self.metrics, method="GET")

    def entry(self, model: FakeModel) -> dict[str, Any]:
        return super().entry(model) | {"root": model.name, "parent": None, "max_model_len": model.context, "permission": []}

    def metrics(self, received: Received) -> Act:
        cache = "gpu_cache_usage_perc" if self.old_metrics else "kv_cache_usage_perc"
        values = {"num_requests_running": self.running, "num_requests_waiting": self.waiting, cache: 0.0}
        label = f'{{engine="0",model_name="{next(iter(self.models), "")}"}}'
        lines = [f"# TYPE vllm:{name} gauge\nvllm:{name}{label} {float(value)}\n" for name, value in values.items()]
        return Respond(body="".join(lines).encode(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


def vllm_server(models: Iterable[str | FakeModel] = ("tiny",), *, old_metrics: bool = False, **knobs: Unpack[Knobs]) -> VLLMServer:
    """A double of vLLM."""
    return VLLMServer(models, old_metrics=old_metrics, **knobs)
