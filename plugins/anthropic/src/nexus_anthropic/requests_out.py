"""The canonical form written as a message request: the fields around the messages.  Their content is in `blocks_out`.

What a field may hold depends on the model's family (`families`); a model that is not in the table is taken for a newer one, and a
server that runs models itself for one that takes every field there is.
"""

from __future__ import annotations

from typing import Any

from nexus.dialects.canonical import (
    ANY_NAME,
    Conversation,
    Format,
    Losses,
    Lost,
    Reasoning,
    Role,
    Target,
    Thinking,
    Tool,
    ToolMode,
    must_call,
)
from nexus.dialects.jsontext import dumps
from nexus_anthropic.blocks_out import Turns, marked
from nexus_anthropic.families import DEFAULT_MAX_OUTPUT, NEWEST, Family, Reasons, family

HOME = Family(reasons=Reasons.EITHER, samples=2, effort=False, schemas=False)
LEAST_BUDGET = 1024  # tokens; the cloud rejects less
# What an effort comes to in tokens, for models that are told no effort.
BUDGETS = {"minimal": 1024, "low": 2048, "medium": 8192, "high": 16_384, "xhigh": 32_000, "max": 32_000}
EFFORTS = {"minimal": "low"} | {word: word for word in ("low", "medium", "high", "xhigh", "max")}
ONLY_JSON = "Answer with one JSON object and nothing else: no other words, no code fence."
_MODES = {ToolMode.AUTO: "auto", ToolMode.NONE: "none", ToolMode.REQUIRED: "any", ToolMode.NAMED: "tool"}
_UNSAID = ("presence_penalty", "frequency_penalty")


def write_request(conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
    """The body, and what could not be said."""
    writing = _Writing(conversation, target)
    return dumps(writing.body()), writing.lost.all


class _Writing:
    """One conversation on its way out."""

    def __init__(self, conversation: Conversation, target: Target) -> None:
        self.said = conversation
        self.target = target
        self.family = HOME if target.home else family(target.model) or NEWEST
        self.lost = Lost()
        self.max_tokens = self._max_tokens()

    def body(self) -> dict[str, Any]:
        said = self.said
        for name in _UNSAID:
            if getattr(said, name):
                self.lost.add(name)
        if said.seed is not None:
            self.lost.add("seed")
        if said.n > 1:
            self.lost.add("n", meant=True)
        turns = Turns(said.messages, self.lost, self.target)
        thinking = self._thinking()
        body = {
            "model": self.target.model,
            "max_tokens": self.max_tokens,
            "system": turns.system() + self._only_json() or None,
            "messages": turns.messages(),
            "tools": [self._tool(tool) for tool in said.tools] or None,
            "tool_choice": self._tool_choice(),
            "stop_sequences": list(said.stop) or None,
            "thinking": thinking,
            "output_config": self._output_config(),
            "metadata": {"user_id": said.user} if said.user else None,
            "stream": True if said.stream else None,
            **self._sampling(thinks=bool(thinking) and thinking != _OFF),
        }
        return {name: value for name, value in body.items() if value is not None}

    def _max_tokens(self) -> int:
        """What was asked for, else all that the model can write, but never more than that or than there is room."""
        asked = self.said.max_output_tokens
        most = self.target.max_output_tokens or self.family.max_output
        bounds = [bound for bound in (most, self.target.room) if bound]
        if asked and bounds and asked > min(bounds):
            self.lost.add("max_tokens")
        return min([asked or most or DEFAULT_MAX_OUTPUT, *bounds])

    # ---------------------------------------------------------------- tools

    def _tool(self, tool: Tool) -> dict[str, Any]:
        written: dict[str, Any] = {"name": tool.name}
        if tool.description:
            written["description"] = tool.description
        written["input_schema"] = {"type": "object", "properties": {}, **(tool.schema or {})}
        if tool.strict:
            if self.family.schemas:
                written["strict"] = True
            else:
                self.lost.add("strict")
        return marked(written, tool.cache)

    def _tool_choice(self) -> dict[str, Any] | None:
        said = self.said
        if not said.tools:
            if must_call(said):
                self.lost.add("tool_choice")
            return None
        single = said.parallel_tools is False
        if said.tool_choice is None and not single:
            return None
        mode = said.tool_choice.mode if said.tool_choice else ToolMode.AUTO
        choice: dict[str, Any] = {"type": _MODES[mode]}
        if mode is ToolMode.NAMED and said.tool_choice:
            choice["name"] = said.tool_choice.name
        if single and mode is not ToolMode.NONE:
            choice["disable_parallel_tool_use"] = True
        return choice

    @property
    def _forced(self) -> bool:
        """Whether a tool must be called: models do not think before that."""
        return bool(self.said.tools) and must_call(self.said)

    # ---------------------------------------------------------------- thinking

    def _thinking(self) -> dict[str, Any] | None:
        asked, reasons = self.said.thinking, self.family.reasons
        if asked is None:
            return None
        if asked.enabled is False:
            return _OFF if reasons is not Reasons.NEVER else None
        if asked.enabled and (reasons is Reasons.NEVER or self._forced):
            self.lost.add("thinking")
            return None
        written = self._thought(asked)
        if asked.budget_tokens and (written is None or written.get("budget_tokens") != asked.budget_tokens):
            self.lost.add("budget_tokens")
        return written

    def _thought(self, asked: Thinking) -> dict[str, Any] | None:
        """How a model is told to think that can: as it likes, or by a budget."""
        if not asked.enabled:
            return None
        reasons = self.family.reasons
        if reasons is Reasons.ADAPTIVE or (reasons is Reasons.EITHER and not self.target.home):
            return {"type": "adaptive"}
        return self._budget(asked.budget_tokens or BUDGETS.get(asked.effort or "", BUDGETS["medium"]))

    def _budget(self, wanted: int) -> dict[str, Any] | None:
        """Thinking by a budget, which must leave room for the answer; and a turn that goes on after tools must have begun with
        thinking, which clients of other dialects do not send back."""
        budget = min(max(wanted, LEAST_BUDGET), self.max_tokens - 1)
        if budget < LEAST_BUDGET or (not self.target.home and self._goes_on_unsigned()):
            self.lost.add("thinking")
            return None
        return {"type": "enabled", "budget_tokens": budget}

    def _goes_on_unsigned(self) -> bool:
        turns = [message for message in self.said.messages if message.role is not Role.SYSTEM]
        if not turns or turns[-1].role is not Role.TOOL:
            return False
        last = next((turn for turn in reversed(turns) if turn.role is Role.ASSISTANT), None)
        return last is None or not any(isinstance(p, Reasoning) and (p.signature or p.redacted) for p in last.parts)

    # ---------------------------------------------------------------- the rest

    def _output_config(self) -> dict[str, Any] | None:
        config = {"effort": self._effort(), "format": self._format()}
        return {name: value for name, value in config.items() if value is not None} or None

    def _effort(self) -> str | None:
        asked = self.said.thinking
        if asked is None or asked.effort is None or asked.enabled is False:
            return None
        written = EFFORTS.get(asked.effort) if self.family.effort else None
        if written != asked.effort:
            self.lost.add("effort")  # where thinking is asked for, it has become a budget
        return written

    def _format(self) -> dict[str, Any] | None:
        asked = self.said.response_format
        if asked is None or asked.kind is not Format.JSON_SCHEMA:
            return None
        if not self.family.schemas:
            self.lost.add("response_format", meant=True)
            return None
        for word, said in (
            ("schema_name", asked.name not in (None, ANY_NAME)),
            ("schema_description", asked.description),
            ("strict", asked.strict is False),
        ):
            if said:
                self.lost.add(word)
        return {"type": "json_schema", "schema": asked.schema or {"type": "object"}}

    def _only_json(self) -> list[dict[str, Any]]:
        """There is no mode for JSON without a schema; the model is told."""
        asked = self.said.response_format
        if asked is None or asked.kind is not Format.JSON_OBJECT:
            return []
        self.lost.add("json_object")
        return [{"type": "text", "text": ONLY_JSON}]

    def _sampling(self, *, thinks: bool) -> dict[str, float]:
        """What the family takes: models that think, and all the newest, are sampled as they are."""
        said = self.said
        given = {name: value for name in ("temperature", "top_p", "top_k") if (value := getattr(said, name)) is not None}
        if not self.target.home and (said.top_k or 0) <= 0:  # no bound, which the cloud has no number for
            given.pop("top_k", None)
        allowed = 0 if thinks and not self.target.home else self.family.samples
        kept = given if allowed == 2 else dict([*given.items()][:1]) if allowed else {}
        for name in given.keys() - kept.keys():
            self.lost.add(name)
        return kept


_OFF = {"type": "disabled"}
