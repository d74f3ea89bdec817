"""The messages of a request and their content blocks, read into the canonical form.  The other fields are in `requests_in`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
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
    Text,
    ToolCall,
    ToolResult,
    made_call_id,
)
from nexus.dialects.checks import bad, flag, members, objects, text
from nexus.dialects.jsontext import dumps_text, object_of
from nexus.dialects.unread import taken

Block = Mapping[str, Any]
SERVERS = "server_tool_results"  # the loss
_ROLES = {"system": Role.SYSTEM, "user": Role.USER, "assistant": Role.ASSISTANT}


class Blocks:
    """Reads the content of one conversation."""

    def __init__(self, lost: Lost) -> None:
        self.lost = lost
        self._role = Role.SYSTEM
        self._unanswered: list[str] = []
        self._readers: Mapping[str, Callable[[Block, str], Iterator[Part]]] = {
            "text": self._text,
            "image": self._image,
            "document": self._document,
            "search_result": self._search_result,
            "tool_use": self._tool_use,
            "tool_result": self._tool_result,
            "tool_reference": self._tool_reference,
            "thinking": self._thinking,
            "redacted_thinking": self._redacted,
            "compaction": self._compaction,
        }

    def messages(self, value: Any) -> Iterator[Message]:
        """Every message; results of tools become messages of their own, before what else the user says in the same one."""
        if not isinstance(value, list):
            raise bad("'messages' must be an array of messages", "messages")
        for place, message in objects(value, "messages"):
            role = _ROLES.get(str(message.get("role")))
            if role is None:
                raise bad(f"the role of {place} must be user, assistant or system", f"{place}.role")
            self._role = role
            yield from _turns(role, tuple(self.content(message.get("content"), f"{place}.content")))

    def content(self, value: Any, place: str) -> Iterator[Part]:
        """A text, or blocks.  Raises Problem (400)."""
        if isinstance(value, str):
            if value:
                yield Text(text=value)
            return
        for at, block in objects(value, place):
            kind = block.get("type")
            read = self._readers.get(kind) if isinstance(kind, str) else None
            yield from read(block, at) if read else self._other(block, at)

    # ---------------------------------------------------------------- words, pictures, files

    def _text(self, block: Block, at: str) -> Iterator[Part]:
        if taken(block.get("citations")):
            self.lost.add("citations")
        words = text(block.get("text"), f"{at}.text")
        if words:
            yield Text(text=words, cache=cache_of(block))

    def _image(self, block: Block, at: str) -> Iterator[Part]:
        kind, source = _source(block, at)
        if kind == "url":
            yield Image(url=_needed(source, "url", at), cache=cache_of(block))
        elif kind == "base64":
            media_type = text(source.get("media_type"), f"{at}.source.media_type")
            yield Image(data=_given(source, "data", at), media_type=media_type or "image/png", cache=cache_of(block))
        else:  # a file that only Anthropic's cloud holds
            taken(source)
            self.lost.add("image_file", meant=True)

    def _document(self, block: Block, at: str) -> Iterator[Part]:
        kind, source = _source(block, at)
        if members(block.get("citations"), f"{at}.citations").get("enabled"):
            self.lost.add("citations")
        if context := text(block.get("context"), f"{at}.context"):
            yield Text(text=context)
        name, cache = text(block.get("title"), f"{at}.title"), cache_of(block)
        if kind == "base64":
            media_type = text(source.get("media_type"), f"{at}.source.media_type")
            yield Document(name=name, data=_given(source, "data", at), media_type=media_type or "application/pdf", cache=cache)
        elif kind == "url":
            yield Document(name=name, url=_needed(source, "url", at), cache=cache)
        elif kind == "text":
            source.get("media_type")  # it is plain
            yield Document(name=name, text=_given(source, "data", at), cache=cache)
        elif kind == "content":
            if name:
                yield Text(text=name)
            yield from self.content(source.get("content"), f"{at}.source.content")
        else:
            taken(source)
            self.lost.add("document_file", meant=True)

    def _search_result(self, block: Block, at: str) -> Iterator[Part]:
        """Its words; that they can be cited is lost."""
        self.lost.add("search_result")
        head = [text(block.get(key), f"{at}.{key}") for key in ("title", "source")]
        if any(head):
            yield Text(text="\n".join(filter(None, head)))
        yield from self.content(block.get("content"), f"{at}.content")

    # ---------------------------------------------------------------- tools

    def _tool_use(self, block: Block, at: str) -> Iterator[Part]:
        call = ToolCall(
            id=text(block.get("id"), f"{at}.id") or made_call_id(),
            name=_needed(block, "name", at),
            arguments=arguments_of(taken(block.get("input"))),
            cache=cache_of(block),
        )
        self._unanswered.append(call.id)
        yield call

    def _tool_result(self, block: Block, at: str) -> Iterator[Part]:
        call_id = text(block.get("tool_use_id"), f"{at}.tool_use_id")
        if call_id in self._unanswered:
            self._unanswered.remove(call_id)
        elif not call_id:
            if not self._unanswered:
                raise bad(f"{at} answers no tool call: 'tool_use_id' is missing", f"{at}.tool_use_id")
            call_id = self._unanswered.pop(0)
        parts = self.content(block.get("content"), f"{at}.content")
        shown = []
        for part in parts:
            if isinstance(part, Text | Image | Document):
                shown.append(part)
            else:
                self.lost.add("tool_result_content", meant=True)
        yield ToolResult(
            call_id=call_id,
            parts=tuple(shown),
            is_error=flag(block.get("is_error"), f"{at}.is_error") or False,
            cache=cache_of(block),
        )

    def _tool_reference(self, block: Block, at: str) -> Iterator[Part]:
        """A search for tools found this one; all of them are given from the beginning elsewhere."""
        self.lost.add("tool_reference")
        yield Text(text=_needed(block, "tool_name", at))

    # ---------------------------------------------------------------- thinking, and the rest

    def _thinking(self, block: Block, at: str) -> Iterator[Part]:
        thought = text(block.get("thinking"), f"{at}.thinking") or ""
        signature = text(block.get("signature"), f"{at}.signature") or None
        if thought or signature:
            yield Reasoning(text=thought, signature=signature)

    def _redacted(self, block: Block, at: str) -> Iterator[Part]:
        if data := text(block.get("data"), f"{at}.data"):
            yield Reasoning(redacted=data)

    def _compaction(self, block: Block, at: str) -> Iterator[Part]:
        """The summary that stands for all that was said before: to a model elsewhere it is words of its own; null where there is none."""
        self.lost.add("compaction")
        if block.get("content") is not None and (summary := text(block.get("content"), f"{at}.content")):
            yield Text(text=summary, cache=cache_of(block))

    def _other(self, block: Block, at: str) -> Iterator[Part]:
        """What Anthropic's servers did themselves is left out: what the model made of it stands in the text beside it.  Of a
        block that nobody knows the words are kept, where it has some."""
        kind = str(block.get("type"))
        if not isinstance(block.get("text"), str) or is_the_servers(kind):
            taken(block)
        if is_the_servers(kind):
            self.lost.add(SERVERS)
        elif kind == "container_upload":
            self.lost.add(kind, meant=True)
        elif isinstance(block.get("text"), str):
            self.lost.add("unknown_block")
            yield from self._text(block, at)
        else:  # a user may have shown something; what a system or the model itself adds to a text is marking
            self.lost.add("unknown_block", meant=self._role is Role.USER)


def is_the_servers(kind: str) -> bool:
    """Whether a block is what a tool of Anthropic's servers was asked, or what it gave back."""
    return kind == "server_tool_use" or kind.startswith("mcp_tool_") or kind.endswith("_tool_result")


