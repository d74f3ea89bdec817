"""What routing needs of a request body, decoded as little as possible.  The whole of a request is read in `requests_in`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from nexus.api import Facts
from nexus.dialects.checks import bad
from nexus.dialects.fields import Fields, fields_of, flag_in, likely_tokens, model_in, token_bounds, whole_in
from nexus.model import IMAGE_URL, JSON_SCHEMA, TOOLS, VISION

DOCUMENTS = "documents"

COMMON_FIELDS = frozenset(
    {
        "model", "stream", "messages", "system", "tools", "tool_choice", "max_tokens", "metadata", "thinking", "output_config",
        "context_management", "temperature",
    }
)  # fmt: skip

# Long strings that are no words of the prompt: pictures, files, signatures of thinking, results only the cloud can read.  An
# unescaped quote on both sides: these are members of an object, and not words inside a text.
_OPAQUE = re.compile(rb'"(?:data|signature|encrypted_content|encrypted_index)"\s*:\s*"([^"\\]*)"')
_OPAQUE_WORDS = (b'"data"', b'"signature"', b'"encrypted_')
_MEDIA = re.compile(rb'"type"\s*:\s*"(?:image|document)"')


def facts_of(body: bytes, *, chat: bool) -> Facts:
    """The facts; `chat` false is a body whose tokens are to be counted.  Raises Problem (400)."""
    fields = fields_of(body, COMMON_FIELDS)
    messages = fields.get("messages")
    if messages is None:
        raise bad("you must provide the field 'messages'", "messages")
    raw = bytes(messages)
    if raw[:1] != b"[":
        raise bad("'messages' must be an array of messages", "messages")
    low, high = token_bounds(_size(fields, raw))
    return Facts(
        model=model_in(fields),
        stream=chat and flag_in(fields, "stream"),
        needs=frozenset(_needs(fields, raw)),
        tokens_low=low,
        tokens_high=high,
        max_output_tokens=whole_in(fields, "max_tokens") or None if chat else None,
        wants_usage=True,
    )


def estimate(facts: Facts) -> int:
    """The likely tokens of the prompt: about four bytes each."""
    return max(1, likely_tokens(facts))


def _size(fields: Fields, messages: bytes) -> int:
    """Bytes of the prompt's text."""
    size = len(messages)
    if any(word in messages for word in _OPAQUE_WORDS):
        size -= sum(len(found[1]) for found in _OPAQUE.finditer(messages))
    return max(size, 0) + sum(len(bytes(fields[name])) for name in ("system", "tools") if name in fields)


def _needs(fields: Fields, messages: bytes) -> Iterator[str]:
    tools = fields.get("tools")
    if tools is not None and len(bytes(tools)) > 4:  # more than [] or null
        yield TOOLS
    for name in ("output_config", "output_format"):
        if name in fields and b'"json_schema"' in bytes(fields[name]):
            yield JSON_SCHEMA
    if _MEDIA.search(messages):  # only a body that seems to carry media is decoded as a whole
        yield from _media(messages)


def _media(messages: bytes) -> set[str]:
    try:
        parsed = msgspec.json.decode(messages)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad("'messages' is not valid JSON", "messages") from None
    found: set[str] = set()
    for message in parsed:
        _look(message, found)
    return found


def _look(holder: Any, found: set[str]) -> None:
    """The media among the blocks of a message, a tool's result or a document's own content."""
    content = holder.get("content") if isinstance(holder, dict) else None
    for block in content if isinstance(content, list) else ():
        kind = block.get("type") if isinstance(block, dict) else None
        if kind == "image":
            found.add(VISION)
            if _type_of(block.get("source")) == "url":
                found.add(IMAGE_URL)
        elif kind == "document":
            source = block.get("source")
            if _type_of(source) in ("text", "content"):
                _look(source, found)
            else:
                found.add(DOCUMENTS)
        elif kind == "tool_result":
            _look(block, found)


def _type_of(source: Any) -> Any:
    return source.get("type") if isinstance(source, dict) else None
