"""The canonical form written as an OpenAI chat request: the fields around the messages, which are in `openai_turns`.

Reading one is in `openai_read`, replies are in `openai_answer`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nexus.dialects.canonical import (
    ANY_NAME,
    Conversation,
    Format,
    Losses,
    Lost,
    Target,
    Thinking,
    Tool,
    ToolMode,
    must_call,
)
from nexus.dialects.jsontext import dumps
from nexus.dialects.openai_turns import Turns

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
            "messages": Turns(self.target, self.lost).written(said.messages),
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
