"""An OpenAI chat request read into the canonical form: the fields around the messages, which are in `openai_content`.

Writing one is in `openai_write`, replies are in `openai_answer`.
"""

from __future__ import annotations

from collections.abc import Iterator

from nexus.dialects.canonical import (
    Conversation,
    Format,
    Losses,
    Lost,
    ResponseFormat,
    Thinking,
    Tool,
    ToolChoice,
    ToolMode,
)
from nexus.dialects.checks import bad, flag, integer, items, members, number, text
from nexus.dialects.jsontext import loads
from nexus.dialects.openai_content import Messages, cache_of
from nexus.dialects.unread import Read, is_nothing, taken, unread
from nexus.model import Payload

NO_BOUND = -1
"""How clients of llama.cpp and LM Studio write that they want no bound."""

# without these the answer would be one to another question
_MEANT = frozenset(
    {"functions", "function_call", "web_search_options", "grammar", "json_schema", "guided_json", "guided_regex",
     "guided_choice", "guided_grammar", "structured_outputs"}
)  # fmt: skip


def read_request(payload: Payload) -> tuple[Conversation, Losses]:
    """Raises Problem (400) that says what is wrong and where."""
    try:
        body = loads(payload.body)
    except ValueError:
        raise bad("the body is not valid JSON") from None
    if not isinstance(body, dict):
        raise bad("the body must be a JSON object")
    return _Request(Read(body)).read()


class _Request:
    """One body on its way into the canonical form."""

    def __init__(self, body: Read) -> None:
        self.body = body
        self.lost = Lost()

    def read(self) -> tuple[Conversation, Losses]:
        self._other_answers()
        body = self.body
        stream_options = members(body.get("stream_options"), "stream_options")
        conversation = Conversation(
            model=text(body.get("model"), "model") or "",
            messages=tuple(Messages(self.lost).read(body.get("messages"))),
            tools=tuple(self._tools()),
            tool_choice=self._tool_choice(),
            parallel_tools=flag(body.get("parallel_tool_calls"), "parallel_tool_calls"),
            max_output_tokens=self._most(),
            stop=self._stop(),
            temperature=number(body.get("temperature"), "temperature"),
            top_p=number(body.get("top_p"), "top_p"),
            top_k=integer(body.get("top_k"), "top_k"),
            seed=integer(body.get("seed"), "seed"),
            presence_penalty=number(body.get("presence_penalty"), "presence_penalty"),
            frequency_penalty=number(body.get("frequency_penalty"), "frequency_penalty"),
            response_format=self._response_format(),
            thinking=self._thinking(),
            n=integer(body.get("n"), "n") or 1,
            user=self._user(),
            stream=body.get("stream") is True,
            wants_usage=stream_options.get("include_usage") is True,
        )
        for name in unread(body):
            self.lost.field(name)
        return conversation, self.lost.all

    def _other_answers(self) -> None:
        """Fields without which the answer would be one to another question; where they are empty they may still ask for something."""
        for name in _MEANT:
            value = taken(self.body.get(name))
            if not is_nothing(value) or (name == "web_search_options" and value == {}):
                self.lost.add(name, meant=True)
        if taken(self.body.get("modalities")) not in (None, [], ["text"]) or not is_nothing(taken(self.body.get("audio"))):
            self.lost.add("audio", meant=True)

    def _most(self) -> int | None:
        """No bound is no field; a bound of nothing asks for no answer."""
        said = (integer(self.body.get(name), name) for name in ("max_completion_tokens", "max_tokens"))
        most, older = (None if bound == NO_BOUND else bound for bound in said)
        if most is None:
            most = older
        if most == 0:
            self.lost.add("max_tokens", meant=True)
        return most or None

    def _user(self) -> str | None:
        """The newer field says who it is where the older one does not."""
        return text(self.body.get("user"), "user") or text(self.body.get("safety_identifier"), "safety_identifier")

    # ---- tools

    def _tools(self) -> Iterator[Tool]:
        for at, tool in enumerate(items(self.body.get("tools"), "tools")):
            place = f"tools[{at}]"
            function = tool.get("function") if isinstance(tool, dict) else None
            if not isinstance(function, dict):
                taken(tool)
                self.lost.add("custom_tool" if isinstance(tool, dict) and tool.get("type") == "custom" else "tool_type", meant=True)
                continue
            name = text(function.get("name"), f"{place}.function.name")
            if not name:
                raise bad(f"{place} has no name", f"{place}.function.name")
            tool.get("type")
            schema = taken(function.get("parameters"))
            yield Tool(
                name=name,
                description=text(function.get("description"), f"{place}.function.description"),
                schema=None if schema is None else members(schema, f"{place}.function.parameters"),
                strict=flag(function.get("strict"), f"{place}.function.strict"),
                cache=cache_of(tool),
            )

    def _tool_choice(self) -> ToolChoice | None:
        choice = self.body.get("tool_choice")
        if choice is None:
            return None
        if isinstance(choice, str) and choice in ("auto", "none", "required"):
            return ToolChoice(mode=ToolMode(choice))
        if isinstance(choice, dict) and choice.get("type") in ("auto", "none", "required"):  # as Anthropic's clients write it
            return ToolChoice(mode=ToolMode(choice["type"]))
        if isinstance(choice, dict) and choice.get("type") == "function":
            name = text(members(choice.get("function"), "tool_choice.function").get("name"), "tool_choice.function.name")
            if name:
                return ToolChoice(mode=ToolMode.NAMED, name=name)
        if isinstance(choice, dict) and choice.get("type") in ("allowed_tools", "custom"):
            taken(choice)
            self.lost.add("tool_choice", meant=True)
            return None
        raise bad("'tool_choice' must be auto, none, required or the function to call", "tool_choice")

    # ---- the rest

    def _response_format(self) -> ResponseFormat | None:
        given = self.body.get("response_format")
        if given is None:
            return None
        given = members(given, "response_format")
        kind = given.get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise bad("'response_format.type' must be text, json_object or json_schema", "response_format.type")
        # llama.cpp takes a schema beside `json_object` too
        spec = given if kind == "json_object" else members(given.get("json_schema"), "response_format.json_schema")
        schema = taken(spec.get("schema"))
        if schema is None and kind != "json_schema":
            return ResponseFormat(kind=Format(kind))
        return ResponseFormat(
            kind=Format.JSON_SCHEMA,
            name=text(spec.get("name"), "response_format.json_schema.name"),
            description=text(spec.get("description"), "response_format.json_schema.description"),
            schema=members(schema, "response_format.json_schema.schema"),
            strict=flag(spec.get("strict"), "response_format.json_schema.strict"),
        )

    def _thinking(self) -> Thinking | None:
        effort = text(self.body.get("reasoning_effort"), "reasoning_effort")
        if not effort:
            return None
        return Thinking(enabled=False) if effort == "none" else Thinking(enabled=True, effort=effort)

    def _stop(self) -> tuple[str, ...]:
        stop = self.body.get("stop")
        if isinstance(stop, str):
            stop = [stop]
        stops = items(stop, "stop")
        if not all(isinstance(word, str) for word in stops):
            raise bad("'stop' must be a text or an array of texts", "stop")
        return tuple(word for word in stops if word)
