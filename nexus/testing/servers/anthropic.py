"""A double of Anthropic's API: `/v1/messages` whole and streamed, counting, and the model list in pages.

Shapes follow Anthropic's API reference.  What is said, and how fast, is set as on every other double.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Unpack
from urllib.parse import parse_qs

import attrs

from nexus.testing.acts import Act, Respond, Slow, Stream
from nexus.testing.incoming import Received
from nexus.testing.servers import shapes
from nexus.testing.servers.base import FakeModel, FakeServer, Knobs

CREATED_AT = "2025-10-09T08:53:20Z"
JSON = dict[str, Any]


@attrs.frozen(kw_only=True)
class Said:
    """An answer: thinking, text in pieces, or a call of `tool` (name, input)."""

    id: str
    model: str
    input_tokens: int
    thinking: str = ""
    pieces: tuple[str, ...] = ()
    tool: tuple[str, Any] | None = None
    stop_reason: str = "end_turn"

    @property
    def usage(self) -> JSON:
        return {
            "input_tokens": self.input_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": max(1, len(self.pieces)),
        }

    @property
    def blocks(self) -> list[JSON]:
        thinking = [{"type": "thinking", "thinking": self.thinking, "signature": SIGNATURE}] if self.thinking else []
        if self.tool:
            name, value = self.tool
            return [*thinking, {"type": "tool_use", "id": f"toolu_{self.id[4:]}", "name": name, "input": value}]
        return [*thinking, {"type": "text", "text": "".join(self.pieces)}]


SIGNATURE = "EqQBCgIYAhIkMWEyYjNjNGQ="


class AnthropicServer(FakeServer):
    """Anthropic's cloud: it wants `x-api-key` and `anthropic-version`, and takes roles only in turn.

    `thinking` is what it thinks first where the request allows that.  `page` is how many models one page of the list has.
    """

    def __init__(
        self,
        models: Iterable[str | FakeModel] = ("claude-tiny",),
        *,
        thinking: str = "",
        page: int = 20,
        **knobs: Unpack[Knobs],
    ) -> None:
        super().__init__(models, **knobs)
        self.thinking = thinking
        self.page = page
        self._ids = itertools.count(1)
        self.by_itself("/v1/models", self.list_models, method="GET")
        self.by_itself("/v1/messages", self.message, method="POST")
        self.by_itself("/v1/messages/count_tokens", self.count, method="POST")

    def act_for(self, received: Received) -> Act:
        if self.api_key and received.header("x-api-key") != self.api_key:
            return anthropic_problem(401, "authentication_error", "invalid x-api-key")
        if not received.header("anthropic-version"):
            return anthropic_problem(400, "invalid_request_error", "anthropic-version: header is required")
        return super().act_for(received)

    def _has_key(self, received: Received) -> bool:
        return received.header("x-api-key") == self.api_key

    def fallback(self, received: Received) -> Act:
        name = received.path.removeprefix("/v1/models/")
        if received.method == "GET" and name in self.models:
            return Respond(json=self.entry(self.models[name]))
        return anthropic_problem(404, "not_found_error", "Not found")

    # ---- models

    def entry(self, model: FakeModel) -> JSON:
        """The model's entry in the list."""
        supported = {"image_input": model.vision, "pdf_input": model.vision, "structured_outputs": True}
        return {
            "type": "model",
            "id": model.name,
            "display_name": model.name,
            "created_at": CREATED_AT,
            "max_input_tokens": model.context,
            "max_tokens": 4096,
            "capabilities": {name: {"supported": yes} for name, yes in supported.items()},
        }

    def list_models(self, received: Received) -> Act:
        asked = parse_qs(received.query)
        names = list(self.models)
        if after := asked.get("after_id"):
            names = names[names.index(after[0]) + 1 :]
        shown = names[: min(int(asked.get("limit", ["20"])[0]), self.page)]
        ends = {"first_id": shown[0], "last_id": shown[-1]} if shown else {"first_id": None, "last_id": None}
        data = [self.entry(self.models[name]) for name in shown]
        return Respond(json={"data": data, "has_more": len(shown) < len(names), **ends})

    # ---- messages

    def message(self, received: Received) -> Act:
        problem, body, model = self._read(received, counting=False)
        if problem or not model:
            return problem or NO_MODEL
        said = self.say(body, model)
        return self.turn(model, self._play(said, bool(body.get("stream"))))

    def count(self, received: Received) -> Act:
        problem, body, model = self._read(received, counting=True)
        return problem or NO_MODEL if problem or not model else Respond(json={"input_tokens": self._tokens(body)})

    def _read(self, received: Received, *, counting: bool) -> tuple[Act | None, JSON, FakeModel | None]:
        try:
            body = received.json
        except (ValueError, RecursionError):
            return _invalid("The request body is not valid JSON"), {}, None
        if not isinstance(body, dict):
            return _invalid("The request body is not a JSON object"), {}, None
        wrong = _wrong(body, counting)
        model = self.find(body.get("model"))
        if model is None:
            return anthropic_problem(404, "not_found_error", f"model: {body.get('model')}"), {}, None
        if not model.vision and '"image"' in json.dumps(body.get("messages", ())):
            wrong = wrong or f"'{model.name}' does not support image input."
        return (_invalid(wrong) if wrong else None), body, model

    def say(self, body: Mapping[str, Any], model: FakeModel) -> Said:
        """What is said to this request."""
        thinking = self.thinking if (body.get("thinking") or {}).get("type") in ("enabled", "adaptive") else ""
        base = Said(id=f"msg_{next(self._ids):020d}", model=model.name, input_tokens=self._tokens(body), thinking=thinking)
        if tool := self._called(body):
            return attrs.evolve(base, tool=tool, stop_reason="tool_use")
        text = self.text if isinstance(self.text, str) else self.text(body)
        if schema := ((body.get("output_config") or {}).get("format") or {}).get("schema"):
            text = json.dumps(shapes.sample(schema))
        pieces = shapes.pieces(text)
        limit = body["max_tokens"]
        return attrs.evolve(base, pieces=pieces[:limit], stop_reason="max_tokens" if limit < len(pieces) else "end_turn")

    def _tokens(self, body: Mapping[str, Any]) -> int:
        counted = [body.get(name) for name in ("system", "messages", "tools")]
        return max(1, len(json.dumps([value for value in counted if value])) // 4)

    def _called(self, body: Mapping[str, Any]) -> tuple[str, Any] | None:
        """The tool to call: the one that is forced, or the first where the double likes tools and has no result yet."""
        tools = {tool["name"]: tool for tool in body.get("tools") or () if "input_schema" in tool}
        choice = body.get("tool_choice") or {"type": "auto"}
        if not tools or choice["type"] == "none":
            return None
        answered = '"tool_result"' in json.dumps(body["messages"])
        if choice["type"] == "auto" and (answered or not self.tool):
            return None
        chosen = tools[choice["name"]] if choice["type"] == "tool" else next(iter(tools.values()))
        return chosen["name"], shapes.sample(chosen["input_schema"])

    def _play(self, said: Said, stream: bool) -> Act:
        seconds = self.pace.first_token + (0 if stream else self.pace.interval * len(said.pieces))
        act: Act = Stream(message_events(said), self.pace.interval, done=False) if stream else Respond(json=whole_message(said))
        return Slow(seconds, act) if seconds else act


def whole_message(said: Said) -> JSON:
    """The whole answer of /v1/messages."""
    return {
        "id": said.id,
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": said.blocks,
        "stop_reason": said.stop_reason,
        "stop_sequence": None,
        "usage": said.usage,
    }


def message_events(said: Said) -> Iterator[bytes]:
    """The events of a streamed answer."""
    start = {**whole_message(said), "content": [], "stop_reason": None, "usage": {**said.usage, "output_tokens": 1}}
    yield anthropic_event("message_start", message=start)
    for index, block in enumerate(said.blocks):
        yield from _block(said, index, block)
        if not index:
            yield anthropic_event("ping")
    delta = {"stop_reason": said.stop_reason, "stop_sequence": None}
    yield anthropic_event("message_delta", delta=delta, usage={"output_tokens": said.usage["output_tokens"]})
    yield anthropic_event("message_stop")


def _block(said: Said, index: int, block: JSON) -> Iterator[bytes]:
    empties: dict[str, JSON] = {"text": {"text": ""}, "thinking": {"thinking": "", "signature": ""}, "tool_use": {"input": {}}}
    yield anthropic_event("content_block_start", index=index, content_block={**block, **empties[block["type"]]})
    for delta in _deltas(said, block):
        yield anthropic_event("content_block_delta", index=index, delta=delta)
    yield anthropic_event("content_block_stop", index=index)


def _deltas(said: Said, block: JSON) -> Iterator[JSON]:
    if block["type"] == "text":
        yield from ({"type": "text_delta", "text": piece} for piece in said.pieces)
    elif block["type"] == "thinking":
        yield {"type": "thinking_delta", "thinking": block["thinking"]}
        yield {"type": "signature_delta", "signature": block["signature"]}
    else:
        text = json.dumps(block["input"])
        yield from ({"type": "input_json_delta", "partial_json": text[at : at + 5]} for at in range(0, len(text), 5))


def anthropic_event(kind: str, **fields: Any) -> bytes:
    """One event of a stream, with its `event:` line."""
    return f"event: {kind}\ndata: ".encode() + json.dumps({"type": kind, **fields}).encode() + b"\n\n"


def anthropic_problem(status: int, kind: str, message: str, **headers: str) -> Respond:
    """An error as Anthropic's API words it: 429 `rate_limit_error`, 529 `overloaded_error` and so on."""
    body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_0123456789"}
    return Respond(status, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})


