"""The messages of a conversation written as Anthropic takes them.  The other fields are in `requests_out`.

Anthropic wants the system on top, the roles in turn with the user first, the results of tools at the beginning of the turn
that follows the calls, and no text that is blank.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from nexus.dialects.canonical import (
    Document,
    Image,
    Lost,
    Message,
    Part,
    Reasoning,
    Role,
    Target,
    Text,
    ToolCall,
    ToolResult,
    made_call_id,
)
from nexus.dialects.jsontext import object_of

FIRST = "(The conversation begins.)"  # said where the model speaks first, or nobody does
_BAD_ID = re.compile(r"[^a-zA-Z0-9_-]")


class Turns:
    """Writes the messages of one conversation.  A server that runs models itself takes thinking of its own back, which the cloud takes
    only with its signature."""

    def __init__(self, messages: Iterable[Message], lost: Lost, target: Target) -> None:
        self._messages = tuple(messages)
        self._lost = lost
        self._target = target
        self._ids: set[str] = set()
        self._unanswered: list[tuple[str, str]] = []  # ids of calls: as they were said, and as they are written

    # ---------------------------------------------------------------- system and roles

    def system(self) -> list[dict[str, Any]]:
        """The blocks of the system prompt, in the order in which they were said."""
        said = [message.role for message in self._messages]
        top = next((at for at, role in enumerate(said) if role is not Role.SYSTEM), len(said))
        if Role.SYSTEM in said[top:]:
            self._lost.add("system_position")
        return [self._words(part) for message in self._messages if message.role is Role.SYSTEM for part in self._texts(message)]

    def _texts(self, message: Message) -> Iterator[Text]:
        for part in message.parts:
            if not isinstance(part, Text):
                self._lost.add("system_content", meant=True)
            elif self._says(part):
                yield part

    def messages(self) -> list[dict[str, Any]]:
        """The turns, the user's first."""
        turns: list[dict[str, Any]] = []
        for message in self._messages:
            if message.role is Role.SYSTEM:
                continue
            role = "assistant" if message.role is Role.ASSISTANT else "user"
            blocks = [block for part in message.parts if (block := self._block(part)) is not None]
            if blocks and turns and turns[-1]["role"] == role:
                turns[-1]["content"] += blocks
            elif blocks:
                turns.append({"role": role, "content": blocks})
        if not turns or turns[0]["role"] != "user":
            self._lost.add("first_turn")
            turns.insert(0, {"role": "user", "content": [{"type": "text", "text": FIRST}]})
        for turn in turns:  # stable: what is said beside the results keeps its order
            turn["content"].sort(key=lambda block: turn["role"] == "user" and block["type"] != "tool_result")
        self._unpad(turns[-1])
        return turns

    def _unpad(self, turn: Mapping[str, Any]) -> None:
        """A last turn of the model's own, to be gone on with, may not end in blanks."""
        last: Sequence[dict[str, Any]] = turn["content"]
        if turn["role"] == "assistant" and last[-1]["type"] == "text" and (text := last[-1]["text"]) != text.rstrip():
            self._lost.add("prefill")
            last[-1]["text"] = text.rstrip()

    # ---------------------------------------------------------------- blocks

    def _block(self, part: Part) -> dict[str, Any] | None:
        match part:
            case Text():
                return self._words(part) if self._says(part) else None
            case Image():
                return self._image(part)
            case Document():
                return self._document(part)
            case Reasoning():
                return self._thinking(part)
            case ToolCall():
                return self._call(part)
            case ToolResult():
                return self._result(part)

    def _says(self, part: Text) -> bool:
        """Whether there is more in a text than blanks, which have no place."""
        if part.text and not part.text.strip():
            self._lost.add("blank_text")
        return bool(part.text.strip())

    def _words(self, part: Text) -> dict[str, Any]:
        return marked({"type": "text", "text": part.text}, part.cache)

    def _image(self, image: Image) -> dict[str, Any]:
        if image.detail not in (None, "auto"):
            self._lost.add("detail")
        if image.data is not None:
            source = {"type": "base64", "media_type": image.media_type or "image/png", "data": image.data}
        else:
            if self._target.image_urls is False:
                self._lost.add("image_url", meant=True)
            source = {"type": "url", "url": image.url or ""}
        return marked({"type": "image", "source": source}, image.cache)

    def _document(self, document: Document) -> dict[str, Any] | None:
        source = self._source(document)
        if source is None:
            return None
        title = {"title": document.name} if document.name else {}
        return marked({"type": "document", "source": source, **title}, document.cache)

    def _source(self, document: Document) -> dict[str, Any] | None:
        """PDF files as they are, files of text as their text; there is no place for others."""
        kind = document.media_type or "application/pdf"
        if document.text is not None:
            return {"type": "text", "media_type": "text/plain", "data": document.text}
        if document.url is not None:
            return {"type": "url", "url": document.url}
        if kind == "application/pdf":
            return {"type": "base64", "media_type": kind, "data": document.data or ""}
        if kind.startswith("text/") and (words := _decoded(document.data or "")) is not None:
            return {"type": "text", "media_type": "text/plain", "data": words}
        self._lost.add("document", meant=True)
        return None

    def _thinking(self, thought: Reasoning) -> dict[str, Any] | None:
        if thought.redacted is not None:
            return {"type": "redacted_thinking", "data": thought.redacted}
        if thought.signature is None and not self._target.home:
            self._lost.add("thinking")
            return None
        return {"type": "thinking", "thinking": thought.text, "signature": thought.signature or ""}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        arguments = object_of(call.arguments)
        if arguments is None:
            self._lost.add("tool_arguments")
            arguments = {"arguments": call.arguments}
        id = self._id_of(call.id)
        self._unanswered.append((call.id, id))
        return marked({"type": "tool_use", "id": id, "name": call.name, "input": arguments}, call.cache)

    def _id_of(self, said: str) -> str:
        """The id of a call in letters that the cloud takes.  It takes each once: some servers count their calls anew in every turn."""
        id = _BAD_ID.sub("_", said) or made_call_id()
        while id in self._ids:
            id += "_"
        self._ids.add(id)
        return id

    def _answered(self, said: str) -> str:
        """The id of the call that a result answers; one without an id answers the first that waits."""
        for at, (asked, id) in enumerate(self._unanswered):
            if said in (asked, ""):
                del self._unanswered[at]
                return id
        return _BAD_ID.sub("_", said)

    def _result(self, result: ToolResult) -> dict[str, Any]:
        content = [block for part in result.parts if (block := self._block(part)) is not None]
        written: dict[str, Any] = {"type": "tool_result", "tool_use_id": self._answered(result.call_id)}
        if content:
            written["content"] = content
        if result.is_error:
            written["is_error"] = True
        return marked(written, result.cache)


def marked(block: dict[str, Any], cache: str | None) -> dict[str, Any]:
    """The block with its cache marker; five minutes is what a marker without a time means."""
    if cache:
        block["cache_control"] = {"type": "ephemeral"} if cache == "5m" else {"type": "ephemeral", "ttl": cache}
    return block


def _decoded(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
