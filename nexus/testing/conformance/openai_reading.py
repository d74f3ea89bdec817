"""OpenAI's replies as a strict client reads them.  It shares no code with the dialect, so that it cannot share a mistake."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from nexus.dialects.canonical import Answer, FinishReason, Part, Reasoning, Text, ToolCall
from nexus.model import Usage
from nexus.testing.conformance.golden import merged, need, sse_events

JSON = Mapping[str, Any]
FINISH = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
}
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    408: "timeout_error",
    429: "rate_limit_error",
    503: "service_unavailable",
    504: "timeout_error",
}


def whole(body: bytes) -> Answer:
    """A `chat.completion`.  Raises ValueError, as all here do."""
    value = json.loads(body)
    _head(value, "chat.completion")
    need(len(value["choices"]) == 1, "one choice")
    choice = value["choices"][0]
    message = choice["message"]
    need(choice["index"] == 0 and message["role"] == "assistant" and "content" in message, "an assistant's message at index 0")
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    parts: list[Part] = [Reasoning(text=message.get("reasoning_content") or ""), Text(text=message["content"] or ""), *calls]
    return _answer(parts, choice["finish_reason"], value.get("usage"))


def streamed(body: bytes) -> Answer:
    """A stream of chunks up to `[DONE]`, its usage in a chunk without choices."""
    chunks = _chunks(body)
    need(chunks and chunks[-1] == "[DONE]", "[DONE] as the last event")
    reading = _Reading()
    for data in chunks[:-1]:
        value = json.loads(data)
        need("error" not in value, f"no error event: {data}")
        reading.take(value)
    need(reading.finish is not None, "a finish_reason")
    return _answer(reading.parts(), reading.finish, reading.usage)


def broken(body: bytes) -> tuple[str, str]:
    """The text before the error event, and its sentence."""
    chunks = _chunks(body)
    need(chunks, "an event")
    last = json.loads(chunks[-1]) if chunks[-1] != "[DONE]" else {}
    need(last.get("error"), "an error as the last event")
    reading = _Reading()
    for data in chunks[:-1]:
        reading.take(json.loads(data))
    need(reading.finish is None, "no finish_reason before an error")
    return "".join(part.text for part in reading.parts() if isinstance(part, Text)), _sentence(last["error"])


def error(status: int, body: bytes) -> str:
    """An error's sentence."""
    value = json.loads(body)["error"]
    kind = TYPES.get(status) or ("invalid_request_error" if status < 500 else "server_error")
    need(value["type"] == kind, f"the error type {kind} for a {status}, not {value['type']}")
    need({"param", "code"} <= value.keys(), "param and code in an error")
    return _sentence(value)


def _sentence(value: JSON) -> str:
    need(isinstance(value.get("message"), str) and value["message"], "a message in an error")
    return str(value["message"])


def _chunks(body: bytes) -> list[str]:
    return [data for _, data in sse_events(body) if data]


def _head(value: JSON, kind: str) -> None:
    need(value.get("object") == kind, f"the object {kind}")
    need(isinstance(value.get("id"), str) and value["id"], "an id")
    need(isinstance(value.get("model"), str) and value["model"], "a model")
    need(type(value.get("created")) is int, "a whole number for created")


def _call(call: JSON) -> ToolCall:
    need(call["type"] == "function" and call["id"], "an id and the type function in a call")
    return ToolCall(id=call["id"], name=call["function"]["name"], arguments=call["function"]["arguments"])


def _answer(parts: list[Part], finish: Any, usage: Any) -> Answer:
    need(finish in FINISH, f"a finish_reason that is known, not {finish!r}")
    return Answer(parts=merged(parts), finish=FINISH[finish], usage=_usage(usage))


def _usage(usage: Any) -> Usage:
    need(isinstance(usage, dict), "a usage object")
    need(usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"], "total_tokens as the sum")
    return Usage(
        input_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        cached_tokens=usage["prompt_tokens_details"]["cached_tokens"],
        reasoning_tokens=usage["completion_tokens_details"]["reasoning_tokens"],
        source="reported",
    )


class _Reading:
    """One stream on its way."""

    def __init__(self) -> None:
        self.said: list[Part] = []
        self.calls: list[ToolCall] = []
        self.finish: str | None = None
        self.usage: Any = None
        self.id: str | None = None

    def take(self, value: JSON) -> None:
        _head(value, "chat.completion.chunk")
        need(self.id in (None, value["id"]), "one id for all chunks")
        choices = value["choices"]
        if not choices:
            need(self.finish is not None and self.usage is None, "usage once, after the finish_reason")
            self.usage = value["usage"]
            return
        need(self.finish is None, "no choice after the finish_reason")
        need(len(choices) == 1 and choices[0]["index"] == 0, "one choice at index 0")
        delta = choices[0]["delta"]
        need(self.id is not None or delta.get("role") == "assistant", "the role in the first chunk")
        self.id = value["id"]
        self.finish = choices[0]["finish_reason"]
        self._delta(delta)

    def _delta(self, delta: JSON) -> None:
        if thought := delta.get("reasoning_content"):
            need(not self.calls, "thinking before calls")
            self.said.append(Reasoning(text=thought))
        if text := delta.get("content"):
            self.said.append(Text(text=text))
        for call in delta.get("tool_calls") or ():
            self._call(call)

    def _call(self, call: JSON) -> None:
        if call["index"] == len(self.calls):
            self.calls.append(_call({**call, "function": {"arguments": "", **call["function"]}}))
            return
        need(0 <= call["index"] < len(self.calls), "calls numbered in the order of their starts")
        need("id" not in call, "an id once for each call")
        known = self.calls[call["index"]]
        self.calls[call["index"]] = attrs.evolve(known, arguments=known.arguments + call["function"]["arguments"])

    def parts(self) -> list[Part]:
        thoughts = "".join(part.text for part in self.said if isinstance(part, Reasoning))
        return [Reasoning(text=thoughts), *(part for part in self.said if isinstance(part, Text)), *self.calls]
