"""A double of Ollama: its native endpoints beside the OpenAI ones.

Shapes follow Ollama's API documentation (`docs/api.md` there): tags, show, ps, version, and loading by an empty prompt.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Unpack

from nexus.testing.acts import Act, Respond, Slow
from nexus.testing.incoming import Received
from nexus.testing.servers.base import FakeModel, Knobs
from nexus.testing.servers.openai import OpenAIServer

VERSION = "0.13.5"
NEVER = "2318-01-01T00:00:00Z"


class OllamaServer(OpenAIServer):
    """Ollama.  A name without a tag means `:latest`.  Models that are not `loaded` are missing from /api/ps."""

    owner = "library"
    fetches = False

    def __init__(self, models: Iterable[str | FakeModel] = ("tiny:latest",), **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self.version = VERSION
        self.by_itself("/", Respond(body=b"Ollama is running"))
        self.by_itself("/api/version", lambda _: Respond(json={"version": self.version}), method="GET")
        self.by_itself("/api/tags", self.tags, method="GET")
        self.by_itself("/api/ps", self.ps, method="GET")
        self.by_itself("/api/show", self.show, method="POST")
        self.by_itself("/api/generate", self.generate, method="POST")

    def find(self, name: object) -> FakeModel | None:
        return super().find(name) or super().find(f"{name}:latest")

    def tags(self, received: Received) -> Act:
        return Respond(json={"models": [self._tag(model) for model in self.models.values()]})

    def _tag(self, model: FakeModel) -> dict[str, Any]:
        tag = {
            "name": model.name,
            "model": model.name,
            "modified_at": "2025-10-09T08:53:20Z",
            "size": 340 if model.remote_host else 2_019_393_189,
            "digest": "a80c4f17acd55265feec403c7aef86be0c25983ab279d83f3bcd3abbcb5b8b72",
            "details": _details(model),
            "capabilities": capabilities(model),
        }
        return tag | _remote(model)

    def show(self, received: Received) -> Act:
        body = received.json
        name = body.get("model") or body.get("name")
        if (model := self.find(name)) is None:
            return Respond(404, json={"error": f"model '{name}' not found"})
        info = {
            "general.architecture": "llama",
            "llama.context_length": model.context_max,
            "llama.embedding_length": self.dimensions,
        }
        shown = {
            "modelfile": f"FROM {model.name}",
            "parameters": f"num_ctx                        {model.context}",
            "template": "{{ .Prompt }}",
            "details": _details(model),
            "model_info": info,
            "capabilities": capabilities(model),
            "modified_at": "2025-10-09T08:53:20Z",
        }
        return Respond(json=shown | _remote(model))

    def ps(self, received: Received) -> Act:
        resident = [model for name, model in self.models.items() if name in self.loaded and not model.remote_host]
        return Respond(json={"models": [self._resident(model) for model in resident]})

    def _resident(self, model: FakeModel) -> dict[str, Any]:
        return {
            "name": model.name,
            "model": model.name,
            "size": 3_000_000_000,
            "digest": self._tag(model)["digest"],
            "details": _details(model),
            "expires_at": NEVER,
            "size_vram": 3_000_000_000,
            "context_length": model.context,
        }

    def generate(self, received: Received) -> Act:
        """Loading, and unloading by `keep_alive: 0`; a prompt is for the OpenAI surface of this double."""
        body = received.json
        if (model := self.find(body.get("model"))) is None:
            return Respond(404, json={"error": f"model '{body.get('model')}' not found"})
        if body.get("prompt"):
            return Respond(400, json={"error": "this double generates through /v1 only"})
        unload = body.get("keep_alive") == 0
        done = {"model": model.name, "response": "", "done": True, "done_reason": "unload" if unload else "load"}
        if unload:
            self.loaded.discard(model.name)
            return Respond(json=done)
        return self.turn(model, Slow(0, Respond(json=done)))


def capabilities(model: FakeModel) -> list[str]:
    """The model's abilities in Ollama's words."""
    if model.embedding:
        return ["embedding"]
    return ["completion", *(word for word in ("tools", "vision", "thinking") if getattr(model, word))]


def _details(model: FakeModel) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": "gguf",
        "family": "llama",
        "families": ["llama"],
        "parameter_size": "3.2B",
        "quantization_level": "Q4_K_M",
    }


def _remote(model: FakeModel) -> dict[str, str]:
    if not model.remote_host:
        return {}
    return {"remote_model": model.name.removesuffix("-cloud").removesuffix(":cloud"), "remote_host": model.remote_host}


def ollama_server(models: Iterable[str | FakeModel] = ("tiny:latest",), **knobs: Unpack[Knobs]) -> OllamaServer:
    """A double of Ollama."""
    return OllamaServer(models, **knobs)
