"""An OpenAI chat request read into the canonical form.  Writing one is in `openai_write`, replies are in `openai_answer`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

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
    ResponseFormat,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
    made_call_id,
)
from nexus.errors import Problem
from nexus.model import Payload

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
# fields with a place in the canonical form
_CARRIED = frozenset(
    {
        "model", "messages", "stream", "stream_options", "tools", "tool_choice", "parallel_tool_calls", "max_tokens",
        "max_completion_tokens", "stop", "temperature", "top_p", "top_k", "seed", "presence_penalty", "frequency_penalty",
        "response_format", "reasoning_effort", "n", "user",
    }
)  # fmt: skip
# without these the answer would be one to another question
_MEANT = frozenset(
    {"functions", "function_call", "web_search_options", "grammar", "json_schema", "guided_json", "guided_regex",
     "guided_choice", "guided_grammar", "structured_outputs"}
)  # fmt: skip
# what may stand in a header: a field that somebody made up is not repeated there
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.I)
_NOTHING: tuple[Any, ...] = (None, False, [], {}, "")


def read_request(payload: Payload) -> tuple[Conversation, Losses]:
    """Raises Problem (400) that says what is wrong and where."""
    try:
        body = payload.parsed
    except (ValueError, RecursionError):
        raise _bad("the body is not valid JSON", None) from None
    if not isinstance(body, dict):
        raise _bad("the body must be a JSON object", None)
    return _Request(body).read()


class _Request:
    """One body on its way into the canonical form; gathers the losses as it goes."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self.body = body
        self.losses: dict[str, Loss] = {}
        self.unanswered: list[str] = []

    def read(self) -> tuple[Conversation, Losses]:
        self._unknown()
        body = self.body
        stream_options = _object(body.get("stream_options"), "stream_options")
        conversation = Conversation(
            model=_text(body.get("model"), "model") or "",
            messages=tuple(self._messages()),
            tools=tuple(self._tools()),
            tool_choice=self._tool_choice(),
            parallel_tools=_flag(body.get("parallel_tool_calls"), "parallel_tool_calls"),
            max_output_tokens=self._integer("max_completion_tokens") or self._integer("max_tokens"),
            stop=self._stop(),
            temperature=self._number("temperature"),
            top_p=self._number("top_p"),
            top_k=self._integer("top_k"),
            seed=self._integer("seed"),
            presence_penalty=self._number("presence_penalty"),
            frequency_penalty=self._number("frequency_penalty"),
            response_format=self._response_format(),
            thinking=self._thinking(),
            n=self._integer("n") or 1,
            user=_text(body.get("user"), "user"),
            stream=body.get("stream") is True,
            wants_usage=stream_options.get("include_usage") is True,
        )
        return conversation, tuple(self.losses.values())

    def _lose(self, what: str, *, meant: bool = False) -> None:
        before = self.losses.get(what)
        self.losses[what] = Loss(what=what, meaning_changed=meant or bool(before and before.meaning_changed))

    def _unknown(self) -> None:
        for name, value in self.body.items():
            if name in _CARRIED or any(value is nothing or value == nothing for nothing in _NOTHING):
                continue
            if name == "modalities" or name == "audio":
                if name == "audio" or value != ["text"]:
                    self._lose("audio", meant=True)
            else:
                self._lose(name if _NAME.fullmatch(name) else "unknown_field", meant=name in _MEANT)

    # ---- messages

    def _messages(self) -> Iterator[Message]:
        messages = self.body.get("messages")
        if not isinstance(messages, list):
            raise _bad("'messages' must be an array of messages", "messages")
        for number, message in enumerate(messages):
            place = f"messages[{number}]"
            if not isinstance(message, dict):
                raise _bad(f"{place} must be an object", place)
            if message.get("role") == "function":
                self._lose("functions", meant=True)
                continue
            role = _ROLES.get(str(message.get("role")))
            if role is None:
                raise _bad(f"the role of {place} must be system, developer, user, assistant or tool", f"{place}.role")
            yield Message(role=role, parts=tuple(self._parts(role, message, place)))

    def _parts(self, role: Role, message: Mapping[str, Any], place: str) -> Iterator[Part]:
        if message.get("name"):
            self._lose("name")
        if role is Role.TOOL:
            yield self._tool_result(message, place)
            return
        if role is Role.ASSISTANT and (thought := message.get("reasoning_content") or message.get("reasoning")):
            yield Reasoning(text=_text(thought, f"{place}.reasoning_content") or "")
        yield from self._content(message.get("content"), f"{place}.content")
        if role is Role.ASSISTANT:
            if message.get("function_call"):
                self._lose("functions", meant=True)
            if message.get("audio"):
                self._lose("audio", meant=True)
            yield from self._tool_calls(message.get("tool_calls"), f"{place}.tool_calls")

    def _tool_result(self, message: Mapping[str, Any], place: str) -> ToolResult:
        call_id = _text(message.get("tool_call_id"), f"{place}.tool_call_id")
        if call_id in self.unanswered:
            self.unanswered.remove(call_id)
        elif not call_id:  # servers that give calls no id get answers in the order of the calls
            if not self.unanswered:
                raise _bad(f"{place} answers no tool call: 'tool_call_id' is missing", f"{place}.tool_call_id")
            call_id = self.unanswered.pop(0)
        return ToolResult(call_id=call_id, parts=tuple(self._content(message.get("content"), f"{place}.content")))

    def _tool_calls(self, calls: Any, place: str) -> Iterator[ToolCall]:
        for number, call in enumerate(_list(calls, place)):
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                self._lose("custom_tool", meant=True)
                continue
            name = _text(function.get("name"), f"{place}[{number}].function.name")
            if not name:
                raise _bad(f"{place}[{number}] has no name", f"{place}[{number}].function.name")
            made = ToolCall(
                id=_text(call.get("id"), f"{place}[{number}].id") or made_call_id(),
                name=name,
                arguments=arguments_text(function.get("arguments")),
            )
            self.unanswered.append(made.id)
            yield made

    def _content(self, content: Any, place: str) -> Iterator[Text | Image | Document]:
        if isinstance(content, str):
            if content:
                yield Text(text=content)
            return
        for number, part in enumerate(_list(content, place)):
            at = f"{place}[{number}]"
            if not isinstance(part, dict):
                raise _bad(f"{at} must be an object with a 'type'", at)
            made = self._part(part, at)
            if made is not None:
                yield made

    def _part(self, part: Mapping[str, Any], at: str) -> Text | Image | Document | None:
        kind, cache = part.get("type"), _cache(part)
        if kind in ("text", "refusal", "input_text", "output_text"):
            text = _text(part.get("refusal" if kind == "refusal" else "text"), f"{at}.text")
            return Text(text=text, cache=cache) if text else None
        if kind == "image_url":
            return _image(part.get("image_url"), at, cache)
        if kind == "file":
            return self._file(_object(part.get("file"), f"{at}.file"), at, cache)
        self._lose(kind if kind in ("input_audio", "video_url") else "content_part", meant=True)
        return None

    def _file(self, file: Mapping[str, Any], at: str, cache: str | None) -> Document | None:
        data = _text(file.get("file_data"), f"{at}.file.file_data")
        if not data:
            self._lose("file_id", meant=True)
            return None
        media_type, data = _from_data_url(data, at)
        name = _text(file.get("filename"), f"{at}.file.filename")
        return Document(name=name, data=data, media_type=media_type or "application/pdf", cache=cache)

    # ---- tools

    def _tools(self) -> Iterator[Tool]:
        for number, tool in enumerate(_list(self.body.get("tools"), "tools")):
            place = f"tools[{number}]"
            function = tool.get("function") if isinstance(tool, dict) else None
            if not isinstance(function, dict):
                self._lose("custom_tool" if isinstance(tool, dict) and tool.get("type") == "custom" else "tool_type", meant=True)
                continue
            name = _text(function.get("name"), f"{place}.function.name")
            if not name:
                raise _bad(f"{place} has no name", f"{place}.function.name")
            schema = function.get("parameters")
            yield Tool(
                name=name,
                description=_text(function.get("description"), f"{place}.function.description"),
                schema=None if schema is None else _object(schema, f"{place}.function.parameters"),
                strict=_flag(function.get("strict"), f"{place}.function.strict"),
                cache=_cache(tool),
            )

    def _tool_choice(self) -> ToolChoice | None:
        choice = self.body.get("tool_choice")
        if choice is None:
            return None
        if isinstance(choice, str) and choice in ("auto", "none", "required"):
            return ToolChoice(mode=ToolMode(choice))
        if isinstance(choice, dict) and choice.get("type") == "function":
            name = _text(_object(choice.get("function"), "tool_choice.function").get("name"), "tool_choice.function.name")
            if name:
                return ToolChoice(mode=ToolMode.NAMED, name=name)
        if isinstance(choice, dict) and choice.get("type") in ("allowed_tools", "custom"):
            self._lose("tool_choice", meant=True)
            return None
        raise _bad("'tool_choice' must be auto, none, required or the function to call", "tool_choice")

    # ---- the rest

    def _response_format(self) -> ResponseFormat | None:
        given = self.body.get("response_format")
        if given is None:
            return None
        given = _object(given, "response_format")
        kind = given.get("type")
        if kind not in ("text", "json_object", "json_schema"):
            raise _bad("'response_format.type' must be text, json_object or json_schema", "response_format.type")
        # llama.cpp takes a schema beside `json_object` too
        spec = given if kind == "json_object" else _object(given.get("json_schema"), "response_format.json_schema")
        schema = spec.get("schema")
        if schema is None and kind != "json_schema":
            return ResponseFormat(kind=Format(kind))
        return ResponseFormat(
            kind=Format.JSON_SCHEMA,
            name=_text(spec.get("name"), "response_format.json_schema.name"),
            description=_text(spec.get("description"), "response_format.json_schema.description"),
            schema=_object(schema, "response_format.json_schema.schema"),
            strict=_flag(spec.get("strict"), "response_format.json_schema.strict"),
        )

    def _thinking(self) -> Thinking | None:
        effort = _text(self.body.get("reasoning_effort"), "reasoning_effort")
        if not effort:
            return None
        return Thinking(enabled=False) if effort == "none" else Thinking(enabled=True, effort=effort)

    def _stop(self) -> tuple[str, ...]:
        stop = self.body.get("stop")
        if isinstance(stop, str):
            stop = [stop]
        stops = _list(stop, "stop")
        if not all(isinstance(word, str) for word in stops):
            raise _bad("'stop' must be a text or an array of texts", "stop")
        return tuple(word for word in stops if word)

    def _number(self, name: str) -> float | None:
        value = self.body.get(name)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise _bad(f"{name!r} must be a number", name)
        return value

    def _integer(self, name: str) -> int | None:
        value = self._number(name)
        if value is not None and value != value // 1:
            raise _bad(f"{name!r} must be a whole number", name)
        return None if value is None else int(value)


