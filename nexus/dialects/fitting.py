"""A conversation made to fit what a kind of server takes (`Accepts`), before a dialect writes it.  No wire format is known here.

What is done to schemas is in `schemas`, to names of tools in `toolnames`, to ids of users in `userids`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nexus.dialects.alternatives import Unfit
from nexus.dialects.canonical import (
    Conversation,
    Document,
    Format,
    Image,
    Losses,
    Lost,
    Message,
    Part,
    ResponseFormat,
    Role,
    Target,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from nexus.dialects.jsontext import dumps_text
from nexus.dialects.schemas import fitted_schema, one_object
from nexus.dialects.toolnames import renamed
from nexus.dialects.userids import Pseudonyms
from nexus.model import Accepts
from nexus.model.accepts import Range

_SAMPLING = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k"} | dict.fromkeys(
    ("presence_penalty", "frequency_penalty"), "penalty"
)
_USUAL = {"temperature": 1, "top_p": 1, "presence_penalty": 0, "frequency_penalty": 0}
"""What a model does that is not told otherwise."""


ONLY_JSON = "Answer with one JSON value that is valid by this JSON schema, and nothing else: no other words, no code fence.\n{}"


@attrs.frozen(kw_only=True)
class Fitted:
    """The conversation as it can be written.  `names` are those of tools that were renamed: as the server says them, as the client does."""

    conversation: Conversation
    losses: Losses = ()
    names: Mapping[str, str] = attrs.field(factory=dict)


def fitted(said: Conversation, target: Target, pseudonyms: Pseudonyms) -> Fitted:
    """The conversation within the bounds of the target's kind; what that changes is a loss."""
    fitting = _Fitting(said, target, pseudonyms)
    made = fitting.conversation()
    return Fitted(conversation=made, losses=fitting.lost.all, names=fitting.names)


