"""Plain requests, to and from the canonical form: what they must hold, and what they cannot say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from nexus.api import Payload
from nexus.dialects.canonical import (
    Conversation,
    Document,
    Format,
    Image,
    Loss,
    Losses,
    Message,
    Part,
    Reasoning,
    Role,
    Target,
    Text,
    ToolCall,
    ToolMode,
    ToolResult,
    joined,
)
from nexus.dialects.checks import bad
from nexus_plain.wire import dumps

FIELDS = {
    "model": (str, "the name of a model"),
    "ask": (str, "a text"),
    "rules": (str, "a text"),
    "before": (list, "a list of texts: the turns so far, the client's first"),
    "limit": (int, "a whole number of tokens"),
    "stream": (bool, "true or false"),
}
# What of a conversation plain has no word for.  Without these a model answers the same question, in a slightly other way.
UNSAID = (
    "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty", "thinking", "parallel_tools", "user",
)  # fmt: skip
# Without these it would answer another one.
MEANT: dict[type, str] = {Image: "image", Document: "document", ToolCall: "tool_call", ToolResult: "tool_result"}


def checked(payload: Payload) -> dict[str, Any]:
    """The body.  Raises Problem (400) that says what is wrong with it, and where."""
    try:
        body = payload.parsed
    except (ValueError, RecursionError):
        raise bad("the body is not valid JSON in UTF-8") from None
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    for name, (kind, wanted) in FIELDS.items():
        missing = name in ("model", "ask") and not body.get(name)
        if missing or (name in body and type(body[name]) is not kind):
            raise bad(f"{name!r} must be {wanted}", name)
    if body.get("limit", 1) < 1 or not all(isinstance(turn, str) for turn in body.get("before", ())):
        raise bad("'limit' must be above 0, and 'before' hold only texts")
    return body


def read(payload: Payload) -> tuple[Conversation, Losses]:
    body = checked(payload)
    turns = [*body.get("before", ()), body["ask"]]
    roles = (Role.USER, Role.ASSISTANT)
    messages = [_message(Role.SYSTEM, body["rules"])] if body.get("rules") else []
    messages += [_message(roles[number % 2], turn) for number, turn in enumerate(turns)]
    losses = (Loss(what="unknown_field"),) if body.keys() - FIELDS.keys() else ()
    conversation = Conversation(
        model=body["model"],
        messages=tuple(messages),
        max_output_tokens=body.get("limit"),
        stream=body.get("stream") is True,
        wants_usage=True,
    )
    return conversation, losses


def _message(role: Role, text: str) -> Message:
    return Message(role=role, parts=(Text(text=text),) if text else ())


def write(conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
    rules = [_text(message) for message in conversation.messages if message.role is Role.SYSTEM]
    turns = list(joined(message for message in conversation.messages if message.role is not Role.SYSTEM))
    losses = {loss.what: loss for loss in _losses(conversation)}
    if turns and turns[0].role is not Role.USER:
        turns.insert(0, Message(role=Role.USER))
    if not turns or turns[-1].role is not Role.USER:  # the model would have to go on with words of its own
        losses["prefill"] = Loss(what="prefill", meaning_changed=True)
    body: dict[str, Any] = {"model": target.model, "ask": _text(turns[-1]) if turns else ""}
    if rules:
        body["rules"] = "\n\n".join(rules)
    if turns[:-1]:
        body["before"] = [_text(turn) for turn in turns[:-1]]
    if conversation.max_output_tokens:
        body["limit"] = conversation.max_output_tokens
    if conversation.stream:
        body["stream"] = True
    return dumps(body), tuple(losses.values())


def _text(message: Message) -> str:
    return "\n\n".join(part.text for part in message.parts if isinstance(part, Text))


def _losses(said: Conversation) -> Iterator[Loss]:
    """What cannot be said.  The words are fields' names, never a client's text: they go into a header."""
    yield from (Loss(what=name) for name in UNSAID if getattr(said, name) is not None)
    choice = said.tool_choice
    if said.tools and not (choice and choice.mode is ToolMode.NONE):
        yield Loss(what="tools", meaning_changed=True)
    if said.response_format and said.response_format.kind is not Format.TEXT:
        yield Loss(what="response_format", meaning_changed=True)
    if said.stop:
        yield Loss(what="stop", meaning_changed=True)
    if said.n > 1:
        yield Loss(what="n", meaning_changed=True)
    yield from _lost_parts(part for message in said.messages for part in message.parts)


def _lost_parts(parts: Iterable[Part]) -> Iterator[Loss]:
    for part in parts:
        if type(part) in MEANT:
            yield Loss(what=MEANT[type(part)], meaning_changed=True)
        elif isinstance(part, Reasoning):
            yield Loss(what="reasoning")
        elif isinstance(part, Text) and part.cache is not None:
            yield Loss(what="cache_control")
