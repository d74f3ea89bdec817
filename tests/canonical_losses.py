"""What is left of a conversation, an answer or a stream where a dialect declared losses, and what is the same to everybody.

One table for all dialects: a word means the same, whoever declares it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence

from nexus_anthropic.blocks_out import FIRST
from nexus_anthropic.requests_out import ONLY_JSON

from nexus.api import replace
from nexus.dialects.canonical import (
    ANY_NAME,
    Answer,
    Conversation,
    Document,
    FinishReason,
    Format,
    Image,
    Message,
    Part,
    Reasoning,
    ResponseFormat,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    joined,
)
from nexus.dialects.openai_turns import FAILED, in_order

REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_NAMED = frozenset({"temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "tool_choice"})
_ALONE = frozenset({"order", "first_turn", "prefill", "system_role", "system_position", "max_tokens", "stop", "json_object"})
_THINKING = frozenset({"thinking", "thinking_budget", "effort", "budget_tokens"})
_PARTS = frozenset(
    {"cache_control", "signature", "redacted_thinking", "thinking", "is_error", "detail", "blank_text", "tool_arguments"}
)
_SCHEMA = frozenset({"schema_name", "schema_description", "strict"})
KNOWN = _NAMED | _ALONE | _THINKING | _PARTS | _SCHEMA
"""The words of losses that change no meaning.  A new one needs its line here: what it takes away."""


def left(said: Conversation, lost: frozenset[str]) -> Conversation:
    """The conversation without what the words name, in a form in which the same things are equal."""
    messages = _messages(said.messages, lost)
    same = replace(
        said,
        model="",
        messages=tuple(messages),
        tools=tuple(_tool(tool, lost) for tool in said.tools),
        tool_choice=_choice(said),
        parallel_tools=False if said.parallel_tools is False and said.tools and _choice(said) != _NEVER else None,
        max_output_tokens=None if "max_tokens" in lost else said.max_output_tokens,
        stop=tuple(stop for stop in said.stop if stop.strip() or "stop" not in lost),
        response_format=_format(said.response_format, lost),
        thinking=_thinking(said.thinking, lost),
        presence_penalty=said.presence_penalty or None,
        frequency_penalty=said.frequency_penalty or None,
        wants_usage=False,
    )
    return replace(same, **dict.fromkeys(_NAMED & lost))


_NEVER = ToolChoice(mode=ToolMode.NONE)


def _choice(said: Conversation) -> ToolChoice | None:
    """Without tools there is nothing to choose, and as the model likes is what nobody has to say."""
    choice = said.tool_choice
    return None if choice is None or not said.tools or choice.mode is ToolMode.AUTO else choice


def _tool(tool: Tool, lost: frozenset[str]) -> Tool:
    return replace(
        tool,
        description=tool.description or None,
        schema={"type": "object", "properties": {}, **(tool.schema or {})},
        strict=True if tool.strict and "strict" not in lost else None,
        cache=None if "cache_control" in lost else tool.cache,
    )


def _format(asked: ResponseFormat | None, lost: frozenset[str]) -> ResponseFormat | None:
    if asked is None or asked.kind is Format.TEXT or (asked.kind is Format.JSON_OBJECT and "json_object" in lost):
        return None
    if asked.kind is Format.JSON_OBJECT:
        return asked
    return ResponseFormat(
        kind=Format.JSON_SCHEMA,
        name=None if "schema_name" in lost or asked.name == ANY_NAME else asked.name,
        description=None if "schema_description" in lost else asked.description,
        schema=asked.schema or {"type": "object"},
        strict=False if asked.strict is False and "strict" not in lost else None,  # where schemas always hold, nobody need say so
    )


def _thinking(asked: Thinking | None, lost: frozenset[str]) -> Thinking | None:
    """Asked for and left to the model is the same to a model that thinks; an effort that is lost may have become a budget."""
    if asked is None or lost & {"thinking", "thinking_budget"}:
        return None
    effort = None if "effort" in lost else asked.effort
    budget = None if lost & {"effort", "budget_tokens"} else asked.budget_tokens
    made = Thinking(enabled=False if asked.enabled is False else None, effort=effort, budget_tokens=budget)
    return None if made == Thinking() else made


# ---------------------------------------------------------------- messages


def _messages(messages: Iterable[Message], lost: frozenset[str]) -> tuple[Message, ...]:
    made = [replace(message, parts=tuple(_parts(message, lost))) for message in messages]
    if "system_role" in lost:
        made = _without_late_systems(made)
    if "system_position" in lost or "json_object" in lost:
        made.sort(key=lambda message: message.role is not Role.SYSTEM)
    if "first_turn" in lost and made:
        made = [replace(m, parts=tuple(part for part in m.parts if part != Text(text=FIRST))) for m in made]
    made = list(joined(message for message in made if message.parts))
    if "order" in lost:
        made = [replace(m, parts=tuple(in_order(m.parts))) if m.role is Role.ASSISTANT else m for m in made]
    if "prefill" in lost and made:
        made[-1] = _unpadded(made[-1])
    return _numbered(made)


def _parts(message: Message, lost: frozenset[str]) -> Iterator[Part]:
    for part in message.parts:
        kept = _part(part, lost)
        if kept is not None and not (message.role is Role.SYSTEM and kept == Text(text=ONLY_JSON)):
            yield kept


def _part(part: Part, lost: frozenset[str]) -> Part | None:
    if "cache_control" in lost and not isinstance(part, Reasoning):
        part = replace(part, cache=None)
    match part:
        case Text():
            return None if "blank_text" in lost and not part.text.strip() else part
        case Image():
            detail = None if "detail" in lost or part.detail == "auto" else part.detail
            return replace(part, detail=detail, media_type=part.media_type or (None if part.url else "image/png"))
        case Document():
            return _document(part)
        case Reasoning():
            return _thought(part, lost)
        case ToolCall():
            return replace(part, arguments=_compact(part.arguments, unsaid="tool_arguments" in lost))
        case ToolResult():
            return _result(part, lost)


def _document(part: Document) -> Document:
    if part.data is None:
        return part
    return replace(part, media_type=part.media_type or "application/pdf")


def _thought(part: Reasoning, lost: frozenset[str]) -> Reasoning | None:
    if "signature" in lost:
        part = replace(part, signature=None)
    if part.redacted is not None:
        return None if "redacted_thinking" in lost else part
    if part.signature is None and ("thinking" in lost or not part.text):
        return None
    return part


def _result(part: ToolResult, lost: frozenset[str]) -> ToolResult:
    parts = tuple(kept for inner in part.parts if (kept := _part(inner, lost)) is not None)
    if "is_error" in lost:
        parts = tuple(_unsaid(inner) if isinstance(inner, Text) else inner for inner in parts)
    return replace(part, parts=tuple(p for p in parts if p != Text(text="")), is_error=part.is_error and "is_error" not in lost)


def _unsaid(text: Text) -> Text:
    return replace(text, text="" if text.text == f"{FAILED}." else text.text.removeprefix(f"{FAILED}: "))


def _compact(arguments: str, *, unsaid: bool) -> str:
    """Arguments that are no JSON object stay as they are, or are said inside of one."""
    try:
        value = json.loads(arguments) if arguments.strip() else {}
    except ValueError:
        value = None
    value = {} if arguments == "null" else value
    if not isinstance(value, dict):
        return json.dumps({"arguments": arguments}) if unsaid else arguments
    return json.dumps(value)


def _without_late_systems(messages: Sequence[Message]) -> list[Message]:
    top = next((at for at, message in enumerate(messages) if message.role is not Role.SYSTEM), len(messages))
    kept = [*messages[:top], *(message for message in messages[top:] if message.role is not Role.SYSTEM)]
    return [replace(m, parts=tuple(_unreminded(m.parts))) for m in kept]


def _unreminded(parts: Iterable[Part]) -> Iterator[Part]:
    for part in parts:
        if isinstance(part, Text):
            text = REMINDER.sub("", part.text)
            if text.strip() or text == part.text:
                yield replace(part, text=text)
        else:
            yield part


def _unpadded(message: Message) -> Message:
    last = message.parts[-1]
    if message.role is not Role.ASSISTANT or not isinstance(last, Text):
        return message
    return replace(message, parts=(*message.parts[:-1], replace(last, text=last.text.rstrip())))


def _numbered(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Ids may be written anew: that calls and results stay together, and calls apart, is what counts."""
    calls = [part.id for message in messages for part in message.parts if isinstance(part, ToolCall)]
    ids = {id: str(at) for at, id in enumerate(calls)}
    assert len(ids) == len(calls), calls

    def numbered(part: Part) -> Part:
        if isinstance(part, ToolCall):
            return replace(part, id=ids[part.id])
        return replace(part, call_id=ids[part.call_id]) if isinstance(part, ToolResult) else part

    return tuple(replace(message, parts=tuple(map(numbered, message.parts))) for message in messages)


