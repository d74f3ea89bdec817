"""A double of a generic OpenAI-compatible server: models, chat, completions, embeddings.  Native APIs live beside it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any, Unpack

import attrs

from nexus.testing.acts import Act, Respond, Slow, Stream
from nexus.testing.incoming import Received
from nexus.testing.servers import shapes
from nexus.testing.servers.base import CREATED, FakeModel, FakeServer, Knobs, problem


class Rejected(Exception):
    """A request that the server answers with an error."""

    def __init__(self, act: Act) -> None:
        super().__init__()
        self.act = act


class OpenAIServer(FakeServer):
    """What a server does that speaks OpenAI's API and nothing else.  Subclasses add their own endpoints and entries.  `fetches` says
    whether it takes pictures by their address."""

    owner = "organization-owner"
    fetches = True

    def __init__(self, models: Iterable[str | FakeModel] = ("tiny",), **knobs: Unpack[Knobs]) -> None:
        super().__init__(models, **knobs)
        self._ids = itertools.count(1)
        self.by_itself("/v1/models", self.list_models, method="GET")
        self.by_itself("/v1/chat/completions", self.chat, method="POST")
        self.by_itself("/v1/completions", self.complete, method="POST")
        self.by_itself("/v1/embeddings", self.embed, method="POST")

    # ---- models

    def entry(self, model: FakeModel) -> dict[str, Any]:
        """The model's entry in the list."""
        return {"id": model.name, "object": "model", "created": CREATED, "owned_by": self.owner}

    def list_models(self, received: Received) -> Act:
        return Respond(json={"object": "list", "data": [self.entry(model) for model in self.models.values()]})

    def fallback(self, received: Received) -> Act:
        name = received.path.removeprefix("/v1/models/")
        if received.method == "GET" and name in self.models:
            return Respond(json=self.entry(self.models[name]))
        return super().fallback(received)

    # ---- generation

    def chat(self, received: Received) -> Act:
        return self._generate(received, "messages", list)

    def complete(self, received: Received) -> Act:
        return self._generate(received, "prompt", (str, list))

    def _generate(self, received: Received, field: str, kinds: type | tuple[type, ...]) -> Act:
        try:
            body, model = self._read(received, field, kinds)
            answer = self.answer(body, model, chat=field == "messages")
        except Rejected as rejected:
            return rejected.act
        return self.turn(model, self._play(answer, body, chat=field == "messages"))

    def _read(self, received: Received, field: str, kinds: type | tuple[type, ...]) -> tuple[dict[str, Any], FakeModel]:
        try:
            body = received.json
        except (ValueError, RecursionError):
            raise Rejected(_invalid("We could not parse the JSON body of your request.")) from None
        if not isinstance(body, dict) or not isinstance(body.get(field), kinds):
            raise Rejected(_invalid(f"Missing or wrong parameter: '{field}'."))
        if (model := self.find(body.get("model"))) is None:
            message = f"The model `{body.get('model')}` does not exist or you do not have access to it."
            raise Rejected(problem(404, message, "invalid_request_error", "model_not_found"))
        if has_image(body) and not model.vision:
            raise Rejected(_invalid(f"The model `{model.name}` does not take images."))
        if has_image(body, elsewhere=True) and not self.fetches:
            raise Rejected(_invalid("invalid image input"))
        return body, model

    def answer(self, body: Mapping[str, Any], model: FakeModel, *, chat: bool) -> shapes.Answer:
        """What is said to this request.  Raises Rejected."""
        prefix = "chatcmpl" if chat else "cmpl"
        base = shapes.Answer(
            id=f"{prefix}-{next(self._ids):024x}",
            model=model.name,
            prompt_tokens=max(1, len(json.dumps(body.get("messages", body.get("prompt")))) // 4),
            choices=body.get("n") or 1,
        )
        if chat and (tool := self._called(body)):
            return attrs.evolve(base, tool=tool, finish="tool_calls")
        pieces = shapes.pieces(self._text(body))
        limit = body.get("max_completion_tokens") or body.get("max_tokens") or len(pieces)
        return attrs.evolve(base, pieces=pieces[:limit], finish="length" if limit < len(pieces) else "stop")

    def _text(self, body: Mapping[str, Any]) -> str:
        text = self.text if isinstance(self.text, str) else self.text(body)
        match body.get("response_format"):
            case {"type": "json_schema", "json_schema": {"schema": schema}}:
                return json.dumps(shapes.sample(schema))
            case {"type": "json_object"}:
                return json.dumps({"answer": text})
        return text

    def _called(self, body: Mapping[str, Any]) -> tuple[str, str] | None:
        """The tool to call: the one that is forced, or the first where the double likes tools and has no result yet."""
        functions = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
        if not functions or body.get("tool_choice") == "none":
            return None
        match body.get("tool_choice"):
            case {"function": {"name": name}} if name in functions:
                chosen = name
            case choice:
                answered = any(message.get("role") == "tool" for message in body["messages"])
                if choice != "required" and (answered or not self.tool):
                    return None
                chosen = next(iter(functions))
        return chosen, json.dumps(shapes.sample(functions[chosen].get("parameters", {"type": "object"})))

    def _play(self, answer: shapes.Answer, body: Mapping[str, Any], *, chat: bool) -> Act:
        whole, chunked = (shapes.chat_completion, shapes.chat_chunks) if chat else (shapes.completion, shapes.completion_chunks)
        if not body.get("stream"):
            seconds = self.pace.first_token + self.pace.interval * len(answer.pieces)
            return self._later(seconds, Respond(json=whole(answer)))
        include_usage = self.usage and bool((body.get("stream_options") or {}).get("include_usage"))
        return self._later(self.pace.first_token, Stream(chunked(answer, include_usage), self.pace.interval))

    def _later(self, seconds: float, act: Act) -> Act:
        return Slow(seconds, act) if seconds else act

    # ---- embeddings

    def embed(self, received: Received) -> Act:
        try:
            body, model = self._read(received, "input", (str, list))
        except Rejected as rejected:
            return rejected.act
        if not model.embedding:
            return _invalid(f"The model `{model.name}` does not make embeddings.")
        dimensions = body.get("dimensions") or self.dimensions
        answer = shapes.embeddings(model.name, texts(body["input"]), dimensions, body.get("encoding_format", "float"))
        return self.turn(model, self._later(self.pace.first_token, Respond(json=answer)))


def texts(value: str | list[Any]) -> list[str]:
    """The inputs of an embedding request: a text, texts, token ids, or lists of token ids."""
    if isinstance(value, str):
        return [value]
    if value and all(isinstance(item, int) for item in value):
        return [json.dumps(value)]
    return [item if isinstance(item, str) else json.dumps(item) for item in value]


def has_image(body: Mapping[str, Any], *, elsewhere: bool = False) -> bool:
    """Whether any message carries a picture; `elsewhere`: one that would have to be fetched."""
    contents = [message.get("content") for message in body.get("messages", ()) if isinstance(message, dict)]
    parts = [part for content in contents if isinstance(content, list) for part in content]
    images = [part.get("image_url") for part in parts if isinstance(part, dict) and part.get("type") == "image_url"]
    urls = [image.get("url") if isinstance(image, dict) else image for image in images]
    return any(not str(url).startswith("data:") for url in urls) if elsewhere else bool(images)


def _invalid(message: str) -> Respond:
    return problem(400, message, "invalid_request_error", None)


def openai_server(models: Iterable[str | FakeModel] = ("tiny",), **knobs: Unpack[Knobs]) -> OpenAIServer:
    """A generic OpenAI-compatible server."""
    return OpenAIServer(models, **knobs)
