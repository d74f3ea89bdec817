"""What routing needs of a request body, decoded as little as possible.  The whole of a request is read in `requests_in`."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from nexus.api import Facts
from nexus.dialects.checks import bad
from nexus.dialects.fields import (
    NOTHING,
    Fields,
    elements,
    fields_of,
    flag_in,
    is_array,
    likely_tokens,
    model_in,
    token_bounds,
    told,
    tools_and_schemas,
    weigh_request,
    whole_in,
    words_of,
)
from nexus.model import IMAGE_URL, VISION

DOCUMENTS = "documents"
_READ = ("messages", "system", "tools", "output_config", "output_format")  # by the model, before it answers
_DEEPEST = 8  # blocks within blocks

COMMON_FIELDS = frozenset(
    {
        "model", "stream", "messages", "system", "tools", "tool_choice", "max_tokens", "metadata", "thinking", "output_config",
        "context_management", "temperature", "output_format", "stop_sequences", "top_p", "top_k", "service_tier",
        "mcp_servers", "container", "inference_geo", "speed", "cache_control", "betas",
    }
)  # fmt: skip

_MEDIA = re.compile(rb'"type"\s*:\s*"(?:image|document)"')


def facts_of(body: bytes, *, chat: bool) -> Facts:
    """The facts; `chat` false is a body whose tokens are to be counted.  Raises Problem (400)."""
    body = words_of(body)
    fields = fields_of(body, COMMON_FIELDS)
    messages = fields.get("messages")
    if messages is None:
        raise bad("you must provide the field 'messages'", "messages")
    if not is_array(messages):
        raise bad("'messages' must be an array of messages", "messages")
    low, high = token_bounds(fields.sizes(_READ))
    return Facts(
        model=model_in(fields),
        stream=chat and flag_in(fields, "stream"),
        needs=frozenset(_needs(fields, messages, body)),
        tokens_low=low,
        tokens_high=high,
        max_output_tokens=whole_in(fields, "max_tokens") or None if chat else None,
        wants_usage=True,
        unambiguous=fields.unambiguous,
    )


def estimate(facts: Facts) -> int:
    """The likely tokens of the prompt: about four bytes each."""
    return max(1, likely_tokens(facts))


def _needs(fields: Fields, messages: msgspec.Raw, body: bytes) -> Iterator[str]:
    yield from tools_and_schemas(fields, ("tools",), ("output_config", "output_format"))
    if _MEDIA.search(body):  # only messages that seem to carry media are looked into
        weigh_request(body)
        for message in elements(messages):
            yield from _media(message)


class _Holder(msgspec.Struct):
    """A message, a tool's result or a document's own source."""

    content: msgspec.Raw = NOTHING


class _Block(msgspec.Struct):
    type: str
    source: msgspec.Raw = NOTHING


_holder, _block = msgspec.json.Decoder(_Holder), msgspec.json.Decoder(_Block)
_source = msgspec.json.Decoder(_Block)


def _media(raw: msgspec.Raw, depth: int = 0) -> Iterator[str]:
    """What is needed for the media among the blocks of a message, a tool's result or a document's own content."""
    holder = told(raw, _holder)
    for each in elements(holder.content) if holder and depth < _DEEPEST else ():
        block = told(each, _block)
        if block is None:
            continue
        source = told(block.source, _source)
        kind = source.type if source else ""
        if block.type == "image":
            yield VISION
            if kind == "url":
                yield IMAGE_URL
        elif block.type == "document":
            if kind in ("text", "content"):
                yield from _media(block.source, depth + 1)
            else:
                yield DOCUMENTS
        elif block.type == "tool_result":
            yield from _media(each, depth + 1)
