"""Short ways to write a conversation as a message request, for the tests of what comes out.  No test lives here."""

from __future__ import annotations

import json
from typing import Any

from nexus_anthropic.dialect import Anthropic

from nexus.dialects.canonical import Conversation, Message, Role, Target, Text, Tool

MESSAGES = Anthropic.endpoints[0]
NEW, OLD, BUDGET = Target(model="claude-opus-9"), Target(model="claude-3-haiku-20240307"), Target(model="claude-sonnet-4-0")
HOME = Target(model="local", home=True)
GET = Tool(name="get", schema={"type": "object", "properties": {"x": {"type": "string"}}})


def write(*messages: Message, target: Target = NEW, **fields: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """The body, the words for what was lost, and those of them that change the meaning."""
    said = Conversation(model="asked", messages=messages or (user("hello"),), **fields)
    body, losses = Anthropic().write_request(MESSAGES, said, target)
    return json.loads(body), [loss.what for loss in losses], [loss.what for loss in losses if loss.meaning_changed]


def user(*parts: Any) -> Message:
    return Message(role=Role.USER, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def model(*parts: Any) -> Message:
    return Message(role=Role.ASSISTANT, parts=user(*parts).parts)


def results(*parts: Any) -> Message:
    return Message(role=Role.TOOL, parts=parts)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}