class _Fitting:
    """One conversation on its way; gathers the losses as it goes."""

    def __init__(self, said: Conversation, target: Target, pseudonyms: Pseudonyms) -> None:
        self.said = said
        self.target = target
        self.accepts: Accepts = target.accepts
        self.pseudonyms = pseudonyms
        self.lost = Lost()
        self._new = renamed(_names(said), self.accepts)
        self.names = {new: old for old, new in self._new.items()}

    def conversation(self) -> Conversation:
        fields: dict[str, Any] = {
            "messages": self._messages(),
            "stop": self._stop(),
            "user": self._user(),
            **self._tools(),
            **self._sampling(),
            **self._format(),
        }
        return attrs.evolve(self.said, **fields)

    # ---- tools

    def _tools(self) -> dict[str, Any]:
        said, most = self.said, self.accepts.tools
        if most is not None and len(said.tools) > most:
            self.lost.add("tools", meant=True)
        choice = said.tool_choice
        if choice is not None and choice.name and choice.name in self._new:
            choice = attrs.evolve(choice, name=self._new[choice.name])
        return {"tools": tuple(self._tool(tool) for tool in said.tools), "tool_choice": choice}

    def _tool(self, tool: Tool) -> Tool:
        schema, strict = tool.schema, tool.strict
        if strict and self.accepts.schema is not None:
            held = self._held({"type": "object", "properties": {}, **(schema or {})})
            if held is not None and "object" in held.get("type", "object"):
                schema = held
            else:  # arguments are an object: no model can be held to anything else
                strict = None
                self.lost.add("strict")
        if schema is not None and self.accepts.plain_tools:
            schema, dropped = one_object(schema)
            self._lose(dropped)
        return attrs.evolve(tool, name=self._new.get(tool.name, tool.name), schema=schema, strict=strict)

    # ---- schemas

    def _held(self, schema: Mapping[str, Any]) -> dict[str, Any] | None:
        """The schema as one that the model can be held to; None where there is none that is no stricter."""
        assert self.accepts.schema is not None
        try:
            made, dropped = fitted_schema(schema, self.accepts.schema)
        except Unfit:
            return None
        self._lose(dropped)
        return made

    def _lose(self, keywords: tuple[str, ...]) -> None:
        for keyword in keywords:
            self.lost.field(keyword)

    def _format(self) -> dict[str, Any]:
        """A schema for the answer that the server cannot hold the model to is put into words, where the client did not insist on it."""
        asked, accepts = self.said.response_format, self.accepts
        if asked is None or asked.kind is not Format.JSON_SCHEMA or accepts.schema is None:
            return {}
        if not (asked.strict or accepts.strict_answers):
            return {}
        held = self._held(asked.schema or {"type": "object"})
        if held is not None:
            return {"response_format": attrs.evolve(asked, schema=held)}
        if not accepts.strict_answers:
            self.lost.add("strict")
            return {"response_format": attrs.evolve(asked, strict=None)}
        self.lost.add("response_format", meant=asked.strict is True)
        return {"response_format": None, "messages": self._told(asked)}

    def _told(self, asked: ResponseFormat) -> tuple[Message, ...]:
        messages = self._messages()
        top = next((at for at, message in enumerate(messages) if message.role is not Role.SYSTEM), len(messages))
        words = ONLY_JSON.format(dumps_text(asked.schema or {"type": "object"}))
        return (*messages[:top], Message(role=Role.SYSTEM, parts=(Text(text=words),)), *messages[top:])

    # ---- messages

    def _messages(self) -> tuple[Message, ...]:
        if not self._new and self.accepts.image_types is None and self.accepts.document_types is None:
            return self.said.messages
        return tuple(attrs.evolve(m, parts=tuple(map(self._part, m.parts))) for m in self.said.messages)

    def _part(self, part: Part) -> Part:
        match part:
            case ToolCall() if part.name in self._new:
                return attrs.evolve(part, name=self._new[part.name])
            case ToolResult():
                return attrs.evolve(part, parts=tuple(self._shown(shown) for shown in part.parts))
            case Image() | Document():
                return self._shown(part)
        return part

    def _shown(self, part: Text | Image | Document) -> Text | Image | Document:
        match part:
            case Image(data=str()):
                return self._image(part)
            case Document(data=str()):
                return self._document(part)
        return part

    def _image(self, image: Image) -> Image:
        kind = (image.media_type or "image/png").lower()
        kind = "image/jpeg" if kind == "image/jpg" else kind
        if self.accepts.image_types is not None and kind not in self.accepts.image_types:
            self.lost.add("image_type", meant=True)
        return attrs.evolve(image, media_type=kind)

    def _document(self, document: Document) -> Document:
        """A file of text goes as its text to servers that do not take it as it is."""
        kind = (document.media_type or "application/pdf").lower()
        if self.accepts.document_types is None or kind in self.accepts.document_types:
            return document
        if kind.startswith("text/") and (words := _decoded(document.data or "")) is not None:
            return attrs.evolve(document, data=None, media_type=None, text=words)
        self.lost.add("document", meant=True)
        return document

    # ---- the rest

    def _user(self) -> str | None:
        if not self.said.user:
            return None
        made = self.pseudonyms.of(self.said.user, self.accepts)
        if made != self.said.user:
            self.lost.add("user")
        return made

    def _stop(self) -> tuple[str, ...]:
        accepts = self.accepts
        kept = tuple(stop for stop in self.said.stop if stop.strip() or accepts.blank_stops)
        if len(kept) < len(self.said.stop):
            self.lost.add("stop")
        if (accepts.stops is not None and len(kept) > accepts.stops) or (kept and self._untuned):
            self.lost.add("stop_sequences", meant=True)
        return kept

    @property
    def _untuned(self) -> bool:
        return self.target.thinks is True and not self.accepts.tuned_thinking

    def _sampling(self) -> dict[str, Any]:
        return dict(self._sampled())

    def _sampled(self) -> Iterator[tuple[str, float | None]]:
        for name, bound in _SAMPLING.items():
            value = getattr(self.said, name)
            if value is None:
                continue
            kept = None if self._untuned else _within(value, getattr(self.accepts, bound))
            if kept != value and not (kept is None and value == _USUAL.get(name)):
                self.lost.add(name)
            yield name, kept


def _names(said: Conversation) -> Iterator[str]:
    """Every name of a tool in a conversation, of those that are there no more as well."""
    yield from (tool.name for tool in said.tools)
    if said.tool_choice is not None and said.tool_choice.name:
        yield said.tool_choice.name
    yield from (part.name for message in said.messages for part in message.parts if isinstance(part, ToolCall))


def _within(value: float, bounds: Range | None) -> float:
    return value if bounds is None else min(max(value, bounds[0]), bounds[1])


def _decoded(data: str) -> str | None:
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return None
