"""The Anthropic dialect: `/v1/messages`, counting tokens, and the model list.  Each of its sides has a file of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from nexus.api import Accepts, Dialect, Endpoint, Facts, ModelEntry, Payload, Problem, Reader, Splice
from nexus.dialects.complaints import sentence_of
from nexus.dialects.jsontext import dumps
from nexus.dialects.members import respelled
from nexus.model import CHAT, COUNT
from nexus_anthropic import errors, models
from nexus_anthropic.facts import estimate, facts_of
from nexus_anthropic.reader import CountReader, StreamReader, WholeReader

if TYPE_CHECKING:
    from nexus.dialects.canonical import Answer, Conversation, Losses, ReplyContext, StreamDecoder, StreamEncoder, Target

VERSION = ("anthropic-version", "2023-06-01")  # sent where the client sent none


class Anthropic(Dialect):
    """Anthropic's Messages API, as its reference has it and as its clients use it.

    Any `anthropic-version`, `anthropic-beta`, query and unknown field is taken.  A ping may come only after `message_start`,
    and a keep-alive may be needed before it, so the keep-alive is a comment.
    """

    name = "anthropic"
    endpoints = (Endpoint(path="/v1/messages", task=CHAT), Endpoint(path="/v1/messages/count_tokens", task=COUNT, takes_slot=False))
    keepalive = b": keep-alive\n\n"  # Continue takes a line that starts with ": ping" for the end of the stream
    forward = ("anthropic-",)
    backward = ("anthropic-", "request-id")
    query = ("beta",)
    translates = True
    own_headers = (VERSION,)

    def decode(self, endpoint: Endpoint, payload: Payload) -> Facts:
        return facts_of(payload.body, chat=endpoint.task == CHAT)

    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        """Usage needs no asking for: every answer has it."""
        return respelled(body, {} if splice.model is None else {"model": dumps(splice.model)})

    def mended(self, endpoint: Endpoint, body: bytes, accepts: Accepts) -> tuple[bytes, Losses]:
        from nexus_anthropic.mending import mended  # few servers need it

        return mended(body, accepts)

    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        if endpoint.task == COUNT:
            return CountReader(0)
        return StreamReader(estimate(facts)) if facts.stream else WholeReader(estimate(facts))

    def local_answer(self, endpoint: Endpoint, facts: Facts) -> bytes | None:
        """A count of the prompt's tokens, estimated from its bytes."""
        return dumps({"input_tokens": estimate(facts)}) if endpoint.task == COUNT else None

    # ---------------------------------------------------------------- translation

    # Translation is loaded by the first request that needs it: many gateways never do.

    def read_request(self, endpoint: Endpoint, payload: Payload) -> tuple[Conversation, Losses]:
        from nexus_anthropic.requests_in import read_request

        return read_request(payload)

    def write_request(self, endpoint: Endpoint, conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
        from nexus_anthropic.requests_out import write_request

        return write_request(conversation, target)

    def read_answer(self, body: bytes) -> tuple[Answer, Losses]:
        from nexus_anthropic.answers import read_answer

        return read_answer(body)

    def write_answer(self, answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
        from nexus_anthropic.answers import write_answer

        return write_answer(answer, context)

    def stream_decoder(self) -> StreamDecoder:
        from nexus_anthropic.stream_in import Decoder

        return Decoder()

    def stream_encoder(self, context: ReplyContext) -> StreamEncoder:
        from nexus_anthropic.stream_out import Encoder

        return Encoder(context)

    # ---------------------------------------------------------------- errors

    def error(self, problem: Problem, request_id: str) -> bytes:
        return errors.error_body(problem, request_id)

    def error_event(self, problem: Problem, request_id: str) -> bytes:
        return b"event: error\ndata: " + self.error(problem, request_id) + b"\n\n"

    def read_error(self, body: bytes) -> str:
        return sentence_of(body)

    def is_error(self, body: bytes) -> bool:
        return errors.is_error(body)

    # ---------------------------------------------------------------- models

    def models(self, entries: Iterable[ModelEntry], query: Mapping[str, str]) -> bytes:
        return dumps(models.page([models.entry(each) for each in entries], query))

    def model(self, entry: ModelEntry) -> bytes:
        return dumps(models.entry(entry))

    def claims(self, headers: Mapping[str, str]) -> bool:
        return VERSION[0] in headers
