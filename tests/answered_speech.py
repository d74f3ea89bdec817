"""The dialects as clients and servers speak them, for the plays of `answered_plays`.  No judge and no test lives here."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from nexus.testing import Act, Respond, Stream, anthropic_event, anthropic_problem, sse

USED = (7, 3)  # tokens of a prompt and of an answer
SERVERS_CODE = "tool_unknown"  # what a server calls its rejection


@attrs.frozen(kw_only=True, eq=False)
class Speech:
    """A dialect as clients and servers speak it.  `first`, `rest` are the frames of a streamed answer; `odd` is an error in its middle."""

    name: str
    path: str
    model: str
    said: Any
    first: tuple[bytes, ...]
    rest: tuple[bytes, ...]
    odd: bytes
    problem: Callable[[int, str], Act]
    fields: Mapping[str, Any] = {}

    def good(self, stream: bool) -> Act:
        return Stream([*self.first, *self.rest], done=False) if stream else Respond(json=self.said)

    def breaks(self, stream: bool, *last: bytes) -> Act:
        """An answer that breaks off; `last` comes before."""
        if stream:
            return Stream([*self.first, *last], done=False, end="cut")
        return Stream([json.dumps(self.said).encode()[:20]], done=False, end="cut", headers=JSON)


def chunk(**fields: Any) -> bytes:
    return sse({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "tiny", "choices": [], **fields})


def choice(delta: Any, reason: str | None = None) -> bytes:
    return chunk(choices=[{"index": 0, "delta": delta, "finish_reason": reason}])


JSON = {"Content-Type": "application/json"}
SPENT = {"prompt_tokens": USED[0], "completion_tokens": USED[1], "total_tokens": sum(USED)}
OPENAI = Speech(
    name="openai",
    path="/v1/chat/completions",
    model="tiny",
    said={
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": SPENT,
    },
    first=(choice({"role": "assistant", "content": ""}), choice({"content": "hi"})),
    rest=(choice({}, "stop"), chunk(usage=SPENT), sse("[DONE]")),
    odd=sse({"error": {"message": "out of memory", "type": "server_error", "param": None, "code": "oom"}}),
    problem=lambda status, words: Respond(
        status, json={"error": {"message": words, "type": "invalid_request_error", "param": None, "code": SERVERS_CODE}}
    ),
    fields={"stream_options": {"include_usage": True}},
)
ANTHROPIC = Speech(
    name="anthropic",
    path="/v1/messages",
    model="claude-tiny",
    said={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-tiny",
        "content": [{"type": "text", "text": "hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": USED[0], "output_tokens": USED[1]},
    },
    first=(
        anthropic_event(
            "message_start",
            message={
                "id": "msg_1",
                "type": "message",
                "role": "assistant",
                "model": "claude-tiny",
                "content": [],
                "stop_reason": None,
                "stop_sequence": None,
                "usage": {"input_tokens": USED[0], "output_tokens": 1},
            },
        ),
        anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "hi"}),
    ),
    rest=(
        anthropic_event("content_block_stop", index=0),
        anthropic_event(
            "message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage={"output_tokens": USED[1]}
        ),
        anthropic_event("message_stop"),
    ),
    odd=anthropic_event("error", error={"type": "api_error", "message": "out of memory"}),
    problem=lambda status, words: anthropic_problem(status, "invalid_request_error", words),
)