def arguments_of(given: Any) -> str:
    """The `input` of a call as JSON text.  Some clients and servers write the text itself."""
    if isinstance(given, str) and object_of(given) is not None:
        return "{}" if say_nothing(given) else given
    return "{}" if given is None else dumps_text(given)


def call_id_of(said: Any) -> str:
    """The id of a call, "" where there is none: some servers number theirs."""
    return str(said) if type(said) is int else said if isinstance(said, str) else ""


def cache_of(holder: Block) -> str | None:
    """For how long a cache marker asks to keep what ends here."""
    marker = holder.get("cache_control")
    if not isinstance(marker, dict):
        return None
    marker.get("type")
    ttl = marker.get("ttl")
    return ttl if isinstance(ttl, str) else "5m"


def _turns(role: Role, parts: tuple[Part, ...]) -> Iterator[Message]:
    results = tuple(part for part in parts if isinstance(part, ToolResult))
    if results:
        yield Message(role=Role.TOOL, parts=results)
    rest = tuple(part for part in parts if not isinstance(part, ToolResult))
    if rest or not results:
        yield Message(role=role, parts=rest)


def _source(block: Block, at: str) -> tuple[str, Block]:
    source = members(block.get("source"), f"{at}.source")
    kind = text(source.get("type"), f"{at}.source.type")
    if not kind:
        raise bad(f"{at} has no 'source' with a 'type'", f"{at}.source")
    return kind, source


def _given(holder: Block, key: str, at: str) -> str:
    """A text that must be there, though it may be empty."""
    found = text(holder.get(key), f"{at}.{key}")
    if found is None:
        raise bad(f"{at} has no {key!r}", f"{at}.{key}")
    return found


def _needed(holder: Block, key: str, at: str) -> str:
    found = text(holder.get(key), f"{at}.{key}")
    if not found:
        raise bad(f"{at} has no {key!r}", f"{at}.{key}")
    return found
