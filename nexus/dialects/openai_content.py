"""The messages of an OpenAI chat request and their parts, read into the canonical form.  The other fields are in `openai_read`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nexus.dialects.canonical import (
    Document,
    Image,
    Lost,
    Message,
    Part,
    Reasoning,
    Role,
    Text,
    ToolCall,
    ToolResult,
    made_call_id,
)
from nexus.dialects.checks import bad, items, members, objects, text
from nexus.dialects.unread import taken

_ROLES = {
    "system": Role.SYSTEM,
    "developer": Role.SYSTEM,
    "user": Role.USER,
    "assistant": Role.ASSISTANT,
    "tool": Role.TOOL,
}
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*;base64,", re.I)


class Messages:
    """Reads the messages of one conversation; what has no place goes into `lost`."""

    def __init__(self, lost: Lost) -> None:
        self.lost = lost
        self._unanswered: list[str] = []

    def read(self, value: Any) -> Iterator[Message]:
        """Every message.  Raises Problem (400)."""
        if not isinstance(value, list):
            raise bad("'messages' must be an array of messages", "messages")
        for place, message in objects(value, "messages"):
            if message.get("role") == "function":
                taken(message)
                self.lost.add("functions", meant=True)
                continue
            role = _ROLES.get(str(message.get("role")))
            if role is None:
                raise bad(f"the role of {place} must be system, developer, user, assistant or tool", f"{place}.role")
            parts = tuple(self._parts(role, message, place))
            yield Message(role=role, parts=_marked(parts, cache_of(message)))

    def _parts(self, role: Role, message: Mapping[str, Any], place: str) -> Iterator[Part]:
        if message.get("name"):
            self.lost.add("name")
        if role is Role.TOOL:
            yield self._tool_result(message, place)
            return
        if role is Role.ASSISTANT and (thought := self._thought(message, place)):
            yield Reasoning(text=thought)
        yield from self._content(message.get("content"), f"{place}.content")
        if role is Role.ASSISTANT:
            if refusal := text(message.get("refusal"), f"{place}.refusal"):
                yield Text(text=refusal)
            if taken(message.get("function_call")):
                self.lost.add("functions", meant=True)
            if taken(message.get("audio")):
                self.lost.add("audio", meant=True)
            yield from self._tool_calls(message.get("tool_calls"), f"{place}.tool_calls")

    def _thought(self, message: Mapping[str, Any], place: str) -> str:
        """What the model thought, under the names that servers give it; the same words may stand under several."""
        said = [text(message.get(name), f"{place}.{name}") for name in ("reasoning_content", "reasoning")]
        details = taken(message.get("reasoning_details"))
        if not isinstance(details, list) or not details:
            return next(filter(None, said), "")
        self.lost.add("reasoning_details")  # signatures, and what only their maker can read
        return next(filter(None, said), "") or "".join(words_in(details))

    def _tool_result(self, message: Mapping[str, Any], place: str) -> ToolResult:
        call_id = text(message.get("tool_call_id"), f"{place}.tool_call_id")
        if call_id in self._unanswered:
            self._unanswered.remove(call_id)
        elif not call_id:  # servers that give calls no id get answers in the order of the calls
            if not self._unanswered:
                raise bad(f"{place} answers no tool call: 'tool_call_id' is missing", f"{place}.tool_call_id")
            call_id = self._unanswered.pop(0)
        parts = self._content(message.get("content"), f"{place}.content")
        return ToolResult(call_id=call_id, parts=tuple(part for part in parts if not isinstance(part, Reasoning)))

    def _tool_calls(self, calls: Any, place: str) -> Iterator[ToolCall]:
        for number, call in enumerate(items(calls, place)):
            function = call.get("function") if isinstance(call, dict) else None
            if not isinstance(function, dict):
                taken(call)
                self.lost.add("custom_tool", meant=True)
                continue
            call.get("type"), call.get("index")  # what each call says
            name = text(function.get("name"), f"{place}[{number}].function.name")
            if not name:
                raise bad(f"{place}[{number}] has no name", f"{place}[{number}].function.name")
            made = ToolCall(
                id=text(call.get("id"), f"{place}[{number}].id") or made_call_id(),
                name=name,
                arguments=arguments_text(taken(function.get("arguments"))),
            )
            self._unanswered.append(made.id)
            yield made

    def _content(self, content: Any, place: str) -> Iterator[Text | Image | Document | Reasoning]:
        if isinstance(content, str):
            if content:
                yield Text(text=content)
            return
        for number, part in enumerate(items(content, place)):
            at = f"{place}[{number}]"
            if not isinstance(part, dict):
                raise bad(f"{at} must be an object with a 'type'", at)
            made = self._part(part, at)
            if made is not None:
                yield made

    def _part(self, part: Mapping[str, Any], at: str) -> Text | Image | Document | Reasoning | None:
        kind, cache = part.get("type"), cache_of(part)
        if kind in ("text", "refusal", "input_text", "output_text"):
            words = text(part.get("refusal" if kind == "refusal" else "text"), f"{at}.text")
            return Text(text=words, cache=cache) if words else None
        if kind == "image_url":
            return _image(part.get("image_url"), at, cache)
        if kind == "file":
            return self._file(members(part.get("file"), f"{at}.file"), at, cache)
        said = taken(part)
        if kind in ("thinking", "reasoning"):
            if said.get("signature"):
                self.lost.add("signature")
            thought = "".join(words_in(said))
            return Reasoning(text=thought) if thought else None
        if kind == "redacted_thinking":
            self.lost.add("redacted_thinking")
            return None
        self.lost.add(kind if kind in ("input_audio", "video_url") else "content_part", meant=True)
        return None

    def _file(self, file: Mapping[str, Any], at: str, cache: str | None) -> Document | None:
        data = text(file.get("file_data"), f"{at}.file.file_data")
        if not data:
            taken(file)
            self.lost.add("file_id", meant=True)
            return None
        media_type, data = _from_data_url(data, at)
        name = text(file.get("filename"), f"{at}.file.filename")
        return Document(name=name, data=data, media_type=media_type or "application/pdf", cache=cache)


def words_in(value: Any, levels: int = 8) -> Iterator[str]:
    """The words of thinking, in the shapes that servers give it: a text, or parts with `thinking`, `text` or a `summary`.  What is
    nested deeper than any server does says nothing."""
    if isinstance(value, str):
        yield value
    elif not levels:
        return
    elif isinstance(value, list):
        for inner in value:
            yield from words_in(inner, levels - 1)
    elif isinstance(value, dict):
        said = next((value[name] for name in ("thinking", "text", "summary", "reasoning", "content") if value.get(name)), None)
        yield from words_in(said, levels - 1)


def _marked(parts: tuple[Part, ...], cache: str | None) -> tuple[Part, ...]:
    """A cache marker of a whole message, as some gateways take it, stands at its end."""
    if cache is None or not parts or isinstance(parts[-1], Reasoning):
        return parts
    return (*parts[:-1], attrs.evolve(parts[-1], cache=cache))


def arguments_text(arguments: Any) -> str:
    """Arguments are JSON text; some clients and servers send the object itself."""
    if arguments is None:
        return ""
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _image(image: Any, at: str, cache: str | None) -> Image:
    fields = {"url": image} if isinstance(image, str) else members(image, f"{at}.image_url")
    url = text(fields.get("url"), f"{at}.image_url.url")
    detail = text(fields.get("detail"), f"{at}.image_url.detail")
    if not url:
        raise bad(f"{at} has no 'image_url.url'", f"{at}.image_url.url")
    if url[:5].lower() != "data:":
        return Image(url=url, detail=detail, cache=cache)
    media_type, data = _from_data_url(url, at)
    return Image(data=data, media_type=media_type or "image/png", detail=detail, cache=cache)


def _from_data_url(url: str, at: str) -> tuple[str | None, str]:
    if url[:5].lower() != "data:":
        return None, url
    found = _DATA_URL.match(url)
    if found is None:
        raise bad(f"{at} must hold its data as base64: data:<media type>;base64,<data>", at)
    return found.group(1).lower() or None, url[found.end() :]


def cache_of(part: Mapping[str, Any]) -> str | None:
    """A cache marker as some gateways take it on OpenAI's parts."""
    marker = part.get("cache_control")
    if not isinstance(marker, dict):
        return None
    marker.get("type")
    ttl = marker.get("ttl")
    return ttl if isinstance(ttl, str) else "5m"
