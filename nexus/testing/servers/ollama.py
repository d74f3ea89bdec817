"""A double of Ollama: its native endpoints beside the OpenAI ones.

Shapes follow Ollama's API documentation (`docs/api.md` there) and what a real one answered: tags, show, ps, version, loading by
an empty prompt; slots are counted for each loaded model, of which several answer at one time.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Unpack

import attrs

from nexus.testing.acts import Act, Respond, Slow, Wire
from nexus.testing.incoming import Received
from nexus.testing.servers import shapes
from nexus.testing.servers.base import FakeModel, Knobs, problem
from nexus.testing.servers.openai import OpenAIServer, Rejected

VERSION = "0.13.5"
NEVER = "2318-01-01T00:00:00Z"


class OllamaServer(OpenAIServer):
    """Ollama.  A name without a tag means `:latest`, one without an owner `library/`, and capitals do not count.  Models that are not `loaded` are missing from /api/ps, and all are while one is
    being loaded.

    `capacity` is OLLAMA_NUM_PARALLEL, of each model (default 1).  At most `keeps` models are in memory; where one has to go, the
    server waits until one is idle.  A conversation that is longer than the model's context is cut without a word, which `cut`
    counts; only a last message that is too long by itself is refused.
    """

    owner = "library"
    fetches = False

    def __init__(
        self, models: Iterable[str | FakeModel] = ("tiny:latest",), *, keeps: int | None = None, **knobs: Unpack[Knobs]
    ) -> None:
        super().__init__(models, **({"capacity": 1} | knobs))
        self.version = VERSION
        self.keeps = keeps
        self.cut = 0
        self.busy: Counter[str] = Counter()
        self._loading = False
        self._moved = asyncio.Condition()
        self.by_itself("/", Respond(body=b"Ollama is running"))
        self.by_itself("/api/version", lambda _: Respond(json={"version": self.version}), method="GET")
        self.by_itself("/api/tags", self.tags, method="GET")
        self.by_itself("/api/ps", self.ps, method="GET")
        self.by_itself("/api/show", self.show, method="POST")
        self.by_itself("/api/generate", self.generate, method="POST")

    def find(self, name: object) -> FakeModel | None:
        if isinstance(name, str) and name not in self.models:
            name = next((known for known in self.models if _full(known) == _full(name)), name)
        return super().find(name)

    # ---- memory

    def domain(self, model: FakeModel) -> str:
        return model.name

    @asynccontextmanager
    async def slot(self, model: FakeModel) -> AsyncIterator[None]:
        async with super().slot(model):
            self.busy[model.name] += 1
            try:
                yield
            finally:
                self.busy[model.name] -= 1
                async with self._moved:
                    self._moved.notify_all()

    async def bring(self, model: FakeModel, wire: Wire) -> None:
        if model.name in self.loaded or model.remote_host:
            return
        async with self._moved:
            await self._moved.wait_for(lambda: not self._loading and self._has_room())
            self._loading = True
        try:
            await super().bring(model, wire)
        finally:
            self._loading = False
            async with self._moved:
                self._moved.notify_all()

    def _has_room(self) -> bool:
        """Whether one more may be loaded; the first that is idle makes room for it."""
        if self.keeps is None or len(self.loaded) < self.keeps:
            return True
        idle = next((name for name in sorted(self.loaded) if not self.busy[name]), None)
        self.loaded.discard(idle or "")
        return idle is not None

    # ---- prompts

    def answer(self, body: Mapping[str, Any], model: FakeModel, *, chat: bool) -> shapes.Answer:
        said = super().answer(body, model, chat=chat)
        if said.prompt_tokens <= model.context:
            return said
        if chat and (last := len(json.dumps(body["messages"][-1:])) // 4) > model.context:
            raise Rejected(_too_long(last, model.context))
        self.cut += 1
        return attrs.evolve(said, prompt_tokens=model.context)

    # ---- its own endpoints

    def tags(self, received: Received) -> Act:
        return Respond(json={"models": [self._tag(model) for model in self.models.values()]})

    def _tag(self, model: FakeModel) -> dict[str, Any]:
        tag = {
            "name": model.name,
            "model": model.name,
            "modified_at": "2025-10-09T08:53:20Z",
            "size": 340 if model.remote_host else 2_019_393_189,
            "digest": hashlib.sha256(model.name.encode()).hexdigest(),
            "details": _details(model) | {"context_length": model.context_max},
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
            "parameters": f"num_ctx                        {model.num_ctx}" if model.num_ctx else "",
            "template": "{{ .Prompt }}",
            "details": _details(model),
            "model_info": info,
            "capabilities": capabilities(model),
            "modified_at": "2025-10-09T08:53:20Z",
        }
        return Respond(json=shown | _remote(model))

    def ps(self, received: Received) -> Act:
        loaded = () if self._loading else self.loaded
        resident = [model for name, model in self.models.items() if name in loaded and not model.remote_host]
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


def _too_long(tokens: int, context: int) -> Respond:
    """The runner's error, as a text within Ollama's own."""
    message = f"request ({tokens} tokens) exceeds the available context size ({context} tokens), try increasing it"
    said = {"code": 400, "message": message, "type": "exceed_context_size_error", "n_prompt_tokens": tokens, "n_ctx": context}
    return problem(400, json.dumps({"error": said}), "invalid_request_error", None)


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


def ollama_server(
    models: Iterable[str | FakeModel] = ("tiny:latest",), *, keeps: int | None = None, **knobs: Unpack[Knobs]
) -> OllamaServer:
    """A double of Ollama."""
    return OllamaServer(models, keeps=keeps, **knobs)


def _full(name: str) -> str:
    """The name with all that may be left out of it (`types/model/name.go` there)."""
    path, _, model = name.lower().removeprefix("https://").rpartition("/")
    model, _, tag = model.partition(":")
    host, _, owner = path.rpartition("/")
    return f"{host or 'registry.ollama.ai'}/{owner or 'library'}/{model}:{tag or 'latest'}"
