"""Small doubles of servers that speak OpenAI's API and are told apart by an endpoint or two of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

from nexus.testing.acts import Act, Respond
from nexus.testing.incoming import Received
from nexus.testing.servers.base import FakeModel, Knobs
from nexus.testing.servers.openai import OpenAIServer

Models = Iterable[str | FakeModel]


def localai_server(models: Models = ("tiny",), **knobs: Unpack[Knobs]) -> OpenAIServer:
    """LocalAI.  It answers Ollama's `/api/version` and `/` too, which is why it must be asked about first."""
    server = OpenAIServer(models, **knobs)
    loaded = lambda _: Respond(json={"backends": ["llama-cpp"], "loaded_models": [{"id": name} for name in server.loaded]})  # noqa: E731 - read at request time
    server.by_itself("/.well-known/localai.json", Respond(json={"version": "v3.7.0", "endpoints": {"models": "/v1/models"}}))
    server.by_itself("/healthz", Respond(body=b"OK")).by_itself("/readyz", Respond(body=b"OK"))
    server.by_itself("/version", Respond(json={"version": "v3.7.0"})).by_itself("/system", loaded)
    return server.by_itself("/api/version", Respond(json={"version": "0.13.5"})).by_itself("/", Respond(body=b"Ollama is running"))


class LlamaSwapServer(OpenAIServer):
    """llama-swap.  `also` are further names of models, which stand in its list as `meta` only.  `started` notes the models whose own server
    was asked while it did not run: asking starts it."""

    owner = "llama-swap"

    def __init__(self, models: Models = ("tiny",), *, also: Mapping[str, str] | None = None, **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self.also = dict(also or {})
        self.started: list[str] = []
        self.by_itself("/api/version", Respond(json={"build_date": "unknown", "commit": "abcd1234", "version": "0"}))
        self.by_itself("/", Respond(301, headers={"Location": "/ui"}))

    def entry(self, model: FakeModel) -> dict[str, Any]:
        own = {"aliases": [alias for alias, name in self.also.items() if name == model.name], "type": "model"}
        status = {"value": "loaded" if model.name in self.loaded else "unloaded"}
        return {**super().entry(model), "meta": {"llamaswap": {k: v for k, v in own.items() if v}}, "status": status}

    def find(self, name: object) -> FakeModel | None:
        return super().find(self.also.get(name, name) if isinstance(name, str) else name)

    def fallback(self, received: Received) -> Act:
        name = received.path.removeprefix("/upstream/").removesuffix("/props")
        if received.path != f"/upstream/{name}/props" or name not in self.models:
            return super().fallback(received)
        if name not in self.loaded:
            self.started.append(name)
            self.loaded.add(name)
        return Respond(json={"default_generation_settings": {"n_ctx": self.models[name].context}, "total_slots": 1})


def llamaswap_server(
    models: Models = ("tiny",), *, also: Mapping[str, str] | None = None, **knobs: Unpack[Knobs]
) -> LlamaSwapServer:
    """llama-swap: `/health` says OK whatever the models do; `/running` says which are loaded."""
    server = LlamaSwapServer(models, also=also, **knobs)

    def running(received: Received) -> Act:
        return Respond(json={"running": [{"model": name, "state": "ready", "ttl": 0} for name in server.loaded]})

    def unload(received: Received) -> Act:
        server.loaded.clear()
        return Respond(body=b"OK")

    server.by_itself("/health", Respond(body=b"OK")).by_itself("/running", running, method="GET")
    return server.by_itself("/api/models/unload", unload, method="POST")


def llamafile_server(models: Models = ("LLaMA_CPP",), **knobs: Unpack[Knobs]) -> OpenAIServer:
    """llamafile: one model per process, whatever the request names, one request at a time."""
    server = OpenAIServer(models, **({"any_model": True, "capacity": 1} | knobs))
    server.owner = "llamafile"
    return server.by_itself("/health", Respond(json={"status": "ok", "slots_idle": 1, "slots_processing": 0}), method="GET")


class LiteLLMServer(OpenAIServer):
    """LiteLLM's proxy.  `billed` counts calls of `/health`, which makes real completions: a probe must leave it at 0."""

    owner = "openai"
    open_paths = frozenset({"/health/liveliness", "/health/liveness", "/"})

    def __init__(self, models: Models = ("tiny",), **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self.billed = 0
        for path in ("/health/liveliness", "/health/liveness"):
            self.by_itself(path, Respond(json="I'm alive!"), method="GET")
        self.by_itself("/health", self.health, method="GET").by_itself("/model/info", self.info, method="GET")

    def health(self, received: Received) -> Act:
        self.billed += 1
        return Respond(json={"healthy_endpoints": [{"model": name} for name in self.models], "unhealthy_endpoints": []})

    def info(self, received: Received) -> Act:
        return Respond(json={"data": [self._info(model) for model in self.models.values()]})

    def _info(self, model: FakeModel) -> dict[str, Any]:
        mode = "embedding" if model.embedding else "chat"
        facts = {"max_input_tokens": model.context, "supports_vision": model.vision, "mode": mode}
        return {"model_name": model.name, "litellm_params": {"model": f"openai/{model.name}"}, "model_info": facts}


def litellm_server(models: Models = ("tiny",), **knobs: Unpack[Knobs]) -> LiteLLMServer:
    """LiteLLM's proxy."""
    return LiteLLMServer(models, **knobs)


def rayserve_server(models: Models = ("tiny",), **knobs: Unpack[Knobs]) -> OpenAIServer:
    """Ray Serve LLM."""
    server = OpenAIServer(models, **knobs)
    server.by_itself("/-/healthz", Respond(body=b"success"), method="GET")
    return server.by_itself("/-/routes", Respond(json={"/": "llm-app"}), method="GET")
