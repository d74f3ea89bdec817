"""A double of llama.cpp's server.  Shapes were read off a real one (`/health`, `/props`, `/v1/models`, `/slots`, `/metrics`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from nexus.testing.acts import Act, Respond
from nexus.testing.incoming import Received
from nexus.testing.servers.base import CREATED, FakeModel, Knobs
from nexus.testing.servers.openai import OpenAIServer

TEMPLATE = "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
TOOL_TEMPLATE = "{% if tools %}{{ tools | tojson }}{% endif %}" + TEMPLATE


class LlamaCppServer(OpenAIServer):
    """llama.cpp: one model, whatever the request names.

    While `loading` every endpoint but the model list answers 503.  `sleeping` is what `/props` says of an idle server.  `metrics` stands for
    its `--metrics` flag.  `capacity` is its number of slots (default 1).
    """

    owner = "llamacpp"
    list_paths = frozenset({"/models", "/v1/models"})
    open_paths = frozenset({"/health", "/v1/health", "/"}) | list_paths

    def __init__(
        self,
        models: Iterable[str | FakeModel] = ("tiny",),
        *,
        loading: bool = False,
        sleeping: bool = False,
        metrics: bool = True,
        **knobs: Unpack[Knobs],
    ) -> None:
        super().__init__(models, **({"any_model": True, "capacity": 1} | knobs))
        self.loading = loading
        self.sleeping = sleeping
        for path in ("/health", "/v1/health"):
            self.by_itself(path, Respond(json={"status": "ok"}), method="GET")
        self.by_itself("/models", self.list_models, method="GET")
        self.by_itself("/props", self.props, method="GET")
        self.by_itself("/slots", self.slots, method="GET")
        if metrics:
            self.by_itself("/metrics", self.metrics, method="GET")

    def act_for(self, received: Received) -> Act:
        if self.loading and received.path not in self.list_paths:
            error = {"message": "Loading model", "type": "unavailable_error", "code": 503}
            return Respond(503, json={"error": error})
        return super().act_for(received)

    @property
    def model(self) -> FakeModel:
        """The one it serves."""
        return next(iter(self.models.values()))

    def entry(self, model: FakeModel) -> dict[str, Any]:
        meta = {
            "vocab_type": 1,
            "n_vocab": 32000,
            "n_ctx": model.context,
            "n_ctx_train": model.context_max,
            "n_embd": self.dimensions,
            "n_params": 1_235_814_432,
            "size": 2_019_393_189,
        }
        known = None if self.loading else meta
        return {"id": model.name, "object": "model", "created": CREATED, "owned_by": self.owner, "meta": known}

    def list_models(self, received: Received) -> Act:
        models = [{"name": name, "model": name, "capabilities": ["completion"]} for name in self.models]
        return Respond(json={"models": models, "object": "list", "data": [self.entry(model) for model in self.models.values()]})

    def props(self, received: Received) -> Act:
        return Respond(
            json={
                "default_generation_settings": {"params": {"n_predict": -1, "temperature": 0.8}, "n_ctx": self.model.context},
                "total_slots": self.capacity,
                "model_alias": self.model.name,
                "model_path": f"{self.model.name}.gguf",
                "modalities": {"vision": self.model.vision, "audio": False},
                "chat_template": TOOL_TEMPLATE if self.model.tools else TEMPLATE,
                "chat_template_caps": {"supports_tools": self.model.tools, "supports_tool_calls": self.model.tools},
                "bos_token": "<s>",
                "eos_token": "</s>",
                "build_info": "b6940-4f1a2c3d",
                "is_sleeping": self.sleeping,
            }
        )

    def slots(self, received: Received) -> Act:
        slots = [
            {"id": index, "n_ctx": self.model.context, "is_processing": index < self.running} for index in range(self.capacity or 1)
        ]
        return Respond(json=slots)

    def metrics(self, received: Received) -> Act:
        counts = {"requests_processing": self.running, "requests_deferred": self.waiting}
        lines = [f"# TYPE llamacpp:{name} gauge\nllamacpp:{name} {value}\n" for name, value in counts.items()]
        return Respond(body="".join(lines).encode(), headers={"Content-Type": "text/plain; version=0.0.4"})


def llamacpp_server(
    models: Iterable[str | FakeModel] = ("tiny",),
    *,
    loading: bool = False,
    sleeping: bool = False,
    metrics: bool = True,
    **knobs: Unpack[Knobs],
) -> LlamaCppServer:
    """A double of llama.cpp's server."""
    return LlamaCppServer(models, loading=loading, sleeping=sleeping, metrics=metrics, **knobs)
