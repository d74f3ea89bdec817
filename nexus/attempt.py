"""One pair is asked once.  What is tried next, and whether to wait, is decided in `dispatch`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import attrs

from nexus.api import Clock, Reader, Reply
from nexus.dialects.rejections import as_json, is_packed, rejected
from nexus.dialects.ways import Ways
from nexus.errors import BackendError, Problem, Refused, StageError
from nexus.fleet import DEFAULT_PAUSE_SECONDS, Claim, Fleet
from nexus.journey import Journey
from nexus.model import Attempt, Call, Choice, Objection, Refusal
from nexus.model.quick import maker, quick
from nexus.outcome import CANNOT, FAILED, Verdict, of_error, of_status, retry_after
from nexus.reading import first_event, some_body, whole_body
from nexus.redaction import redacted, redacted_text
from nexus.reply import OpenReply, passed_back
from nexus.routing import CORE, Pipeline

if TYPE_CHECKING:
    from nexus.dialects.ways import Way

FORWARDED = frozenset({"accept", "traceparent"})
_call = maker(Call)
_JSON = ("content-type", "application/json")
MAX_REJECTION_BYTES = 1024 * 1024  # no sentence is longer; what follows is not read
MAX_WHOLE_BYTES = 16 * 1024 * 1024  # up to here a whole body is held, so that a cut one can be asked for again elsewhere


@attrs.frozen(kw_only=True)
class Patience:
    """Seconds: until the first byte of a stream, until a whole answer, between two pieces."""

    first_byte: float = 300.0
    answer: float = 1800.0
    idle: float = 120.0


@quick
@attrs.frozen(kw_only=True, weakref_slot=False)
class Turn:
    """A choice whose slot is held."""

    choice: Choice
    claim: Claim


class Attempts:
    """Makes attempts: prepares and admits the call, sends it, judges what comes back."""

    def __init__(self, fleet: Fleet, pipeline: Pipeline, ways: Ways, clock: Clock, patience: Patience) -> None:
        self._fleet = fleet
        self._pipeline = pipeline
        self._ways = ways
        self._clock = clock
        self._patience = patience

    async def make(self, journey: Journey, turn: Turn) -> OpenReply | None:
        """One pair, asked once (twice where a pooled connection had died).  None: try elsewhere.

        Raises Problem where the request itself is at fault, StageError where a stage crashes.  The claim is finished unless a
        reply is returned.
        """
        claim = turn.claim
        try:
            request, candidate = journey.request, turn.choice.candidate
            way = self._ways.to(candidate, journey.dialect, journey.endpoint, journey.payload, journey.facts, request.model)
            call = self._prepared(self._call(journey, turn.choice, way))
            if self._pipeline.admit:
                await self._admitted(call)
            try:
                return await self._exchange(journey, turn, call, way)
            except BackendError as error:
                if not error.reused:
                    raise
            return await self._exchange(journey, turn, call, way)
        except BackendError as error:
            self._failed(journey, turn, of_error(error), error.code, error.hint, sent=error.sent)
            return None
        except Objected as objected:
            self._objected(journey, turn, objected.stage, objected.refusal)
            return None
        except Refused as refused:
            self._objected(journey, turn, CORE, refused.refusal)
            return None
        except Problem as problem:
            claim.finish("refused", code=problem.code)
            raise
        except asyncio.CancelledError:
            claim.finish("left", sent=True)
            raise
        except BaseException as error:  # a fault of ours or of a stage: the backend is not to blame
            claim.finish("refused", code=type(error).__name__)
            raise

    # ------------------------------------------------------------ the call

    def _call(self, journey: Journey, choice: Choice, way: Way) -> Call:
        facts, native = journey.facts, way.dialect is journey.dialect
        if journey.first_byte_by is None:
            seconds = self._patience.first_byte if facts.stream else self._patience.answer
            journey.first_byte_by = self._clock.now() + seconds
            journey.answer_by = None if facts.stream else journey.first_byte_by
        return _call(
            ask=choice.ask,
            candidate=choice.candidate,
            dialect=way.dialect.name,
            task=journey.endpoint.task,
            path=way.endpoint.path + journey.query if native else way.endpoint.path,
            headers=_forwarded(journey.request.headers, way.dialect.forward if native else ()) + way.headers,
            body=way.body,
            stream=facts.stream,
            first_byte_by=journey.first_byte_by,
            answer_by=journey.answer_by,
            idle_timeout=self._patience.idle,
        )

    def _prepared(self, call: Call) -> Call:
        name = ""
        try:
            for name, prepare in self._pipeline.prepare:  # noqa: B007 - the handler below names it
                changed: Call = prepare(call)
                if changed is not call:
                    call = attrs.evolve(call, body=changed.body, headers=changed.headers)
        except Exception as error:
            raise StageError(name, "prepare", error) from error
        return call

    async def _admitted(self, call: Call) -> None:
        for name, admit in self._pipeline.admit:
            try:
                await admit(call)
            except Refused as refused:
                raise Objected(name, refused.refusal) from None
            except Exception as error:
                raise StageError(name, "admit", error) from error

    # ------------------------------------------------------------ the reply

    async def _exchange(self, journey: Journey, turn: Turn, call: Call, way: Way) -> OpenReply | None:
        exchange = turn.claim.standing.member.backend.send(call)
        reply = await exchange.__aenter__()
        try:
            opened = await self._judged(journey, turn, reply, exchange, way)
        except BaseException:
            await exchange.__aexit__(*sys.exc_info())
            raise
        if opened is None:
            await exchange.__aexit__(None, None, None)
        return opened

    async def _judged(
        self, journey: Journey, turn: Turn, reply: Reply, exchange: AbstractAsyncContextManager[Reply], way: Way
    ) -> OpenReply | None:
        judged = of_status(reply.status)
        reader: Reader | None = None
        headers, code = passed_back(reply.headers, way.dialect.backward, turn.claim.standing.member.backend), ""
        if judged.next:
            await self._refused_there(journey, turn, reply, judged, way)
            return None
        if judged.outcome == "ok":
            reader = way.reader(journey.request.id, turn.choice.candidate.name, int(self._clock.time()))
            head, whole = await (
                first_event(reply, reader, way.dialect.stream_type, lambda: self._clock.now() >= (journey.first_byte_by or 0.0))
                if journey.facts.stream
                else whole_body(reply, reader, MAX_WHOLE_BYTES)
            )
            turn.claim.answered()
            headers = way.back(headers, stream=journey.facts.stream)
        else:
            head, whole = await whole_body(reply, None, MAX_REJECTION_BYTES)
            secrets = tuple(turn.claim.standing.member.backend.secrets())
            if not whole or (secrets and is_packed(headers)):  # what cannot be looked into is told anew
                head, headers = way.dialect.error(rejected(reply.status, ""), journey.request.id), as_json(headers)
            head = redacted(head, secrets)
            said = way.dialect.read_error(head)
            code = way.dialect.lacks(said) or rejected(reply.status, said).code
            head, headers = way.rejection(reply.status, headers, head, journey.request.id)
            whole = True
        return OpenReply(
            turn.claim,
            turn.choice,
            reply,
            exchange,
            reader,
            headers,
            head,
            whole=whole,
            first_byte=self._clock.now() - turn.claim.since,
            code=code,
        )

    async def _refused_there(self, journey: Journey, turn: Turn, reply: Reply, judged: Verdict, way: Way) -> None:
        pause = retry_after(reply.headers, self._clock.time()) if judged.outcome == "rate" else None
        secrets = turn.claim.standing.member.backend.secrets
        said = redacted_text(way.dialect.read_error(redacted(await some_body(reply), secrets())), secrets())
        code = way.dialect.lacks(said)
        if judged is FAILED and code.removeprefix("no_") in (*journey.request.needs, journey.request.task):
            judged = CANNOT
        message = f"answered {reply.status}: {said}"
        self._failed(journey, turn, judged, code or "status", message, sent=True, status=reply.status, pause=pause)

    # ------------------------------------------------------------ what did not work out

    def _objected(self, journey: Journey, turn: Turn, stage: str, refusal: Refusal) -> None:
        """Nothing has left, and nothing will: routing goes on without the pair."""
        candidate = turn.choice.candidate
        turn.claim.finish("refused", code=refusal.code)
        journey.tried |= {(candidate.backend, candidate.model)}
        journey.objections.append(Objection(stage=stage, candidate=candidate, leg=turn.choice.ask.leg.index, refusal=refusal))

    def _failed(
        self,
        journey: Journey,
        turn: Turn,
        judged: Verdict,
        code: str,
        message: str,
        *,
        sent: bool,
        status: int | None = None,
        pause: float | None = None,
    ) -> None:
        candidate = turn.choice.candidate
        seconds = self._clock.now() - turn.claim.since
        journey.attempts.append(
            Attempt(
                backend=candidate.backend,
                model=candidate.model,
                outcome=judged.outcome,
                status=status,
                code=code,
                message=redacted_text(message, turn.claim.standing.member.backend.secrets()) if message else "",
                seconds=seconds,
            )
        )
        if judged.outcome == "rate":
            asked = DEFAULT_PAUSE_SECONDS if pause is None else pause
            journey.retry_after = asked if journey.retry_after is None else min(asked, journey.retry_after)
        if judged.outcome != "rate" or not journey.request.takes_slot:  # whom a 429 pauses need not be remembered
            journey.tried |= {(candidate.backend, candidate.model)}
        if judged.avoid:  # before the slot is given back: who waits for it chooses at once
            self._fleet.blame(turn.claim, judged.blame)
        turn.claim.finish(judged.outcome, sent=sent, status=status, code=code, retry_after=pause)
        if judged.probe:
            self._fleet.doubted(candidate.backend)


class Objected(Exception):
    """A stage's `admit` refused the call."""

    def __init__(self, stage: str, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.stage = stage
        self.refusal = refusal


def _forwarded(headers: Mapping[str, str], prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What a backend gets to see: the body's type, what is accepted, the trace, the dialect's own headers."""
    return (
        _JSON,
        *[
            (name, value if value.isascii() else _as_sent(value))
            for name, value in headers.items()
            if name in FORWARDED or name.startswith(prefixes)
        ],
    )


def _as_sent(value: str) -> str:
    """aiohttp reads headers as UTF-8, the upstream writes latin-1: the same bytes."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")
