"""Doubles of two servers that run models from Hugging Face's cache: `transformers serve` and `mlx_lm.server`, as they answered in 2026-11."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import attrs

from nexus.testing.acts import Act, Respond, Stream, Through, Wire
from nexus.testing.incoming import Received
from nexus.testing.servers import shapes
from nexus.testing.servers.base import CREATED, FakeModel, Knobs
from nexus.testing.servers.openai import OpenAIServer

Models = Iterable[str | FakeModel]
NO_PATH = Respond(404, json={"detail": "Not Found"})


class TransformersServer(OpenAIServer):
    """`transformers serve`: chats only.  Its streams have no `[DONE]`, and their last frame has the finish reason and the usage, asked for
    or not; it answers by the name with its revision, and to an unknown one with a bare 500."""

    def __init__(self, models: Models = ("org/tiny",), **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self.by_itself("/health", Respond(json={"status": "ok"}), method="GET")
        paths = ("/v1/chat/completions", "/v1/responses", "/v1/audio/transcriptions", "/load_model", "/reset")
        posted: dict[str, Any] = {path: {"post": {}} for path in paths}
        self.by_itself(
            "/openapi.json", Respond(json={"openapi": "3.1.0", "paths": {**posted, "/v1/models": {"get": {}}}}), method="GET"
        )
        self.by_itself("/v1/completions", NO_PATH).by_itself("/v1/embeddings", NO_PATH)

    def entry(self, model: FakeModel) -> dict[str, Any]:
        return {"owned_by": model.name.split("/"), "id": model.name, "object": "model", "created": CREATED + 0.4583433}

    def fallback(self, received: Received) -> Act:
        return NO_PATH

    def find(self, name: object) -> FakeModel | None:
        return super().find(name.removesuffix("@main") if isinstance(name, str) else name)

    def chat(self, received: Received) -> Act:
        try:
            known = self.find(received.json["model"]) is not None
        except (ValueError, KeyError, TypeError):
            known = True  # what is wrong with it is told as elsewhere
        return super().chat(received) if known else Respond(500, body=b"Internal Server Error")

    def _play(self, answer: shapes.Answer, body: Mapping[str, Any], *, chat: bool) -> Act:
        answer = attrs.evolve(answer, model=f"{answer.model}@main")
        if not body.get("stream"):
            return super()._play(answer, body, chat=chat)
        *chunks, last = shapes.chat_chunks(answer, False)
        return self._later(
            self.pace.first_token, Stream([*chunks, {**last, "usage": answer.usage}], self.pace.interval, done=False)
        )


@attrs.define
class _Aged(Through):
    """Sends an answer as Python's `http.server` does: HTTP/1.0, with a `Server` of its own."""

    begun: bool = False

    async def send(self, data: bytes) -> None:
        if not self.begun and data.startswith(b"HTTP/1.1 "):
            line, _, rest = data.partition(b"\r\n")
            line = line.replace(b"HTTP/1.1", b"HTTP/1.0")
            data = b"\r\n".join([line, b"Server: BaseHTTP/0.6 Python/3.11.7", b"Access-Control-Allow-Origin: *", rest])
        self.begun = True
        await self.wire.send(data)


@attrs.frozen
class _OldFashioned(Act):
    """An answer in HTTP/1.0, after which the connection is closed."""

    then: Act

    async def play(self, wire: Wire) -> None:
        await self.then.play(_Aged(wire))
        wire.close()


class MLXServer(OpenAIServer):
    """`mlx_lm.server`: HTTP/1.0.  Whatever begins with `/v1/models` is its list, of which a model in one file is no part though it is served;
    a stream begins with comments while the prompt is read."""

    def __init__(self, models: Models = ("org/tiny",), **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self.by_itself("/health", Respond(json={"status": "ok"}), method="GET")
        self.by_itself("/v1/embeddings", self._nothing())

    def act_for(self, received: Received) -> Act:
        return _OldFashioned(super().act_for(received))

    def entry(self, model: FakeModel) -> dict[str, Any]:
        return {"id": model.name, "object": "model", "created": CREATED}

    def fallback(self, received: Received) -> Act:
        if received.method == "GET" and received.path.startswith("/v1/models"):
            wanted = received.path.removeprefix("/v1/models").strip("/")
            return Respond(json={"object": "list", "data": [self.entry(m) for m in self.models.values() if wanted in ("", m.name)]})
        return self._nothing()

    def _nothing(self) -> Act:
        return Respond(404, body=b"Not Found", headers={"Content-Type": "application/json"})

    def _play(self, answer: shapes.Answer, body: Mapping[str, Any], *, chat: bool) -> Act:
        if not body.get("stream"):
            return super()._play(answer, body, chat=chat)
        include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        chunks = (shapes.chat_chunks if chat else shapes.completion_chunks)(answer, include_usage)
        return self._later(self.pace.first_token, Stream([b": keepalive 1/1\n\n", *chunks], self.pace.interval, framing="close"))


def transformers_server(models: Models = ("org/tiny",), **knobs: Unpack[Knobs]) -> TransformersServer:
    """`transformers serve`."""
    return TransformersServer(models, **knobs)


def mlx_server(models: Models = ("org/tiny",), **knobs: Unpack[Knobs]) -> MLXServer:
    """`mlx_lm.server`."""
    return MLXServer(models, **knobs)
