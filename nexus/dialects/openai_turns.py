"""The messages of a conversation written as OpenAI's servers take them.  The other fields are in `openai_write`.

Servers at home want what their model's template can say: one system message on top, words alone in a tool's result, one text for a turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from nexus.dialects.arguments import say_nothing
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
    joined,
)
from nexus.dialects.mending import REMINDER

_BETWEEN = "\n\n"
FAILED = "The tool failed"  # there is no other place for it


class Turns:
    """Writes the messages for one target; gathers the losses as it goes."""

    def __init__(self, target: Target, lost: Lost) -> None:
        self.target = target
        self.lost = lost

    def written(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        """The messages; neighbours of the user's are one."""
        top = next((i for i, message in enumerate(messages) if message.role is not Role.SYSTEM), len(messages))
        written = [{"role": "system", "content": self._words(parts)}] if (parts := _all_parts(messages[:top])) else []
        for message in joined(self._turns(messages[top:])):
            for made in self._message(message):
                if made["role"] == "user" and written and written[-1]["role"] == "user":
                    made = {**made, "content": _both(written.pop()["content"], made["content"])}
                written.append(made)
        return written

    def _turns(self, messages: Sequence[Message]) -> Iterable[Message]:
        """The rest of the conversation, as servers of this kind accept it."""
        for message in messages:
            if message.role is Role.SYSTEM and self.target.home:
                self.lost.add("system_role")
                yield Message(role=Role.USER, parts=(Text(text=REMINDER.format(self._words(message.parts))),))
            else:
                yield message

    def _message(self, message: Message) -> list[dict[str, Any]]:
        if message.role is Role.TOOL:
            return self._results([part for part in message.parts if isinstance(part, ToolResult)])
        if message.role is Role.ASSISTANT:
            return [self._assistant(message.parts)]
        if message.role is Role.SYSTEM:
            return [{"role": "system", "content": self._words(message.parts)}]
        return [{"role": "user", "content": self._content(message.parts)}]

    def _assistant(self, parts: Sequence[Part]) -> dict[str, Any]:
        if in_order(parts) != list(parts):
            self.lost.add("order")
        said: dict[str, Any] = {"role": "assistant", "content": self._words(parts, between="")}
        if thoughts := self._thoughts([part for part in parts if isinstance(part, Reasoning)]):
            said["reasoning_content"] = thoughts
        if calls := [part for part in parts if isinstance(part, ToolCall)]:
            said["tool_calls"] = [self._call(call) for call in calls]
        return said

    def _call(self, call: ToolCall) -> dict[str, Any]:
        if call.cache:
            self.lost.add("cache_control")
        return {
            "id": call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": "{}" if say_nothing(call.arguments) else call.arguments},
        }

    def _thoughts(self, thoughts: Sequence[Reasoning]) -> str:
        """OpenAI's own servers take no thinking back; those at home hand it to the model's template."""
        if any(thought.signature for thought in thoughts):
            self.lost.add("signature")
        if any(thought.redacted for thought in thoughts):
            self.lost.add("redacted_thinking")
        text = "".join(thought.text for thought in thoughts)
        if text and not self.target.home:
            self.lost.add("thinking")
            return ""
        return text

    def _results(self, results: Sequence[ToolResult]) -> list[dict[str, Any]]:
        """One message for each result.  Pictures and files have no place there: they follow as the user's."""
        written, shown = [], []
        for result in results:
            if result.cache:
                self.lost.add("cache_control")
            words = self._words(part for part in result.parts if isinstance(part, Text))
            if result.is_error:
                self.lost.add("is_error")
                words = f"{FAILED}: {words}" if words else f"{FAILED}."
            files = [part for part in result.parts if not isinstance(part, Text)]
            if files:
                words = words or "The result follows in the next message."
                shown += [Text(text=f"This is the result of the tool call {result.call_id}:"), *files]
            written.append({"role": "tool", "tool_call_id": result.call_id, "content": words})
        return written + ([{"role": "user", "content": self._content(shown)}] if shown else [])

    def _words(self, parts: Iterable[Part], between: str = _BETWEEN) -> str:
        """The text of the parts, as one: some servers take no other, and the cache of a local one is kept by it.  What is
        neither words nor has a place of its own is a loss."""
        words = []
        for part in parts:
            if isinstance(part, Text):
                self._cached(part)
                words.append(part.text)
            elif isinstance(part, Image | Document):
                self.lost.add("image" if isinstance(part, Image) else "document", meant=True)
        return between.join(words)

    def _content(self, parts: Sequence[Part]) -> str | list[dict[str, Any]]:
        if all(isinstance(part, Text) for part in parts):
            return self._words(parts)
        written = (self._part(part) for part in parts if isinstance(part, Text | Image | Document))
        if any(isinstance(part, Reasoning) for part in parts):
            self.lost.add("thinking")
        return [part for part in written if part is not None] or ""

    def _part(self, part: Text | Image | Document) -> dict[str, Any] | None:
        self._cached(part)
        if isinstance(part, Text):
            return {"type": "text", "text": part.text}
        if isinstance(part, Image):
            if part.url and self.target.image_urls is False:
                self.lost.add("image_url", meant=True)
            image = {"url": part.url or f"data:{part.media_type or 'image/png'};base64,{part.data or ''}"}
            return {"type": "image_url", "image_url": {**image, "detail": part.detail} if part.detail else image}
        if part.text is not None:
            return {"type": "text", "text": f"{part.name}\n\n{part.text}" if part.name else part.text}
        if part.data is None:
            self.lost.add("document_url", meant=True)
            return None
        data = f"data:{part.media_type or 'application/pdf'};base64,{part.data}"
        return {"type": "file", "file": {"filename": part.name or "document.pdf", "file_data": data}}

    def _cached(self, part: Text | Image | Document) -> None:
        if part.cache:
            self.lost.add("cache_control")


def in_order(parts: Iterable[Part]) -> list[Part]:
    """The parts of a turn of the model's in the order in which they are read again: thinking, words and calls have a place of their own
    each, whatever their order was."""
    return sorted(parts, key=_place)


def _place(part: Part) -> int:
    return 0 if isinstance(part, Reasoning) else 2 if isinstance(part, ToolCall) else 1


def _all_parts(messages: Sequence[Message]) -> list[Part]:
    return [part for message in messages for part in message.parts]


def _both(first: str | list[dict[str, Any]], second: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One turn of the user's made of two: what follows a tool's results stands beside the pictures that they held."""
    both = (said if isinstance(said, list) else [{"type": "text", "text": said}] for said in (first, second) if said)
    return [part for parts in both for part in parts]
