"""What is the same to a dialect that has fewer shapes than the canonical form: one text for a turn, files that are their text.

Nothing is lost by these.  What is lost by a word is in `canonical_losses`.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator

from nexus.api import replace
from nexus.dialects.canonical import Conversation, Document, Message, Part, Reasoning, Role, Text, ToolResult, joined

FOLLOWS = "The result follows in the next message."
RESULT = "This is the result of the tool call "


def worded(said: Conversation) -> Conversation:
    """As a dialect says it that reads files of text, which are their text, and that always holds to a schema."""

    def read(part: Part) -> Part:
        if isinstance(part, Document) and part.media_type == "text/csv" and part.data is not None:
            return Document(name=part.name, text=base64.b64decode(part.data).decode(), cache=part.cache)
        return replace(part, parts=tuple(map(read, part.parts))) if isinstance(part, ToolResult) else part

    asked = said.response_format
    if asked is not None and asked.strict:
        asked = replace(asked, strict=None)
    messages = tuple(replace(m, parts=tuple(map(read, m.parts))) for m in said.messages)
    return replace(said, messages=messages, response_format=asked)


def flat(said: Conversation) -> Conversation:
    """As a dialect says it that has one text for a turn: the same words, whatever blanks are between them, and what a tool showed after
    its words."""
    messages = joined(each for message in said.messages for each in _spread(message))
    made = (replace(message, parts=tuple(_runs(message.parts))) for message in messages)
    return replace(said, messages=joined(message for message in made if message.parts))


def _spread(message: Message) -> Iterator[Message]:
    if message.role is not Role.TOOL:
        yield message
        return
    results = [part for part in message.parts if isinstance(part, ToolResult)]
    words = [[part for part in result.parts if isinstance(part, Text) and part.text != FOLLOWS] for result in results]
    yield replace(message, parts=tuple(replace(r, parts=tuple(_runs(w))) for r, w in zip(results, words, strict=True)))
    if shown := [part for result in results for part in result.parts if not isinstance(part, Text)]:
        yield Message(role=Role.USER, parts=tuple(shown))


def _runs(parts: Iterable[Part]) -> list[Part]:
    """Neighbouring texts and neighbouring thoughts made one."""
    made: list[Part] = []
    for part in map(_plain, parts):
        before = made[-1] if made else None
        if isinstance(part, Text) and isinstance(before, Text):
            made[-1] = Text(text=before.text + part.text)
        elif isinstance(part, Reasoning) and isinstance(before, Reasoning) and part.redacted is before.redacted is None:
            made[-1] = Reasoning(text=before.text + part.text)
        elif part != Text(text=""):
            made.append(part)
    return made


def _plain(part: Part) -> Part:
    if isinstance(part, Document) and part.text is not None:
        part = Text(text=f"{part.name or ''}{part.text}")
    elif isinstance(part, Document):
        return replace(part, name=part.name or "document.pdf")
    if isinstance(part, Text):
        return Text(text="" if part.text.startswith(RESULT) else "".join(part.text.split()))
    return part
