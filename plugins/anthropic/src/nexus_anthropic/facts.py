"""What routing needs of a request body, decoded as little as possible.  The whole of a request is read in `requests_in`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from nexus.api import Facts, Problem
from nexus.model import JSON_SCHEMA, TOOLS, VISION

# A prompt of n bytes has between n/8 and n/2 tokens: long English words and runs of blanks reach 8 bytes a token, Chinese
# text has about 2; JSON's escapes lie between.
BYTES_PER_TOKEN_AT_MOST = 8
BYTES_PER_TOKEN_AT_LEAST = 2
DOCUMENTS = "documents"
MAX_MODEL_NAME = 512

COMMON_FIELDS = frozenset(
    {
        "model", "stream", "messages", "system", "tools", "tool_choice", "max_tokens", "metadata", "thinking", "output_config",
        "context_management", "temperature",
    }
)  # fmt: skip

_body = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_number = msgspec.json.Decoder(int | float | None)
# Long strings that are no words of the prompt: pictures, files, signatures of thinking, results only the cloud can read.  An
# unescaped quote on both sides: these are members of an object, and not words inside a text.
_OPAQUE = re.compile(rb'"(?:data|signature|encrypted_content|encrypted_index)"\s*:\s*"([^"\\]*)"')
_OPAQUE_WORDS = (b'"data"', b'"signature"', b'"encrypted_')
_MEDIA = re.compile(rb'"type"\s*:\s*"(?:image|document)"')


def facts_of(body: bytes, *, chat: bool) -> Facts:
    """The facts; `chat` false is a body whose tokens are to be counted.  Raises Problem (400)."""
    fields = top_level(body)
    messages = fields.get("messages")
    if messages is None:
        raise bad("you must provide the field 'messages'", "messages")
    raw = bytes(messages)
    if raw[:1] != b"[":
        raise bad("'messages' must be an array of messages", "messages")
    size = _size(fields, raw)
    return Facts(
        model=_model(fields),
        stream=bool(chat and _typed(fields, "stream", _flag, "true or false")),
        needs=frozenset(_needs(fields, raw)),
        tokens_low=size // BYTES_PER_TOKEN_AT_MOST,
        tokens_high=size // BYTES_PER_TOKEN_AT_LEAST + 1,
        max_output_tokens=_integer(fields, "max_tokens") or None if chat else None,
        wants_usage=True,
    )


def estimate(facts: Facts) -> int:
    """The likely tokens of the prompt: about four bytes each."""
    return max(1, facts.tokens_high * BYTES_PER_TOKEN_AT_LEAST // 4)


def top_level(body: bytes) -> dict[str, msgspec.Raw]:
    """The members of the body, their values still as bytes.  Raises Problem (400)."""
    try:
        if not body.isascii():
            body.decode()  # what is skipped over below would reach the backend unseen
        fields = _body.decode(body)
    except UnicodeDecodeError as error:
        raise bad(f"the body is not valid UTF-8: {error.reason} at byte {error.start}") from None
    except msgspec.ValidationError:
        raise bad("the body must be a JSON object") from None
    except msgspec.DecodeError as error:
        raise bad(f"the body is not valid JSON: {error}") from None
    except RecursionError:
        raise bad("the body is nested too deeply") from None
    for key in fields.keys() - COMMON_FIELDS:
        if key.casefold() in ("model", "stream"):
            # servers written in Go read keys without regard to case: two spellings would mean two different requests
            raise bad(f"the field {key!r} must be written {key.casefold()!r}", key)
    return fields


def bad(message: str, param: str | None = None) -> Problem:
    """A request that cannot be understood."""
    return Problem(400, "invalid_request", message, param=param)


def _model(fields: Mapping[str, msgspec.Raw]) -> str:
    if "model" not in fields:
        raise bad("you must provide the field 'model': the name of a model, see GET /v1/models", "model")
    model = _typed(fields, "model", _text, "a string")
    if not model or len(model) > MAX_MODEL_NAME:
        raise bad(f"'model' must be a name of 1 to {MAX_MODEL_NAME} characters, see GET /v1/models", "model")
    return str(model)


def _typed(fields: Mapping[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[Any], expected: str) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise bad(f"{name!r} must be {expected}", name) from None


def _integer(fields: Mapping[str, msgspec.Raw], name: str) -> int | None:
    value = _typed(fields, name, _number, "a number")
    if value is None:
        return None
    if value < 0 or value != value or value > 2**53:
        raise bad(f"{name!r} must be a whole number that is not negative", name)
    return int(value)


def _size(fields: Mapping[str, msgspec.Raw], messages: bytes) -> int:
    """Bytes of the prompt's text."""
    size = len(messages)
    if any(word in messages for word in _OPAQUE_WORDS):
        size -= sum(len(found[1]) for found in _OPAQUE.finditer(messages))
    return max(size, 0) + sum(len(bytes(fields[name])) for name in ("system", "tools") if name in fields)


def _needs(fields: Mapping[str, msgspec.Raw], messages: bytes) -> Iterator[str]:
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
        elif kind == "document":
            source = block.get("source")
            if isinstance(source, dict) and source.get("type") in ("text", "content"):
                _look(source, found)
            else:
                found.add(DOCUMENTS)
        elif kind == "tool_result":
            _look(block, found)