NO_MODEL = anthropic_problem(404, "not_found_error", "model")


def _invalid(message: str) -> Respond:
    return anthropic_problem(400, "invalid_request_error", message)


def _wrong(body: JSON, counting: bool) -> str:
    """What the real API would not take, in its words; "" where all is well."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        return "messages: Field required"
    if not counting and not isinstance(body.get("max_tokens"), int):
        return "max_tokens: Field required"
    if counting and "max_tokens" in body:
        return "max_tokens: Extra inputs are not permitted"
    if messages[0].get("role") != "user":
        return 'messages: first message must use the "user" role'
    return _wrong_blocks(messages)


def _wrong_blocks(messages: list[JSON]) -> str:
    called: set[str] = set()
    for number, message in enumerate(messages):
        blocks = message.get("content")
        if message.get("role") not in ("user", "assistant", "system"):
            return f"messages.{number}.role: Input should be 'user' or 'assistant'"
        if not blocks:
            return f"messages.{number}: all messages must have non-empty content"
        for block in blocks if isinstance(blocks, list) else ():
            if block.get("type") == "text" and not block.get("text"):
                return "messages: text content blocks must be non-empty"
            if block.get("type") == "tool_result" and block.get("tool_use_id") not in called:
                return f"messages.{number}: unexpected `tool_use_id` found in `tool_result` blocks: {block.get('tool_use_id')}"
        called = {block["id"] for block in blocks if isinstance(block, dict) and block.get("type") == "tool_use"}
    return ""


def anthropic_server(
    models: Iterable[str | FakeModel] = ("claude-tiny",), *, thinking: str = "", page: int = 20, **knobs: Unpack[Knobs]
) -> AnthropicServer:
    """A double of Anthropic's cloud."""
    return AnthropicServer(models, thinking=thinking, page=page, **knobs)
