"""Between two dialects: one attempt's request in the server's words, and its reply in the client's.

Everything goes through the canonical form; this file knows no dialect.  Which server is asked, and whether translation is
needed at all, is decided where the request is routed.
"""

from __future__ import annotations

import attrs

from nexus.api import Dialect, Endpoint, Facts, Reader
from nexus.dialects.base64s import Luggage
from nexus.dialects.calls import Calls, ids_in
from nexus.dialects.canonical import (
    Begin,
    Failure,
    Finish,
    Losses,
    ReplyContext,
    StreamEvent,
    Target,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
    in_words,
    made_id,
)
from nexus.dialects.fields import likely_tokens
from nexus.dialects.fitting import fitted
from nexus.dialects.rejections import LOSS_HEADER, OF_THE_BODY, Headers, is_packed, rejected
from nexus.dialects.userids import Pseudonyms
from nexus.dialects.weight import MOST_VALUES, is_light
from nexus.errors import BackendError, Problem, Refused
from nexus.model import ANYTHING, IMAGE_URL, NO_USAGE, THINKING, Accepts, Candidate, Payload, Refusal, RefusalKind, Usage, completed

MAX_ANSWER_BYTES = 64 * 1024 * 1024
LOSS_CODE = "translation_loss"
MOST_WORDS = 8 * 1024 * 1024  # bytes of a request beside the base64 in it
LEAST_SHARE = 8  # of the context, for the answer


