"""The canonical form written as an OpenAI chat request.  Reading one is in `openai_read`, replies are in `openai_answer`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from nexus.dialects.canonical import (
    ANY_NAME,
    Conversation,
    Document,
    Format,
    Image,
    Losses,
    Lost,
    Message,
    Part,
    Reasoning,
    Role,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolMode,
    ToolResult,
    joined,
    must_call,
)
from nexus.dialects.jsontext import dumps
from nexus.dialects.openai_order import in_order

CLOUD_STOPS = 4  # OpenAI's API reference: "up to 4 sequences"
# Servers with a template of the model's own take a system message only at the top.  What stands further down goes to the
# user's turn, in the words by which coding agents have always marked such notes.
_REMINDER = "<system-reminder>\n{}\n</system-reminder>"
_BETWEEN = "\n\n"
FAILED = "The tool failed"  # there is no other place for it
_NO_ARGUMENTS: Mapping[str, Any] = {"type": "object", "properties": {}}
_EFFORTS = frozenset({"low", "medium", "high"})
_NEAREST_EFFORT: Mapping[str, str] = {"minimal": "low", "xhigh": "high", "max": "high"}


def write_request(conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
    """The body, and what could not be said."""
    writing = _Writing(conversation, target)
    body = writing.body()
    return dumps(body), writing.lost.all


class _Writing:
    """One conversation on its way out; gathers the losses as it goes."""

    def __init__(self, conversation: Conversation, target: Target) -> None:
        self.said = conversation
        self.target = target
        self.lost = Lost()

    def body(self) -> dict[str, Any]:
        said = self.said
        if said.n > 1:
            self.lost.add("n", meant=True)
        body: dict[str, Any] = {
            "model": self.target.model,
            "messages": self._messages(),
            **self._tools(),
            **self._bounds(),
            "temperature": said.temperature,
            "top_p": said.top_p,
            "seed": said.seed,
            "presence_penalty": said.presence_penalty,
            "frequency_penalty": said.frequency_penalty,
            "response_format": self._response_format(),
            "reasoning_effort": self._effort(),
            "user": said.user,
            "stream": True if said.stream else None,
            "stream_options": {"include_usage": True} if said.stream and self.target.takes_usage else None,
        }
        return {name: value for name, value in body.items() if value is not None}

    # ---- messages

    def _messages(self) -> list[dict[str, Any]]:
        messages = self.said.messages
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
                yield Message(role=Role.USER, parts=(Text(text=_REMINDER.format(self._words(message.parts))),))
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
        return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments or "{}"}}

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
        return [part for part in written if part is not None]

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

    # ---- tools

    def _tools(self) -> dict[str, Any]:
        said = self.said
        if not said.tools:
            if must_call(said):
                self.lost.add("tool_choice")
            return {}
        choice: Any = said.tool_choice and said.tool_choice.mode.value
        if said.tool_choice and said.tool_choice.mode is ToolMode.NAMED:
            choice = {"type": "function", "function": {"name": said.tool_choice.name}}
        tools = [self._tool(tool) for tool in said.tools]
        return {"tools": tools, "tool_choice": choice, "parallel_tool_calls": said.parallel_tools}

    def _tool(self, tool: Tool) -> dict[str, Any]:
        if tool.cache:
            self.lost.add("cache_control")
        function = {
            "name": tool.name,
            "description": tool.description,
            "parameters": _NO_ARGUMENTS if tool.schema is None else tool.schema,
            "strict": tool.strict,
        }
        return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}

    # ---- the rest

    def _bounds(self) -> dict[str, Any]:
        said, target = self.said, self.target
        if len(said.stop) > CLOUD_STOPS and not target.home:
            self.lost.add("stop_sequences", meant=True)
        if said.top_k is not None and not target.home:
            self.lost.add("top_k")
        return {
            # OpenAI's newer models reject the old name, which is the only one that many servers at home know
            "max_tokens" if target.home else "max_completion_tokens": self._most(),
            "stop": list(said.stop) or None,
            "top_k": said.top_k if target.home else None,
        }

    def _most(self) -> int | None:
        """What was asked for, but never more than the model can write or than there is room: some servers reject more."""
        asked = self.said.max_output_tokens
        if not asked:
            return None
        most = min(bound for bound in (asked, self.target.max_output_tokens, self.target.room) if bound)
        if most < asked:
            self.lost.add("max_tokens")
        return most

    def _response_format(self) -> dict[str, Any] | None:
        asked = self.said.response_format
        if asked is None:
            return None
        if asked.kind is not Format.JSON_SCHEMA:
            return {"type": asked.kind.value}
        spec = attrs.asdict(asked, filter=lambda field, value: field.name != "kind" and value is not None, recurse=False)
        return {"type": "json_schema", "json_schema": {**spec, "name": asked.name or ANY_NAME}}

    def _effort(self) -> str | None:
        """Only for a model that is known to reason: others answer the field with a 400."""
        thinking = self.said.thinking
        if thinking is None or thinking == Thinking():
            return None
        if self.target.thinks is not True:
            if thinking.enabled is not False or self.target.thinks is None:
                self.lost.add("thinking_budget")
            return None
        if thinking.enabled is False:
            return self._unthinking()
        if thinking.budget_tokens:
            self.lost.add("thinking_budget")
        return self._known(thinking.effort) if thinking.effort else _effort_of(thinking.budget_tokens)

    def _unthinking(self) -> str:
        """OpenAI's own models differ in whether they can be told not to think; all of them can be told to think little."""
        if self.target.home:
            return "none"
        self.lost.add("thinking_budget")
        return "low"

    def _known(self, effort: str) -> str | None:
        """The three words that every server takes which takes one: Ollama and older models of OpenAI's reject all others."""
        known = effort if effort in _EFFORTS else _NEAREST_EFFORT.get(effort)
        if known != effort:
            self.lost.add("thinking_budget")
        return known


def _effort_of(budget: int | None) -> str | None:
    """A budget in tokens as the word that comes near it."""
    if budget is None:
        return None
    return "low" if budget <= 2048 else "medium" if budget <= 8192 else "high"


def _all_parts(messages: Sequence[Message]) -> list[Part]:
    return [part for message in messages for part in message.parts]


def _both(first: str | list[dict[str, Any]], second: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One turn of the user's made of two: what follows a tool's results stands beside the pictures that they held."""
    both = (said if isinstance(said, list) else [{"type": "text", "text": said}] for said in (first, second) if said)
    return [part for parts in both for part in parts]
