"""The JSON of OpenAI's API, from an answer.  Pure: no server, no socket, no choice of what to answer."""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import attrs

from nexus.testing.servers.base import CREATED

JSON = dict[str, Any]


@attrs.frozen(kw_only=True)
class Answer:
    """What a generation says: its pieces (tokens), or a call of `tool` (name, arguments as JSON text)."""

    id: str
    model: str
    pieces: tuple[str, ...] = ()
    tool: tuple[str, str] | None = None
    finish: str = "stop"
    prompt_tokens: int = 1
    choices: int = 1

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def usage(self) -> JSON:
        tokens = self.choices * len(self.pieces or pieces(self.tool[1] if self.tool else ""))
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": tokens,
            "total_tokens": self.prompt_tokens + tokens,
            "prompt_tokens_details": {"cached_tokens": 0},
        }


def pieces(text: str) -> tuple[str, ...]:
    """The text as tokens: one per word, with the space before it."""
    return tuple(re.findall(r"\s*\S+", text))


def tool_calls(answer: Answer) -> list[JSON]:
    """The answer's tool calls, as a whole message has them."""
    if not answer.tool:
        return []
    name, arguments = answer.tool
    return [{"id": f"call_{answer.id[-8:]}", "type": "function", "function": {"name": name, "arguments": arguments}}]


def chat_completion(answer: Answer) -> JSON:
    """The whole answer of /v1/chat/completions."""
    message: JSON = {"role": "assistant", "content": None if answer.tool else answer.text}
    if answer.tool:
        message["tool_calls"] = tool_calls(answer)
    choices = [
        {"index": index, "message": message, "logprobs": None, "finish_reason": answer.finish} for index in range(answer.choices)
    ]
    return {**_top(answer, "chat.completion"), "choices": choices, "usage": answer.usage}


def chat_chunks(answer: Answer, include_usage: bool) -> Iterator[JSON]:
    """The events of a streamed chat: role, tokens or tool call, finish reason, and the usage where it was asked for."""
    top = _top(answer, "chat.completion.chunk") | ({"usage": None} if include_usage else {})
    for delta in ({"role": "assistant", "content": ""}, *_deltas(answer)):
        yield from (top | {"choices": [_choice(index, delta)]} for index in range(answer.choices))
    yield from (top | {"choices": [_choice(index, {}, answer.finish)]} for index in range(answer.choices))
    if include_usage:
        yield top | {"choices": [], "usage": answer.usage}


def _deltas(answer: Answer) -> Iterator[JSON]:
    for call in tool_calls(answer):
        arguments = call["function"]["arguments"]
        yield {"tool_calls": [{"index": 0, **call, "function": {"name": call["function"]["name"], "arguments": ""}}]}
        yield from ({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces(arguments))
    yield from ({"content": piece} for piece in answer.pieces)


def _choice(index: int, delta: JSON, finish: str | None = None) -> JSON:
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}


def completion(answer: Answer) -> JSON:
    """The whole answer of /v1/completions."""
    choices = [
        {"index": index, "text": answer.text, "logprobs": None, "finish_reason": answer.finish} for index in range(answer.choices)
    ]
    return {**_top(answer, "text_completion"), "choices": choices, "usage": answer.usage}


def completion_chunks(answer: Answer, include_usage: bool) -> Iterator[JSON]:
    """The events of a streamed completion."""
    top = _top(answer, "text_completion") | ({"usage": None} if include_usage else {})
    ends = [None] * (len(answer.pieces) - 1) + [answer.finish]
    for piece, finish in zip(answer.pieces or ("",), ends, strict=True):
        for index in range(answer.choices):
            yield top | {"choices": [{"index": index, "text": piece, "logprobs": None, "finish_reason": finish}]}
    if include_usage:
        yield top | {"choices": [], "usage": answer.usage}


def embeddings(model: str, texts: Iterable[str], dimensions: int, encoding: str) -> JSON:
    """The answer of /v1/embeddings: the same text has the same vector."""
    texts = list(texts)
    data = [
        {"object": "embedding", "index": index, "embedding": _encoded(vector(text, dimensions), encoding)}
        for index, text in enumerate(texts)
    ]
    tokens = sum(max(1, len(pieces(text))) for text in texts)
    return {"object": "list", "data": data, "model": model, "usage": {"prompt_tokens": tokens, "total_tokens": tokens}}


def vector(text: str, dimensions: int) -> list[float]:
    """A vector of numbers between -1 and 1 that float32 holds exactly."""
    raw = hashlib.shake_256(text.encode()).digest(2 * dimensions)
    return [value / 32768 for value in struct.unpack(f"<{dimensions}h", raw)]


def _encoded(values: list[float], encoding: str) -> list[float] | str:
    if encoding != "base64":
        return values
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _top(answer: Answer, kind: str) -> JSON:
    return {"id": answer.id, "object": kind, "created": CREATED, "model": answer.model}


def sample(schema: Any) -> Any:
    """A value that a JSON schema allows (the simple ones that tests write)."""
    match schema:
        case {"const": value} | {"enum": [value, *_]} | {"anyOf": [value, *_]}:
            return sample(value) if "anyOf" in schema else value
        case {"type": "object"}:
            return {name: sample(inner) for name, inner in schema.get("properties", {}).items()}
        case {"type": "array"}:
            return [sample(schema.get("items"))]
        case {"type": str(kind)}:
            return {"string": "text", "integer": 1, "number": 1.5, "boolean": True}.get(kind)
    return None
