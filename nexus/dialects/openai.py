"""The OpenAI dialect: what its bodies, streams and errors mean.  Reading one reply is in `openai_reader`; no I/O lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nexus.api import Dialect, Endpoint, Facts, ModelEntry, Reader, Splice
from nexus.dialects.checks import bad
from nexus.dialects.complaints import Admissions, sentence_of
from nexus.dialects.fields import Fields, fields_of, flag_in, likely_tokens, model_in, token_bounds, whole_in
from nexus.dialects.jsonbytes import replace_top_level, set_member
from nexus.dialects.openai_reader import StreamReader, WholeReader
from nexus.dialects.openai_usual import usual_facts
from nexus.errors import Problem
from nexus.model import CHAT, COMPLETION, EMBEDDING, EMPTY, IMAGE_URL, JSON_SCHEMA, TOOLS, VISION, Payload
from nexus.model.quick import maker

if TYPE_CHECKING:
    from nexus.dialects.canonical import Answer, Conversation, Losses, ReplyContext, StreamDecoder, StreamEncoder, Target

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
# flag", "This server does not support embeddings"), LM Studio ("'url' field must be a base64 encoded image"), vLLM ("… is not a multimodal model", "\"auto\" tool choice requires
# --enable-auto-tool-choice"), Ollama ("… does not support tools"), OpenAI ("Invalid parameter: 'response_format' of type
# 'json_schema' is not supported with this model").
_LACKS = Admissions(
    {
        "no_image_url": r"\burls?\b|base64",
        "no_vision": "image|vision|multimodal",
        "no_tools": r"\btool",
        "no_embedding": "embedding",
        "no_json_schema": "json_schema|response_format",
    }
)

_facts = maker(Facts)
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
        if endpoint.task == CHAT and (usual := usual_facts(payload.body)) is not None:
            return usual
        fields = fields_of(payload.body, COMMON_FIELDS)
        prompt = fields.get(_PROMPT[endpoint.task])
        if prompt is None:
            raise bad(f"you must provide the field {_PROMPT[endpoint.task]!r}", _PROMPT[endpoint.task])
        raw = bytes(prompt)
        if endpoint.task == CHAT and raw[:1] != b"[":
            raise bad("'messages' must be an array of messages", "messages")
        needs, size = _needs(fields, raw) if endpoint.task == CHAT else ((), _prompt_bytes(raw))
        low, high = token_bounds(size)
        return _facts(
            model=model_in(fields),
            stream=flag_in(fields, "stream"),
            needs=frozenset(needs) if needs else NO_NEEDS,
            tokens_low=low,
            tokens_high=high,
            max_output_tokens=whole_in(fields, "max_completion_tokens") or whole_in(fields, "max_tokens"),
            n=whole_in(fields, "n") or 1,
            wants_usage="stream_options" in fields and _wants_usage(fields),
        )

    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        if splice.model is not None:
            body = replace_top_level(body, "model", _encode(splice.model))
        if splice.ask_usage:
            body = set_member(body, "stream_options", "include_usage", b"true")
        return body

    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        estimate = likely_tokens(facts)
        return StreamReader(estimate, hide_usage=hide_usage) if facts.stream else WholeReader(estimate)

    def error(self, problem: Problem, request_id: str) -> bytes:
        return _encode({"error": _error(problem)})

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        return b"data: " + self.error(problem, request_id) + b"\n\n"

    def read_error(self, body: bytes) -> str:
        return sentence_of(body)

    def lacks(self, said: str) -> str:
        return _LACKS.in_(said)

    def models(self, entries: Iterable[ModelEntry], query: Mapping[str, str]) -> bytes:
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

    def read_answer(self, body: bytes) -> tuple[Answer, Losses]:
        from nexus.dialects import openai_answer

        return openai_answer.read_answer(body)

    def write_answer(self, answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
        from nexus.dialects import openai_answer

        return openai_answer.write_answer(answer, context)

    def stream_decoder(self) -> StreamDecoder:
        from nexus.dialects import openai_stream

        return openai_stream.Decoder()

    def stream_encoder(self, context: ReplyContext) -> StreamEncoder:
        from nexus.dialects import openai_stream

        return openai_stream.Encoder(context)


def _wants_usage(fields: Fields) -> bool:
    raw = fields.get("stream_options")
    if raw is None or bytes(raw) == b"null":
        return False
    try:
        options = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        options = None
    if not isinstance(options, dict):
        raise bad("'stream_options' must be an object", "stream_options")
    return options.get("include_usage") is True


def _needs(fields: Fields, messages: bytes) -> tuple[list[str], int]:
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
        raise bad("'messages' is not valid JSON", "messages") from None
    found, size = set(), 0
    for message in parsed:
        content = message.get("content") if isinstance(message, dict) else None
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind in ("image_url", "input_audio"):
                found.add(VISION if kind == "image_url" else "audio")
                if kind == "image_url" and _is_elsewhere(part.get(kind)):
                    found.add(IMAGE_URL)
                size += len(_encode(part))
    return found, size


def _is_elsewhere(image: Any) -> bool:
    """Whether a picture must be fetched: its address is no data."""
    url = image.get("url") if isinstance(image, dict) else image
    return isinstance(url, str) and url[:5].lower() != "data:"


def _prompt_bytes(raw: bytes) -> int:
    """Bytes of a prompt's text; a list of token ids counts four bytes a token."""
    if raw[:1] == b"[" and raw[1:].lstrip()[:1] in b"[0123456789":
        return (raw.count(b",") + 1) * 4
    return len(raw)


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
