"""A chat in OpenAI's own form for servers that do not take all of it: system messages below the top, thinking of earlier turns.

Everything else stays as the client wrote it, fields that nobody knows included.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nexus.dialects.canonical import Losses, Lost
from nexus.dialects.jsontext import dumps
from nexus.dialects.mending import REMINDER, turns_of
from nexus.model import Accepts

_SYSTEM = ("system", "developer")
_THOUGHTS = ("reasoning_content", "reasoning_details", "reasoning")
_THOUGHT_PARTS = ("thinking", "reasoning", "redacted_thinking")

Turn = dict[str, Any]


def mended(body: bytes, accepts: Accepts) -> tuple[bytes, Losses]:
    """The body, and what is not in it any more; the same object where nothing had to change."""
    late = accepts.late_system is False and (b'"system"' in body or b'"developer"' in body)
    thinks = accepts.thinking != "any" and (b'"reasoning' in body or b'"thinking"' in body)
    if not late and not thinks:
        return body, ()
    if (found := turns_of(body)) is None:
        return body, ()
    value, messages = found
    lost = Lost()
    if thinks:
        messages = [_thoughtless(message, lost) for message in messages]
    if late and any(message.get("role") in _SYSTEM for message in messages[1:]):
        messages = folded(messages)
        lost.add("system_role")
    return (dumps({**value, "messages": messages}), lost.all) if lost.all else (body, ())


def _thoughtless(message: Turn, lost: Lost) -> Turn:
    if message.get("role") != "assistant":
        return message
    kept = {name: value for name, value in message.items() if name not in _THOUGHTS}
    if isinstance(content := message.get("content"), list):
        kept["content"] = [p for p in content if not (isinstance(p, dict) and p.get("type") in _THOUGHT_PARTS)]
    if kept == message:
        return message
    lost.add("thinking")
    if kept.get("content") == []:
        kept["content"] = None if kept.get("tool_calls") else ""
    return kept


def folded(messages: list[Turn]) -> list[Turn]:
    """One system message on top; what stands further down is part of the user's turn beside it."""
    top = next((at for at, message in enumerate(messages) if message.get("role") not in _SYSTEM), len(messages))
    turns: list[Turn] = [_one(messages[:top])] if top else []
    for is_user, run in itertools.groupby(_reminding(messages[top:]), lambda message: message.get("role") == "user"):
        same = list(run)
        turns += [_one(same)] if is_user else same
    return turns


def _reminding(messages: Iterable[Turn]) -> Iterator[Turn]:
    """The turns below the top, none of them the system's."""
    for message in messages:
        if message.get("role") not in _SYSTEM:
            yield message
        elif message.get("content"):
            yield {"role": "user", "content": _reminder(message["content"])}


def _one(messages: list[Turn]) -> Turn:
    first, *more = messages
    return {**first, "content": _together([message.get("content") for message in messages])} if more else first


def _reminder(content: Any) -> Any:
    if not isinstance(content, list):
        return REMINDER.format(content or "")
    return [_marked(part) if isinstance(part, dict) and isinstance(part.get("text"), str) else part for part in content]


def _marked(part: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**part, "text": REMINDER.format(part["text"])}


def _together(contents: Sequence[Any]) -> Any:
    """Contents as one: words alone stay a text, which some servers need."""
    texts = list(itertools.takewhile(lambda content: isinstance(content, str), contents))
    text = "\n\n".join(filter(None, texts))
    if len(texts) == len(contents):
        return text
    return [part for content in (text, *contents[len(texts) :]) for part in _as_parts(content)]


def _as_parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []
