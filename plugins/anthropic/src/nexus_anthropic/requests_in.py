"""A message request read into the canonical form: the fields around the messages.  Their content is in `blocks_in`.

Fields of Anthropic's cloud that have no place are losses; which of them change what is asked is decided here:

- a field nobody knows is dropped, since clients send new ones every month and expect no server to mind;
- a tool that the client would have to run (bash, text editor, computer, memory) changes the meaning;
- a tool that Anthropic's servers run (web search, code execution) does so only where it is all there is, or is named: agents
  list them beside their own tools, and get on without them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from nexus.api import Payload
from nexus.dialects.canonical import (
    Conversation,
    Format,
    Losses,
    Lost,
    Message,
    ResponseFormat,
    Role,
    Thinking,
    Tool,
    ToolChoice,
    ToolMode,
)
from nexus.dialects.checks import bad, flag, items, members, number, objects, text, whole
from nexus.dialects.jsontext import loads
from nexus.dialects.unread import Read, is_nothing, taken, unread
from nexus_anthropic.blocks_in import Blocks, cache_of

_MEANT = frozenset({"mcp_servers"})
_MODES = {"auto": ToolMode.AUTO, "any": ToolMode.REQUIRED, "none": ToolMode.NONE, "tool": ToolMode.NAMED}
_CLIENTS_OWN = ("bash_", "text_editor_", "computer_", "memory_", "browser_")  # kinds of tools without a schema that a client runs
_DATED = re.compile(r"_(\d{8})$")
_SERVERS_OWN = frozenset(
    {"web_search", "web_fetch", "code_execution", "tool_search_tool_regex", "tool_search_tool_bm25", "mcp_toolset"}
)


def read_request(payload: Payload) -> tuple[Conversation, Losses]:
    """The conversation and what of it has no place.  Raises Problem (400) that says what is wrong and where."""
    try:
        body = loads(payload.body)
    except ValueError:
        raise bad("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    reading = _Reading(Read(body))
    conversation = reading.conversation()
    for name in unread(reading.body):
        reading.lost.field(name)
    return conversation, reading.lost.all


class _Reading:
    """One body on its way into the canonical form."""

    def __init__(self, body: Read) -> None:
        self.body = body
        self.lost = Lost()

    def conversation(self) -> Conversation:
        body = self.body
        for name in _MEANT:
            if not is_nothing(taken(body.get(name))):
                self.lost.add(name, meant=True)
        choice, parallel = self._tool_choice()
        return Conversation(
            model=text(body.get("model"), "model") or "",
            messages=tuple(self._messages()),
            tools=tuple(self._tools(choice)),
            tool_choice=choice,
            parallel_tools=parallel,
            max_output_tokens=self._most(),
            stop=tuple(self._stop()),
            temperature=number(body.get("temperature"), "temperature"),
            top_p=number(body.get("top_p"), "top_p"),
            top_k=whole(body.get("top_k"), "top_k"),
            response_format=self._response_format(),
            thinking=self._thinking(),
            user=self._user(),
            stream=flag(body.get("stream"), "stream") or False,
            wants_usage=True,
        )

    def _most(self) -> int | None:
        """A bound of nothing fills the cloud's cache for the next request, and asks for no answer: nobody else does that."""
        most = whole(self.body.get("max_tokens"), "max_tokens")
        if most == 0:
            self.lost.add("max_tokens", meant=True)
        return most or None

    def _messages(self) -> Iterator[Message]:
        blocks = Blocks(self.lost)
        if system := tuple(blocks.content(self.body.get("system"), "system")):
            yield Message(role=Role.SYSTEM, parts=system)
        yield from blocks.messages(self.body.get("messages"))

    # ---------------------------------------------------------------- tools

    def _tools(self, choice: ToolChoice | None) -> Iterator[Tool]:
        given = objects(self.body.get("tools"), "tools")
        own = [(at, tool) for at, tool in given if tool.get("type") in (None, "custom")]
        for _, tool in given:
            if tool.get("type") not in (None, "custom"):
                taken(tool)
                self._lose_tool(str(tool["type"]), needed=not own or (choice is not None and choice.name == tool.get("name")))
        for at, tool in own:
            yield self._tool(tool, at)

    def _lose_tool(self, kind: str, *, needed: bool) -> None:
        """A tool without a schema; the word is its kind without the date of its version."""
        word = _DATED.sub("", kind)
        if word in _SERVERS_OWN:
            self.lost.add(word, meant=needed)
        else:
            known = next((own.rstrip("_") for own in _CLIENTS_OWN if kind.startswith(own)), "tool_type")
            self.lost.add(known, meant=True)

    def _tool(self, tool: Mapping[str, Any], at: str) -> Tool:
        name = text(tool.get("name"), f"{at}.name")
        if not name:
            raise bad(f"{at} has no 'name'", f"{at}.name")
        schema = taken(tool.get("input_schema"))
        return Tool(
            name=name,
            description=text(tool.get("description"), f"{at}.description"),
            schema=None if schema is None else members(schema, f"{at}.input_schema"),
            strict=flag(tool.get("strict"), f"{at}.strict"),
            cache=cache_of(tool),
        )

    def _tool_choice(self) -> tuple[ToolChoice | None, bool | None]:
        choice = members(self.body.get("tool_choice"), "tool_choice")
        if not choice:
            return None, None
        mode, name = _MODES.get(str(choice.get("type"))), text(choice.get("name"), "tool_choice.name")
        if mode is None or (mode is ToolMode.NAMED and not name):
            raise bad("'tool_choice.type' must be auto, any, none, or tool with a 'name'", "tool_choice")
        single = flag(choice.get("disable_parallel_tool_use"), "tool_choice.disable_parallel_tool_use")
        parallel = None if single is None else not single
        return ToolChoice(mode=mode, name=name if mode is ToolMode.NAMED else None), parallel

    # ---------------------------------------------------------------- the rest

    def _stop(self) -> Iterator[str]:
        for at, stop in enumerate(items(self.body.get("stop_sequences"), "stop_sequences")):
            if word := text(stop, f"stop_sequences[{at}]"):
                yield word

    def _user(self) -> str | None:
        metadata = members(self.body.get("metadata"), "metadata")
        return text(metadata.get("user_id"), "metadata.user_id")

    def _response_format(self) -> ResponseFormat | None:
        config = members(self.body.get("output_config"), "output_config")
        asked = members(config.get("format") or self.body.get("output_format"), "output_config.format")
        if not asked:
            return None
        if asked.get("type") != "json_schema":
            raise bad("'output_config.format.type' must be json_schema", "output_config.format.type")
        schema = members(taken(asked.get("schema")), "output_config.format.schema")
        return ResponseFormat(kind=Format.JSON_SCHEMA, schema=schema, strict=True)

    def _thinking(self) -> Thinking | None:
        config = members(self.body.get("output_config"), "output_config")
        thinking = members(self.body.get("thinking"), "thinking")
        effort = text(config.get("effort"), "output_config.effort")
        kind = text(thinking.get("type"), "thinking.type")
        if kind is None and effort is None:
            return None
        enabled = {"enabled": True, "disabled": False}.get(kind or "")
        budget = whole(thinking.get("budget_tokens"), "thinking.budget_tokens")
        return Thinking(enabled=enabled, effort=effort, budget_tokens=budget or None)
