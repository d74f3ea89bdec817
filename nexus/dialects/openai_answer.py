"""OpenAI's whole chat replies, to and from the canonical form.  Streams are in `openai_stream`, requests in `openai_read`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

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
from nexus.dialects.jsontext import dumps, loads
from nexus.dialects.openai_content import arguments_text
from nexus.dialects.openai_reader import error_in
from nexus.dialects.openai_said import said_in
from nexus.dialects.openai_turns import in_order
from nexus.dialects.openai_usage import usage_object, usage_of
from nexus.errors import BackendError
from nexus.model import NO_USAGE

# In small letters: OpenAI's own, Mistral's ("model_length"), Gemini's and Cohere's ("MAX_TOKENS", "SAFETY"), Zhipu's ("sensitive").
_REASONS = (
    {"tool_calls": FinishReason.TOOL_CALLS, "function_call": FinishReason.TOOL_CALLS}
    | dict.fromkeys(
        ("length", "max_tokens", "max_length", "max_output_tokens", "model_length", "model_context_window_exceeded"),
        FinishReason.LENGTH,
    )
    | dict.fromkeys(
        ("content_filter", "content-filter", "sensitive", "safety", "recitation", "prohibited_content", "blocklist", "refusal"),
        FinishReason.CONTENT_FILTER,
    )
)
# members of a message with a place in the canonical form
_CARRIED = frozenset({"role", "content", "reasoning_content", "reasoning", "tool_calls", "function_call", "refusal"})
NO_ARGUMENTS = "{}"
# vLLM and SGLang say "abort", some gateways "error", Zhipu "network_error", DeepSeek "insufficient_system_resource": the answer is not
# complete, whatever else is there
_BROKEN_OFF = frozenset({"abort", "aborted", "error", "network_error", "insufficient_system_resource"})
_SAID = {
    FinishReason.STOP: "stop",
    FinishReason.STOP_SEQUENCE: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}


def read_answer(body: bytes) -> tuple[Answer, Losses]:
    """The answer and what of it has no place.  Raises BackendError where the body is no answer, or an error under a 200."""
    try:
        value = loads(body)
    except ValueError:
        raise BackendError("malformed", "the answer is not valid JSON") from None
    if (said := error_in(body)) is not None:
        raise BackendError("error_event", said)
    value = _dict(value)
    lost = Lost()
    choice = _first(value.get("choices"), lost)
    message = choice["message"]
    _name_unread(choice, message, lost)
    parts = tuple(_parts(message, lost))
    reason = choice.get("finish_reason")
    if is_broken_off(reason):
        raise BackendError("cut", f"the backend gave its answer up ({reason})")
    stop = choice.get("stop_reason")
    finish, stop = finish_of(reason, stop, called=any(isinstance(part, ToolCall) for part in parts))
    answer = Answer(
        model=_word(value.get("model")),
        parts=parts,
        finish=finish,
        stop_sequence=stop,
        usage=usage_of(value.get("usage")) or NO_USAGE,
    )
    return answer, lost.all


def _first(choices: Any, lost: Lost) -> dict[str, Any]:
    """The choice with a message that has the lowest index, which is not 0 with every server."""
    found = choices if isinstance(choices, list) else []
    answers = [choice for choice in found if isinstance(choice, dict) and isinstance(choice.get("message"), dict)]
    if not answers:
        raise BackendError("malformed", "the answer holds no message")
    if len(answers) > 1:
        lost.add("choices")
    return min(answers, key=_index)


def _index(choice: Mapping[str, Any]) -> int:
    index = choice.get("index")
    if isinstance(index, str) and index.isdecimal() and len(index) < 10:
        return int(index)
    return index if type(index) is int else 0


def _name_unread(choice: Mapping[str, Any], message: Mapping[str, Any], lost: Lost) -> None:
    if choice.get("logprobs"):
        lost.add("logprobs")
    for name, value in message.items():
        if value and name not in _CARRIED:
            lost.field(name)


def is_broken_off(reason: Any) -> bool:
    """Whether a finish reason says that the server gave its answer up."""
    return isinstance(reason, str) and reason.lower() in _BROKEN_OFF


def finish_of(reason: Any, stop: Any, *, called: bool) -> tuple[FinishReason | None, str | None]:
    """Why it stopped, and at which stop sequence, where the server tells (vLLM: `stop_reason`).

    Some servers say "stop" after tool calls; what nobody knows counts as "stop".
    """
    if not reason:
        return None, None
    known = _REASONS.get(reason.lower(), FinishReason.STOP) if isinstance(reason, str) else FinishReason.STOP
    if known is not FinishReason.STOP:
        return known, None
    if called:
        return FinishReason.TOOL_CALLS, None
    if isinstance(stop, str) and stop:
        return FinishReason.STOP_SEQUENCE, stop
    return FinishReason.STOP, None


def finish_word(reason: FinishReason | None) -> str:
    """The `finish_reason` of a reply that is complete."""
    return _SAID[reason or FinishReason.STOP]


def _parts(message: Mapping[str, Any], lost: Lost) -> Iterator[Part]:
    thoughts = message.get("reasoning_content"), message.get("reasoning")
    yield from said_in(message.get("content"), message.get("refusal"), thoughts, lost)
    calls = message.get("tool_calls")
    if calls is not None and not isinstance(calls, list):
        raise BackendError("malformed", "the answer holds tool calls that are no list")
    if not calls and isinstance(older := message.get("function_call"), dict):
        calls = [{"function": older}]
    for call in calls or ():
        if isinstance(call, dict):
            yield _read_call(call)


def _read_call(call: Mapping[str, Any]) -> ToolCall:
    function = _dict(call.get("function"))
    name = function.get("name")
    if not isinstance(name, str) or not name:
        raise BackendError("malformed", "the answer holds a tool call without a name")
    id = call.get("id")
    id = str(id) if type(id) is int else _word(id)  # some servers number their calls
    return ToolCall(id=id or made_call_id(), name=name, arguments=arguments_text(function.get("arguments")))


def write_answer(answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
    """A `chat.completion`, and what it cannot say."""
    words = [part for part in answer.parts if isinstance(part, Text)]
    text, refusal = ("".join(part.text for part in words if part.refusal is refused) for refused in (False, True))
    none = "" if answer.finish is FinishReason.LENGTH else NO_ARGUMENTS  # as in a stream
    calls = [_call(part, none) for part in answer.parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if calls or refusal else "")}
    if refusal:
        message["refusal"] = refusal
    if thought := "".join(part.text for part in answer.parts if isinstance(part, Reasoning)):
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish_word(answer.finish)}
    body = {
        "id": f"chatcmpl-{context.id}",
        "object": "chat.completion",
        "created": context.created,
        "model": answer.model or context.model,
        "choices": [choice],
        "usage": usage_object(answer.usage),
    }
    return dumps(body), _unwritten(answer)


def _unwritten(answer: Answer) -> Losses:
    lost = Lost()
    thoughts = [part for part in answer.parts if isinstance(part, Reasoning)]
    for what, said in (
        ("signature", any(thought.signature for thought in thoughts)),
        ("redacted_thinking", any(thought.redacted for thought in thoughts)),
        ("stop_sequence", answer.stop_sequence),
        ("order", in_order(answer.parts) != list(answer.parts)),
    ):
        if said:
            lost.add(what)
    return lost.all


def _call(call: ToolCall, none: str) -> dict[str, Any]:
    said = call.arguments if call.arguments.strip() else none
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": said}}


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
