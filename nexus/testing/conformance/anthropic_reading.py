"""Anthropic's replies as a strict client reads them.  It shares no code with the dialect, so that it cannot share a mistake."""

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
    "end_turn": FinishReason.STOP,
    "max_tokens": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "stop_sequence": FinishReason.STOP_SEQUENCE,
    "refusal": FinishReason.CONTENT_FILTER,
}
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "api_error",  # Anthropic has no word of its own for what took too long
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
# what a block holds at its start, and by which deltas it grows
BLOCKS: Mapping[str, tuple[JSON, Mapping[str, str]]] = {
    "text": ({"text": ""}, {"text_delta": "text"}),
    "thinking": ({"thinking": ""}, {"thinking_delta": "thinking", "signature_delta": "signature"}),
    "redacted_thinking": ({}, {}),
    "tool_use": ({"input": {}}, {"input_json_delta": "partial_json"}),
}


def whole(body: bytes) -> Answer:
    """A message.  Raises ValueError, as all here do."""
    value = json.loads(body)
    _message(value)
    return _answer([_part(block) for block in value["content"]], value, value["usage"])


def streamed(body: bytes) -> Answer:
    """A stream from `message_start` to `message_stop`, its blocks one after another."""
    reading = _Reading()
    for value in _events(body):
        need(value["type"] != "error", f"no error event: {value}")
        reading.take(value)
    need(reading.stopped, "message_stop as the last event")
    return _answer(reading.parts, reading.delta, {**reading.start["usage"], **reading.usage})


def broken(body: bytes) -> tuple[str, str]:
    """The text before the error event, and its sentence."""
    values = _events(body)
    need(values and values[-1]["type"] == "error", "an error as the last event")
    reading = _Reading()
    for value in values[:-1]:
        reading.take(value)
    need(not reading.stopped and not reading.delta, "no message_delta and no message_stop before an error")
    if reading.block is not None and reading.block["type"] != "tool_use":
        reading.parts.append(_part(reading.block))
    return "".join(part.text for part in reading.parts if isinstance(part, Text)), _sentence(values[-1])


def error(status: int, body: bytes) -> str:
    """An error's sentence."""
    value = json.loads(body)
    kind = TYPES.get(status) or ("invalid_request_error" if status < 500 else "api_error")
    need(value["type"] == "error", "the type error")
    need(value["error"]["type"] == kind, f"the error type {kind} for a {status}, not {value['error']['type']}")
    need(value.get("request_id"), "a request_id")
    return _sentence(value)


def _sentence(value: JSON) -> str:
    message = value["error"]["message"]
    need(isinstance(message, str) and message, "a message in an error")
    return str(message)


def _events(body: bytes) -> list[JSON]:
    values = []
    for name, data in sse_events(body):
        value = json.loads(data)
        need(name == value["type"], f"an `event:` line {value['type']}, not {name}")
        values.append(value)
    return values


def _message(value: JSON) -> None:
    need(value["type"] == "message" and value["role"] == "assistant", "a message of an assistant")
    need(value["id"] and value["model"], "an id and a model")
    need({"content", "stop_reason", "stop_sequence", "usage"} <= value.keys(), "all members of a message")


def _part(block: JSON) -> Part:
    kind = block["type"]
    if kind == "text":
        return Text(text=block["text"])
    if kind == "thinking":
        return Reasoning(text=block["thinking"], signature=block["signature"] or None)
    if kind == "redacted_thinking":
        return Reasoning(redacted=block["data"])
    need(kind == "tool_use" and block["id"], f"a block that clients know, not {kind}")
    return ToolCall(id=block["id"], name=block["name"], arguments=json.dumps(block["input"]))


def _answer(parts: list[Part], ended: JSON, usage: JSON) -> Answer:
    need(ended["stop_reason"] in FINISH, f"a stop_reason that is known, not {ended['stop_reason']!r}")
    need((ended["stop_sequence"] is not None) == (ended["stop_reason"] == "stop_sequence"), "a stop_sequence where it was one")
    finish = FINISH[ended["stop_reason"]]
    need((finish is FinishReason.TOOL_CALLS) == any(isinstance(p, ToolCall) for p in parts), "tool_use where tools are called")
    return Answer(parts=merged(parts), finish=finish, stop_sequence=ended["stop_sequence"], usage=_usage(usage))


def _usage(usage: JSON) -> Usage:
    cached = usage["cache_read_input_tokens"]
    return Usage(
        input_tokens=usage["input_tokens"] + cached + usage["cache_creation_input_tokens"],
        output_tokens=usage["output_tokens"],
        cached_tokens=cached,
        reasoning_tokens=usage.get("output_tokens_details", {}).get("thinking_tokens", 0),
        source="reported",
    )


class _Reading:
    """One stream on its way."""

    def __init__(self) -> None:
        self.start: JSON = {}
        self.parts: list[Part] = []
        self.block: dict[str, Any] | None = None
        self.opened = 0
        self.arguments = ""
        self.delta: JSON = {}
        self.usage: JSON = {}
        self.stopped = False

    def take(self, value: JSON) -> None:
        kind = value["type"]
        need(not self.stopped, f"nothing after message_stop, but {kind}")
        need(bool(self.start) == (kind != "message_start"), f"message_start once and first, not {kind}")
        take = getattr(self, f"_{kind}", None)
        need(take is not None, f"an event that clients know, not {kind}")
        assert take is not None
        take(value)

    def _ping(self, value: JSON) -> None:
        """It may come anywhere."""

    def _message_start(self, value: JSON) -> None:
        self.start = value["message"]
        _message(self.start)
        need(self.start["content"] == [] and self.start["stop_reason"] is None, "a message that is empty at its start")
        need({"input_tokens", "output_tokens"} <= self.start["usage"].keys(), "a usage at the start")

    def _content_block_start(self, value: JSON) -> None:
        need(self.block is None and not self.delta, "blocks one after another, before message_delta")
        need(value["index"] == self.opened, f"index {self.opened}, not {value['index']}")
        self.block = dict(value["content_block"])
        empty, _ = BLOCKS[self.block["type"]]
        need(all(self.block[key] == nothing for key, nothing in empty.items()), f"a block that is empty at its start: {self.block}")
        self.arguments = ""

    def _content_block_delta(self, value: JSON) -> None:
        need(self.block is not None and value["index"] == self.opened, f"a delta of the open block {self.opened}: {value}")
        assert self.block is not None
        delta = value["delta"]
        _, grows = BLOCKS[self.block["type"]]
        need(delta["type"] in grows, f"no {delta['type']} in a block of {self.block['type']}")
        key = grows[delta["type"]]
        if key == "partial_json":
            self.arguments += delta[key]
        else:
            self.block[key] = self.block.get(key, "") + delta[key]

    def _content_block_stop(self, value: JSON) -> None:
        need(self.block is not None and value["index"] == self.opened, "the end of the open block")
        assert self.block is not None
        self.opened += 1
        part = _part(self.block)
        self.parts.append(attrs.evolve(part, arguments=self.arguments or "{}") if isinstance(part, ToolCall) else part)
        self.block = None

    def _message_delta(self, value: JSON) -> None:
        need(self.block is None and not self.delta, "message_delta once, after the last block")
        need(self.opened > 0, "a block: clients take a stream without one for a broken one")
        self.delta, self.usage = value["delta"], value["usage"]
        need("output_tokens" in self.usage, "output_tokens in message_delta")

    def _message_stop(self, value: JSON) -> None:
        need(self.delta, "message_delta before message_stop")
        self.stopped = True
