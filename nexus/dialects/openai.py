"""The OpenAI dialect: what its bodies, streams and errors mean.  Reading one reply is in `openai_reader`; no I/O lives here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from nexus.api import Dialect, Endpoint, Facts, ModelEntry, Reader, Splice
from nexus.dialects.checks import bad
from nexus.dialects.complaints import sentence_of
from nexus.dialects.fields import (
    NOTHING,
    Fields,
    elements,
    fields_of,
    flag_in,
    is_array,
    likely_tokens,
    model_in,
    prompt_bytes,
    token_bounds,
    told,
    tools_and_schemas,
    weigh_request,
    whole_in,
    words_of,
)
from nexus.dialects.members import body_of, members_of
from nexus.dialects.openai_reader import StreamReader, WholeReader
from nexus.errors import Problem
from nexus.model import CHAT, COMPLETION, EMBEDDING, EMPTY, IMAGE_URL, VISION, Accepts, Payload

if TYPE_CHECKING:
    from nexus.dialects.canonical import Answer, Conversation, Losses, ReplyContext, StreamDecoder, StreamEncoder, Target

NO_NEEDS: frozenset[str] = frozenset()
COMMON_FIELDS = frozenset(
    {
        "model", "stream", "messages", "input", "prompt", "tools", "functions", "max_tokens", "max_completion_tokens", "temperature",
        "stream_options", "response_format", "n", "tool_choice", "parallel_tool_calls", "top_p", "stop", "seed", "user",
        "reasoning_effort", "metadata", "encoding_format", "dimensions", "suffix", "store", "service_tier", "logprobs", "top_logprobs",
        "logit_bias", "modalities", "audio", "prediction", "prompt_cache_key", "safety_identifier", "verbosity", "web_search_options",
        "frequency_penalty", "presence_penalty", "function_call", "best_of", "echo", "top_k", "min_p", "repeat_penalty",
        "chat_template_kwargs", "options", "keep_alive", "cache_prompt", "extra_body", "reasoning",
    }
)  # fmt: skip
AUDIO = "audio"
_READ = ("messages", "tools", "functions", "response_format")  # by the model, before it answers
_DEMANDING = frozenset(_READ[1:])

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
        body = words_of(payload.body)
        fields = fields_of(body, COMMON_FIELDS)
        prompt = fields.get(_PROMPT[endpoint.task])
        if prompt is None:
            raise bad(f"you must provide the field {_PROMPT[endpoint.task]!r}", _PROMPT[endpoint.task])
        chat = endpoint.task == CHAT
        if chat and not is_array(prompt):
            raise bad("'messages' must be an array of messages", "messages")
        if chat:
            longest = total = fields.sizes(_READ)
        else:
            longest, total = prompt_bytes(prompt)
        if endpoint.task == COMPLETION and (suffix := fields.get("suffix")) is not None:  # the model reads it with each prompt
            size = memoryview(suffix).nbytes
            longest, total = longest + size, total + size
        low, high = token_bounds(longest)
        needs = frozenset(_needs(fields, prompt, body)) if chat and _may_need(fields, body) else NO_NEEDS
        return Facts(
            model=model_in(fields),
            stream=flag_in(fields, "stream"),
            needs=needs,
            tokens_low=low,
            tokens_high=high,
            tokens_total=token_bounds(total)[1] if total != longest else None,
            max_output_tokens=_bound_in(fields, "max_completion_tokens") or _bound_in(fields, "max_tokens"),
            n=whole_in(fields, "n") or 1,
            wants_usage="stream_options" in fields and _wants_usage(fields),
            unambiguous=fields.unambiguous,
        )

    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        members = members_of(body)
        if splice.model is not None:
            members["model"] = msgspec.Raw(_encode(splice.model))
        if splice.ask_usage:
            options = members.get("stream_options", NOTHING)
            asked = members_of(bytes(options)) if memoryview(options)[0] == ord("{") else {}
            members["stream_options"] = msgspec.Raw(body_of({**asked, "include_usage": b"true"}))
        return body_of(members)

    def mended(self, endpoint: Endpoint, body: bytes, accepts: Accepts) -> tuple[bytes, Losses]:
        if endpoint.task != CHAT:
            return body, ()
        from nexus.dialects import openai_mending  # few servers need it

        return openai_mending.mended(body, accepts)

    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        estimate = likely_tokens(facts)
        if not facts.stream:
            return WholeReader(estimate, endpoint.task)
        return StreamReader(estimate, hide_usage=hide_usage, choices=facts.n if endpoint.task == CHAT else 0)

    def error(self, problem: Problem, request_id: str) -> bytes:
        return _encode({"error": _error(problem)})

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        return b"data: " + self.error(problem, request_id) + b"\n\n"

    def read_error(self, body: bytes) -> str:
        return sentence_of(body)

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


def _bound_in(fields: Fields, name: str) -> int | None:
    """The most tokens of an answer; -1 is how clients of llama.cpp and LM Studio write that they want no bound."""
    return None if name not in fields or bytes(fields[name]) == b"-1" else whole_in(fields, name)


def _wants_usage(fields: Fields) -> bool:
    raw = fields.get("stream_options")
    if raw is None or bytes(raw) == b"null":
        return False
    try:
        options = _options.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise bad("'stream_options' must be an object", "stream_options") from None
    return bytes(options.include_usage) == b"true"


class _StreamOptions(msgspec.Struct):
    include_usage: msgspec.Raw = NOTHING


_options = msgspec.json.Decoder(_StreamOptions)


def _may_need(fields: Fields, body: bytes) -> bool:
    return _carries_media(body) or not _DEMANDING.isdisjoint(fields)


def _needs(fields: Fields, messages: msgspec.Raw, body: bytes) -> Iterator[str]:
    """What a chat needs.  Only messages that seem to carry media are looked into."""
    yield from tools_and_schemas(fields, ("tools", "functions"), ("response_format",))
    if _carries_media(body):
        yield from _media(messages, body)


def _carries_media(body: bytes) -> bool:
    """Whether it may: an unescaped quote on both sides is a JSON string of its own, no words inside a prompt."""
    return b'"image_url"' in body or b'"input_audio"' in body


class _Message(msgspec.Struct):
    content: msgspec.Raw = NOTHING


class _Part(msgspec.Struct):
    type: str
    image_url: msgspec.Raw = NOTHING


class _Image(msgspec.Struct):
    url: msgspec.Raw = NOTHING


_message, _part, _image = msgspec.json.Decoder(_Message), msgspec.json.Decoder(_Part), msgspec.json.Decoder(_Image | str)


def _media(messages: msgspec.Raw, body: bytes) -> Iterator[str]:
    weigh_request(body)
    for each in elements(messages):
        message = told(each, _message)
        for raw in elements(message.content) if message else ():
            part = told(raw, _part)
            if part is None:
                continue
            if part.type == "input_audio":
                yield AUDIO
            elif part.type == "image_url":
                yield VISION
                if _is_elsewhere(part.image_url):
                    yield IMAGE_URL


def _is_elsewhere(image: msgspec.Raw) -> bool:
    """Whether a picture must be fetched: its address is no data."""
    try:
        value = _image.decode(image)
        url = msgspec.json.decode(value.url, type=str) if isinstance(value, _Image) else value
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return url[:5].lower() != "data:"


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
        "lacks": list(entry.lacks),
        "location": "cloud" if entry.cloud else "local",
        "backends": list(entry.backends),
    }
