"""The plain dialect: what routing needs of a request, errors, the model list.  Its two ways into other dialects have files of their own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nexus.api import Dialect, Endpoint, Facts, ModelEntry, Payload, Problem, Reader, Splice
from nexus.dialects.canonical import Answer, Conversation, Losses, ReplyContext, StreamDecoder, StreamEncoder, Target
from nexus.dialects.fields import likely_tokens, token_bounds
from nexus.dialects.members import respelled
from nexus_plain import replies, requests
from nexus_plain.readers import StreamReader, WholeReader
from nexus_plain.wire import dumps, object_in, text_in


class Plain(Dialect):
    """`POST /plain/chat`, answered by one JSON object or by a stream of lines."""

    name = "plain"
    endpoints = (Endpoint(path="/plain/chat", task="chat"),)
    stream_type = "application/x-ndjson"
    keepalive = b"\n"  # an empty line says nothing
    forward = ("plain-",)
    backward = ("plain-",)
    translates = True

    def decode(self, endpoint: Endpoint, payload: Payload) -> Facts:
        body = requests.checked(payload)
        prompt = (body["ask"], body.get("rules", ""), *body.get("before", ()))
        size = sum(len(text.encode(errors="replace")) for text in prompt)
        low, high = token_bounds(size)
        return Facts(
            model=body["model"],
            stream=body.get("stream") is True,
            tokens_low=low,
            tokens_high=high,
            max_output_tokens=body.get("limit"),
        )

    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        """Usage needs no asking for: every answer has it."""
        return respelled(body, {} if splice.model is None else {"model": dumps(splice.model)})

    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        estimate = likely_tokens(facts)
        return StreamReader(estimate) if facts.stream else WholeReader(estimate)

    # ---- errors and lists

    def error(self, problem: Problem, request_id: str) -> bytes:
        said: dict[str, Any] = {"wrong": problem.message, "code": problem.code, "request": request_id}
        return dumps(said | ({"context": problem.context} if problem.context else {}))

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        return self.error(problem, request_id) + b"\n"

    def read_error(self, body: bytes) -> str:
        return text_in(object_in(body) or {}, "wrong") or body[:200].decode("utf-8", "replace").strip()

    def models(self, entries: Iterable[ModelEntry], query: Mapping[str, str]) -> bytes:
        return dumps({"plain": 1, "models": [_entry(entry) for entry in entries]})

    def model(self, entry: ModelEntry) -> bytes:
        return dumps(_entry(entry))

    def claims(self, headers: Mapping[str, str]) -> bool:
        """`/v1/models` is everybody's: with this header it is answered as above."""
        return "plain-version" in headers

    # ---- translation

    def read_request(self, endpoint: Endpoint, payload: Payload) -> tuple[Conversation, Losses]:
        return requests.read(payload)

    def write_request(self, endpoint: Endpoint, conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
        return requests.write(conversation, target)

    def read_answer(self, body: bytes) -> tuple[Answer, Losses]:
        return replies.read(body)

    def write_answer(self, answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
        return replies.write(answer, context)

    def stream_decoder(self) -> StreamDecoder:
        return replies.Decoder()

    def stream_encoder(self, context: ReplyContext) -> StreamEncoder:
        return replies.Encoder()


def _entry(entry: ModelEntry) -> dict[str, Any]:
    return {"name": entry.name, "context": entry.context}