def target_of(candidate: Candidate, facts: Facts, accepts: Accepts = ANYTHING) -> Target:
    """Who the request is written for.  Room is what the context served now leaves beside what the prompt likely is, and never
    less than an eighth of it: that a prompt is too long is the server's to say, and an answer of a few words helps nobody."""
    context = candidate.context
    return Target(
        model=candidate.model,
        max_output_tokens=candidate.max_output_tokens,
        room=max(context - likely_tokens(facts), context // LEAST_SHARE) if context else None,
        home=not candidate.cloud,
        thinks=candidate.offers.get(THINKING),
        image_urls=candidate.offers.get(IMAGE_URL),
        takes_usage=candidate.takes_usage,
        accepts=accepts,
    )


class Translation:
    """One attempt.  Raises Problem (400) where the client's request is malformed, and Refused (`translation_loss`, never) where
    the server's dialect cannot say what was meant.

    `dialect` is the server's, `endpoint` is where it takes `body`, `headers` are what it wants beside.  `losses` changed no
    meaning.
    """

    __slots__ = ("_called", "_client", "_facts", "_id", "_names", "_reader", "body", "dialect", "endpoint", "headers", "losses")

    def __init__(
        self,
        client: Dialect,
        server: Dialect,
        endpoint: Endpoint,
        payload: Payload,
        facts: Facts,
        target: Target,
        pseudonyms: Pseudonyms = Pseudonyms(),  # noqa: B008 - it is frozen
    ) -> None:
        there = server.endpoint_for(endpoint.task)
        assert there is not None, "can_translate() says so before"
        luggage = Luggage(payload.body)
        if too_much := _too_much_in(luggage.body):
            raise _refused(too_much, client, server)
        conversation, unread = client.read_request(endpoint, Payload(luggage.body))
        fit = fitted(conversation, target, pseudonyms)
        body, unwritten = server.write_request(there, fit.conversation, target)
        losses = unread + fit.losses + unwritten
        _refuse_what_was_meant(losses, client, server)
        self._client = client
        self._facts = facts
        self._called = ids_in(conversation)
        self._id = made_id()
        self.dialect = server
        self.body = luggage.unpacked(body)
        self.endpoint = there
        self.headers = server.own_headers
        self.losses = losses
        self._names = fit.names
        self._reader: TranslatedStream | TranslatedWhole | None = None

    @property
    def told(self) -> str:
        """The value of `X-Nexus-Translation-Loss`; "" where nothing was lost.  Of a whole reply it holds what was lost, too; a
        stream's head has gone before anybody knows."""
        of_the_reply = self._reader.losses if self._reader else ()
        return in_words(self.losses + of_the_reply)

    def again(self, said: str) -> bool:
        """A conversation is written as the server takes it from the beginning."""
        return False

    def reader(self, request_id: str, model: str, created: int) -> Reader:
        """A reader that takes the server's bytes and gives the client's.  `model` is the public name of the one that answers,
        `created` is in seconds since the epoch."""
        context = ReplyContext(
            request_id=request_id,
            model=model,
            created=created,
            wants_usage=self._facts.wants_usage,
            input_estimate=likely_tokens(self._facts),
            id=self._id,
        )
        kind = TranslatedStream if self._facts.stream else TranslatedWhole
        self._reader = kind(self._client, self.dialect, context, Calls(self._called, self._names))
        return self._reader

    def rejection(self, status: int, headers: Headers, body: bytes, request_id: str) -> tuple[bytes, Headers]:
        """A server's rejection in the client's form.  A packed one keeps its words to itself."""
        said = "" if is_packed(headers) else self.dialect.read_error(body)
        return self._client.error(rejected(status, said), request_id), self.back(headers, stream=False)

    def back(self, headers: Headers, *, stream: bool) -> Headers:
        """What the client sees of the headers that may pass: the body is another one, and something may have been lost."""
        kept = tuple((name, value) for name, value in headers if name not in OF_THE_BODY)
        kind = ("content-type", f"{self._client.stream_type}; charset=utf-8" if stream else "application/json")
        told = self.told
        return (*kept, kind, (LOSS_HEADER, told)) if told else (*kept, kind)


class TranslatedStream(Reader):
    """One stream.  A failure in its middle becomes the client's error event, and no normal end.  Its losses are not told."""

    losses: Losses = ()

    __slots__ = (
        "_calls",
        "_client",
        "_context",
        "_decoder",
        "_deltas",
        "_encoder",
        "_failed",
        "_usage",
        "begun",
        "ending",
        "error",
        "over",
    )

    def __init__(self, client: Dialect, server: Dialect, context: ReplyContext, calls: Calls) -> None:
        self.begun = False
        self.ending = False
        self.error: str | None = None
        self.over = False
        self._calls = calls
        self._client = client
        self._context = context
        self._decoder = server.stream_decoder()
        self._encoder = client.stream_encoder(context)
        self._usage = NO_USAGE
        self._deltas = 0
        self._failed: Failure | None = None

    def feed(self, data: bytes) -> bytes:
        if self.over:
            return b""
        ready = self._encoded(self._decoder.feed(data))
        if self._failed is not None:
            self.over = True
            return ready + self._told(self._failed)
        self.ending, self.over = self._decoder.ending, self._decoder.over
        return ready

    def finish(self) -> bytes:
        if self._failed is None:
            ready = self._encoded(self._decoder.finish()) + self._encoded(self._calls.rest())
            if self._failed is None:
                return ready + self._end()
            raise BackendError("cut", self._failed.message)  # not yet told: whoever catches this tells it
        raise BackendError("error_event", self._failed.message)

    def usage(self) -> Usage:
        if self._usage.source == "reported" or not self.begun:
            return self._usage
        counted = Usage(input_tokens=self._context.input_estimate, output_tokens=self._deltas, source="counted")
        return completed(self._usage, counted)

    def _encoded(self, events: list[StreamEvent]) -> bytes:
        pieces = []
        for event in events:
            if isinstance(event, Failure):
                self._fail(event)
                break
            if isinstance(event, UsageSeen):
                event = UsageSeen(usage=completed(event.usage, self._usage)) if self._usage is not NO_USAGE else event
                self._usage = event.usage
            elif isinstance(event, Finish):
                pieces.append(self._encoded(self._calls.rest()))
                if self._failed is not None:
                    break
            elif not isinstance(event, Begin):
                self._deltas += 1
                if isinstance(event, ToolCallStart):
                    event = self._calls.began(event)
                elif isinstance(event, ToolCallDelta):
                    piece = self._calls.goes_on(event)
                    if piece is None:
                        continue
                    event = piece
            try:
                pieces.append(self._encoder.encode(event))
            except BackendError as error:  # the client's dialect has no form for it; what came before is still told
                self._fail(Failure(message=error.hint, code=error.code))
                break
            self.begun = True
        return b"".join(pieces)

    def _told(self, failure: Failure) -> bytes:
        problem = Problem(failure.kind.status, "backend_broke_off", failure.message)
        return self._client.error_event(problem, self._context.request_id)

    def _fail(self, failure: Failure) -> None:
        self._failed = failure
        if not self.begun:
            self.begun = True
            self.error = failure.message

    def _end(self) -> bytes:
        counted = b"" if self._usage.source == "reported" else self._encoder.encode(UsageSeen(usage=self.usage()))
        return counted + self._encoder.finish()


class TranslatedWhole(Reader):
    """One whole body: nothing goes out before all of it is there."""

    __slots__ = ("_calls", "_client", "_context", "_pieces", "_server", "_size", "_usage", "begun", "error", "losses")

    def __init__(self, client: Dialect, server: Dialect, context: ReplyContext, calls: Calls) -> None:
        self.begun = False
        self.error: str | None = None
        self._calls = calls
        self._client = client
        self._server = server
        self._context = context
        self._pieces: list[bytes] = []
        self._size = 0
        self._usage: Usage | None = None
        self.losses: Losses = ()

    def feed(self, data: bytes) -> bytes:
        self.begun = True
        self._size += len(data)
        if self._size > MAX_ANSWER_BYTES:
            raise BackendError("too_large", f"the answer is larger than {MAX_ANSWER_BYTES} bytes")
        self._pieces.append(data)
        return b""

    def finish(self) -> bytes:
        body, self._pieces = b"".join(self._pieces), []
        answer, unread = self._server.read_answer(body)
        if answer.usage.source != "reported":
            answer = attrs.evolve(answer, usage=completed(answer.usage, self._counted()))
        self._usage = answer.usage
        answer = attrs.evolve(answer, parts=self._calls.all_seen(answer.parts))
        written, unwritten = self._client.write_answer(answer, self._context)
        self.losses = unread + unwritten
        return written

    def usage(self) -> Usage:
        if self._usage is not None:
            return self._usage
        return self._counted() if self.begun else Usage()

    def _counted(self) -> Usage:
        return Usage(input_tokens=self._context.input_estimate, output_tokens=self._size // 8, source="counted")


def _too_much_in(words: bytes) -> str:
    """What would be lost of a request that would take too long, and too much memory, to put into other words; "" for any other."""
    if len(words) > MOST_WORDS:
        return f"text beyond {MOST_WORDS // 1024**2} MiB"
    return "" if is_light(words) else f"JSON values beyond {MOST_VALUES:,}"


def _refuse_what_was_meant(losses: Losses, client: Dialect, server: Dialect) -> None:
    lost = list(dict.fromkeys(loss.what for loss in losses if loss.meaning_changed))
    if lost:
        raise _refused(", ".join(lost), client, server)


def _refused(lost: str, client: Dialect, server: Dialect) -> Refused:
    return Refused(Refusal(kind=RefusalKind.NEVER, code=LOSS_CODE, data={"lost": lost, "from": client.name, "to": server.name}))
