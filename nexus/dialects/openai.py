"""The OpenAI dialect: what its bodies, streams and errors mean.  Reading one reply is in `openai_reader`; no I/O lives here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nexus.api import Dialect, Endpoint, Facts, ModelEntry, Reader, Splice
from nexus.dialects.jsonbytes import replace_top_level, set_member, times_at_top
from nexus.dialects.openai_reader import StreamReader, WholeReader
from nexus.errors import Problem
from nexus.model import CHAT, COMPLETION, EMBEDDING, EMPTY, JSON_SCHEMA, TOOLS, VISION, Payload

if TYPE_CHECKING:
    from nexus.dialects.canonical import Answer, Conversation, Losses, ReplyContext, StreamDecoder, StreamEncoder, Target

# A prompt of n bytes has between n/8 and n/2 tokens: long English words and runs of blanks reach 8 bytes a token, Chinese
# text has about 2; JSON's \uXXXX escapes lie between.
BYTES_PER_TOKEN_AT_MOST = 8
BYTES_PER_TOKEN_AT_LEAST = 2

NO_NEEDS: frozenset[str] = frozenset()
COMMON_FIELDS = frozenset(
    {"model", "stream", "messages", "input", "prompt", "tools", "max_tokens", "temperature", "stream_options"}
)

ERROR_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    408: "timeout_error",
    413: "invalid_request_error",
    426: "invalid_request_error",
    429: "rate_limit_error",
    503: "service_unavailable",
    504: "timeout_error",
}

# What servers say when a model cannot: llama.cpp ("image input is not supported - hint: … mmproj", "tools param requires --jinja
# flag", "This server does not support embeddings"), vLLM ("… is not a multimodal model", "\"auto\" tool choice requires
# --enable-auto-tool-choice"), Ollama ("… does not support tools"), OpenAI ("Invalid parameter: 'response_format' of type
# 'json_schema' is not supported with this model").
_CANNOT = r"not support|n't support|unsupported|is not an? |requires --|mmproj"
_LACKS = (
    ("no_vision", re.compile(rf"(image|vision|multimodal).*({_CANNOT})|({_CANNOT}).*(image|vision|multimodal)", re.I | re.S)),
    ("no_tools", re.compile(rf"\btool.*({_CANNOT})|({_CANNOT}).*\btool", re.I | re.S)),
    ("no_embedding", re.compile(rf"embedding.*({_CANNOT})|({_CANNOT}).*embedding", re.I | re.S)),
    (
        "no_json_schema",
        re.compile(rf"(json_schema|response_format).*({_CANNOT})|({_CANNOT}).*(json_schema|response_format)", re.I | re.S),
    ),
)

_body = msgspec.json.Decoder(dict[str, msgspec.Raw])
_text = msgspec.json.Decoder(str)
_flag = msgspec.json.Decoder(bool | None)
_number = msgspec.json.Decoder(int | float | None)
_encode = msgspec.json.Encoder().encode
_PROMPT = {CHAT: "messages", COMPLETION: "prompt", EMBEDDING: "input"}


class OpenAI(Dialect):
    """`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings` and the model list, as OpenAI's API reference has them."""

    name = "openai"
    endpoints = (
        Endpoint(path="/v1/chat/completions", task=CHAT),
        Endpoint(path="/v1/completions", task=COMPLETION),
        Endpoint(path="/v1/embeddings", task=EMBEDDING),
    )
    keepalive = b": keep-alive\n\n"  # Continue takes a line that starts with ": ping" for the end of the stream
    forward = ("openai-",)
    backward = ("openai-",)
    translates = True

    def decode(self, endpoint: Endpoint, payload: Payload) -> Facts:
        fields = _fields(payload.body)
        prompt = fields.get(_PROMPT[endpoint.task])
        if prompt is None:
            raise _bad(f"you must provide the field {_PROMPT[endpoint.task]!r}", _PROMPT[endpoint.task])
        raw = bytes(prompt)
        if endpoint.task == CHAT and raw[:1] != b"[":
            raise _bad("'messages' must be an array of messages", "messages")
        needs, size = _needs(fields, raw) if endpoint.task == CHAT else ((), _prompt_bytes(raw))
        return Facts(
            model=_model(fields),
            stream="stream" in fields and bool(_typed(fields, "stream", _flag, "true or false")),
            needs=frozenset(needs) if needs else NO_NEEDS,
            tokens_low=size // BYTES_PER_TOKEN_AT_MOST,
            tokens_high=size // BYTES_PER_TOKEN_AT_LEAST + 1,
            max_output_tokens=_integer(fields, "max_completion_tokens") or _integer(fields, "max_tokens"),
            n=_integer(fields, "n") or 1,
            wants_usage="stream_options" in fields and _wants_usage(fields),
        )

    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        if splice.model is not None:
            body = replace_top_level(body, "model", _encode(splice.model))
        if splice.ask_usage:
            body = set_member(body, "stream_options", "include_usage", b"true")
        return body

    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        estimate = facts.tokens_high * BYTES_PER_TOKEN_AT_LEAST // 4
        return StreamReader(estimate, hide_usage=hide_usage) if facts.stream else WholeReader(estimate)

    def error(self, problem: Problem, request_id: str) -> bytes:
        return _encode({"error": _error(problem)})

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        return b"data: " + self.error(problem, request_id) + b"\n\n"

    def read_error(self, body: bytes) -> str:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return body[:200].decode("utf-8", "replace").strip()
        return _sentence(value)[:500]

    def lacks(self, said: str) -> str:
        return next((code for code, words in _LACKS if words.search(said)), "")

    def models(self, entries: Iterable[ModelEntry]) -> bytes:
        return _encode({"object": "list", "data": [_entry(e) for e in entries]})

    def model(self, entry: ModelEntry) -> bytes:
        return _encode(_entry(entry))

    # Translation is loaded by the first request that needs it: many gateways never do.

    def read_request(self, endpoint: Endpoint, payload: Payload) -> tuple[Conversation, Losses]:
        from nexus.dialects import openai_read

        return openai_read.read_request(payload)

    def write_request(self, endpoint: Endpoint, conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
        from nexus.dialects import openai_write

        return openai_write.write_request(conversation, target)

    def read_answer(self, body: bytes) -> Answer:
        from nexus.dialects import openai_answer

        return openai_answer.read_answer(body)

    def write_answer(self, answer: Answer, context: ReplyContext) -> bytes:
        from nexus.dialects import openai_answer

        return openai_answer.write_answer(answer, context)

    def stream_decoder(self) -> StreamDecoder:
        from nexus.dialects import openai_stream

        return openai_stream.Decoder()

    def stream_encoder(self, context: ReplyContext) -> StreamEncoder:
        from nexus.dialects import openai_stream

        return openai_stream.Encoder(context)


def _fields(body: bytes) -> dict[str, msgspec.Raw]:
    try:
        if not body.isascii():
            body.decode()  # what is skipped over below would reach the backend unseen
        fields = _body.decode(body)
    except UnicodeDecodeError as error:
        raise _bad(f"the body is not valid UTF-8: {error.reason} at byte {error.start}", None) from None
    except msgspec.ValidationError:
        raise _bad("the body must be a JSON object", None) from None
    except msgspec.DecodeError as error:
        raise _bad(f"the body is not valid JSON: {error}", None) from None
    except RecursionError:
        raise _bad("the body is nested too deeply", None) from None
    spelt = b"\\u006" in body or b"\\u007" in body  # a letter that is written as an escape: nobody does so without a purpose
    for key in ("model", "stream"):
        if (spelt or body.count(b'"%s"' % key.encode()) > 1) and times_at_top(body, key) > 1:
            raise _bad(f"the field {key!r} is there twice: servers differ in which one counts", key)
    for key in fields.keys() - COMMON_FIELDS:
        if key.casefold() in ("model", "stream"):
            # servers written in Go read keys without regard to case: two spellings would mean two different requests
            raise _bad(f"the field {key!r} must be written {key.casefold()!r}", key)
    return fields


def _model(fields: Mapping[str, msgspec.Raw]) -> str:
    if "model" not in fields:
        raise _bad("you must provide the field 'model': the name of a model, see GET /v1/models", "model")
    model = _typed(fields, "model", _text, "a string")
    if not model or len(model) > 512:
        raise _bad("'model' must be a name of 1 to 512 characters, see GET /v1/models", "model")
    return str(model)


def _typed(fields: Mapping[str, msgspec.Raw], name: str, decoder: msgspec.json.Decoder[Any], expected: str) -> Any:
    raw = fields.get(name)
    if raw is None:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise _bad(f"{name!r} must be {expected}", name) from None


def _integer(fields: Mapping[str, msgspec.Raw], name: str) -> int | None:
    value = _typed(fields, name, _number, "a number") if name in fields else None
    if value is None:
        return None
    if value < 0 or value != value or value > 2**53:
        raise _bad(f"{name!r} must be a whole number that is not negative", name)
    return int(value)


def _wants_usage(fields: Mapping[str, msgspec.Raw]) -> bool:
    raw = fields.get("stream_options")
    if raw is None or bytes(raw) == b"null":
        return False
    try:
        options = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise _bad("'stream_options' must be an object", "stream_options")
    return options.get("include_usage") is True


def _needs(fields: Mapping[str, msgspec.Raw], messages: bytes) -> tuple[list[str], int]:
    """The needs of a chat and the bytes of its text.  Only a body that seems to carry media is decoded as a whole."""
    needs = []
    size = len(messages)
    tools = fields.get("tools") or fields.get("functions")
    if tools is not None and len(tools_raw := bytes(tools)) > 4:  # more than [] or null
        needs.append(TOOLS)
        size += len(tools_raw)
    response_format = fields.get("response_format")
    if response_format is not None and b'"json_schema"' in bytes(response_format):
        needs.append(JSON_SCHEMA)
    # an unescaped quote on both sides: this is a JSON string of its own, not words inside a prompt
    if b'"image_url"' in messages or b'"input_audio"' in messages:
        media, size_of_media = _media(messages)
        needs.extend(media)
        size -= size_of_media
    return needs, max(size, 0)


def _media(messages: bytes) -> tuple[set[str], int]:
    try:
        parsed = msgspec.json.decode(messages)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _bad("'messages' is not valid JSON", "messages") from None
    found, size = set(), 0
    for message in parsed:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("image_url", "input_audio"):
                found.add(VISION if kind == "image_url" else "audio")
                size += len(_encode(part))
    return found, size


def _prompt_bytes(raw: bytes) -> int:
    """Bytes of a prompt's text; a list of token ids counts four bytes a token."""
    if raw[:1] == b"[" and raw[1:].lstrip()[:1] in b"[0123456789":
        return (raw.count(b",") + 1) * 4
    return len(raw)


def _bad(message: str, param: str | None) -> Problem:
    return Problem(400, "invalid_request", message, param=param)


def _error(problem: Problem) -> dict[str, Any]:
    error: dict[str, Any] = {
        "message": problem.message,
        "type": problem.type
        or ERROR_TYPES.get(problem.status, "invalid_request_error" if problem.status < 500 else "server_error"),
        "param": problem.param,
        "code": problem.code,
    }
    if problem.context is not EMPTY:
        error["context"] = problem.context
    return error


def _sentence(value: Any) -> str:
    """The message in the error shapes that OpenAI-compatible servers are known to use."""
    if isinstance(value, dict):
        for key in ("error", "message", "detail"):
            if value.get(key):
                return _sentence(value[key])
    return value if isinstance(value, str) else json.dumps(value)


def _entry(entry: ModelEntry) -> dict[str, Any]:
    return {
        "id": entry.name,
        "object": "model",
        "created": entry.created,
        "owned_by": "nexus",
        "context_length": entry.context,
        "capabilities": list(entry.capabilities),
        "backends": list(entry.backends),
    }