# ---------------------------------------------------------------- replies


OF_REPLIES = frozenset({"signature", "redacted_thinking", "order", "stop_sequence", "tool_arguments"})


def left_of(said: Answer, lost: frozenset[str], *, one_text: bool) -> Answer:
    """The reply without what the words name."""
    parts = [kept for part in said.parts if (kept := _part(part, lost - {"tool_arguments"})) is not None]
    if "tool_arguments" in lost:
        parts = [replace(p, arguments=_cut(p.arguments)) if isinstance(p, ToolCall) else p for p in parts]
    parts = in_order(parts) if "order" in lost else parts
    stopped = said.finish is FinishReason.STOP_SEQUENCE and "stop_sequence" in lost
    return replace(
        said,
        parts=tuple(_glued(parts) if one_text else parts),
        finish=FinishReason.STOP if stopped else said.finish,
        stop_sequence=None if stopped else said.stop_sequence,
    )


def _cut(arguments: str) -> str:
    return _compact(arguments, unsaid=True) if arguments.lstrip().startswith("{") and _is_object(arguments) else "{}"


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except ValueError:
        return False


def _glued(parts: Iterable[Part]) -> list[Part]:
    made: list[Part] = []
    for part in parts:
        before = made[-1] if made else None
        if isinstance(part, Text) and isinstance(before, Text):
            made[-1] = Text(text=before.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(before, Reasoning):
            made[-1] = Reasoning(text=before.text + part.text)
        else:
            made.append(part)
    return made
