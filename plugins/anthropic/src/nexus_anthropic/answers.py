"""Whole messages, to and from the canonical form.  Streams are in `stream_in` and `stream_out`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexus.api import BackendError
from nexus.dialects.canonical import (
    Answer,
    FinishReason,
    Losses,
    Lost,
    Part,
    Reasoning,
    ReplyContext,
    Text,
    ToolCall,
    made_call_id,
)
from nexus.dialects.complaints import sentence_in
from nexus.dialects.jsontext import dumps, loads, object_of, why_no_object
from nexus_anthropic.blocks_in import SERVERS, arguments_of, call_id_of, is_the_servers
from nexus_anthropic.usage import merged, usage_object, usage_of
from nexus_anthropic.words import finish_of, stop_reason

PAUSED = "pause_turn"  # the client would have to ask on, with blocks that only the cloud can read


def read_answer(body: bytes) -> tuple[Answer, Losses]:
    """The answer and what of it has no place.  Raises BackendError: "malformed" for what is no message, "error_event" for an error
    under a 200."""
    try:
        value = loads(body)
    except ValueError:
        raise BackendError("malformed", "the answer is not valid JSON") from None
    if isinstance(value, dict) and value.get("error"):
        raise BackendError("error_event", sentence_in(value))
    content = value.get("content") if isinstance(value, dict) else None
    if not isinstance(content, list):
        raise BackendError("malformed", "the answer holds no message")
    stop = value.get("stop_sequence")
    counts, lost = merged({}, value.get("usage")), Lost()
    if value.get("stop_reason") == PAUSED:
        lost.add(PAUSED)
    answer = Answer(
        model=_word(value.get("model")),
        parts=tuple(_parts(content, lost)),
        finish=finish_of(value.get("stop_reason")),
        stop_sequence=stop if isinstance(stop, str) else None,
        usage=usage_of(counts),
    )
    return answer, lost.all


def write_answer(answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
    """A message as clients read it, and what it cannot say.  Raises BackendError("malformed") where the model called a tool with
    arguments that are no JSON object: the form has no place for others, but where they were cut."""
    called = any(isinstance(part, ToolCall) for part in answer.parts)
    cut, lost = answer.finish is FinishReason.LENGTH, Lost()
    content = [block for part in answer.parts if (block := _block(part, lost, cut=cut)) is not None]
    body = {
        "id": f"msg_{context.id}",
        "type": "message",
        "role": "assistant",
        "model": answer.model or context.model,
        "content": content,
        "stop_reason": stop_reason(answer.finish, called=called),
        "stop_sequence": answer.stop_sequence,
        "usage": usage_object(answer.usage),
    }
    return dumps(body), lost.all


def _parts(content: list[Any], lost: Lost) -> Iterator[Part]:
    """What the cloud's own tools did in between has no place, and the text says what came of it."""
    for block in content:
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "text":
            if block.get("citations"):
                lost.add("citations")
            if _word(block.get("text")):
                yield Text(text=block["text"])
        elif kind == "thinking" and (_word(block.get("thinking")) or _word(block.get("signature"))):
            yield Reasoning(text=_word(block.get("thinking")), signature=_word(block.get("signature")) or None)
        elif kind == "redacted_thinking" and _word(block.get("data")):
            yield Reasoning(redacted=block["data"])
        elif kind == "tool_use":
            yield _call(block)
        elif kind not in ("thinking", "redacted_thinking"):
            lost.add(SERVERS if is_the_servers(str(kind)) else "unknown_block")


def _call(block: Mapping[str, Any]) -> ToolCall:
    name = _word(block.get("name"))
    if not name:
        raise BackendError("malformed", "the answer holds a tool call without a name")
    return ToolCall(id=call_id_of(block.get("id")) or made_call_id(), name=name, arguments=arguments_of(block.get("input")))


def _block(part: Part, lost: Lost, *, cut: bool) -> dict[str, Any] | None:
    if isinstance(part, Text):
        return {"type": "text", "text": part.text}
    if isinstance(part, Reasoning):
        if part.redacted is not None:
            return {"type": "redacted_thinking", "data": part.redacted}
        return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}
    if isinstance(part, ToolCall):
        arguments = object_of(part.arguments)
        if arguments is None:
            if not cut:
                raise BackendError("malformed", BAD_ARGUMENTS.format(part.name, why_no_object(part.arguments)))
            lost.add("tool_arguments")
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": arguments or {}}
    return None


BAD_ARGUMENTS = "the model called the tool {!r} with {}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