def arguments_text(arguments: Any) -> str:
    """Arguments are JSON text; some clients and servers send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _image(image: Any, at: str, cache: str | None) -> Image:
    fields = {"url": image} if isinstance(image, str) else _object(image, f"{at}.image_url")
    url = _text(fields.get("url"), f"{at}.image_url.url")
    detail = _text(fields.get("detail"), f"{at}.image_url.detail")
    if not url:
        raise _bad(f"{at} has no 'image_url.url'", f"{at}.image_url.url")
    if url[:5].lower() != "data:":
        return Image(url=url, detail=detail, cache=cache)
    media_type, data = _from_data_url(url, at)
    return Image(data=data, media_type=media_type or "image/png", detail=detail, cache=cache)


def _from_data_url(url: str, at: str) -> tuple[str | None, str]:
    if url[:5].lower() != "data:":
        return None, url
    found = _DATA_URL.match(url)
    if found is None:
        raise _bad(f"{at} must hold its data as base64: data:<media type>;base64,<data>", at)
    return found.group(1).lower() or None, url[found.end() :]


def _cache(part: Mapping[str, Any]) -> str | None:
    """A cache marker as some gateways take it on OpenAI's parts."""
    marker = part.get("cache_control")
    if not isinstance(marker, dict):
        return None
    ttl = marker.get("ttl")
    return ttl if isinstance(ttl, str) else "5m"


def _text(value: Any, place: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _bad(f"{place!r} must be a text", place)
    return value


def _flag(value: Any, place: str) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise _bad(f"{place!r} must be true or false", place)
    return value


def _object(value: Any, place: str) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _bad(f"{place!r} must be an object", place)
    return value


def _list(value: Any, place: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _bad(f"{place!r} must be an array", place)
    return value


def _bad(message: str, param: str | None) -> Problem:
    return Problem(400, "invalid_request", message, param=param)
