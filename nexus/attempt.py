"""One pair is asked once.  What is tried next, and whether to wait, is decided in `dispatch`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

import attrs

from nexus.api import Backend, Clock, Reader, Reply
from nexus.dialects.complaints import Complaint, complaint_of
from nexus.dialects.jsontext import dumps
from nexus.dialects.rejections import as_json, is_packed, rejected
from nexus.dialects.ways import Ways
from nexus.errors import BackendError, Problem, Refused, StageError
from nexus.fleet import Claim, Fleet
from nexus.journey import Journey
from nexus.judging import judged
from nexus.model import UNANSWERED, Attempt, Call, Choice, Fault, Objection, Refusal
from nexus.model.quick import maker, quick
from nexus.outcome import BY_STATUS, REJECTED_BY_STATUS, FailureTable, Judged, Verdict, of_error
from nexus.patience import USUAL, Patience
from nexus.pauses import asked_for
from nexus.reading import ErrorAnswer, first_event, some_body, whole_body
from nexus.redaction import redacted, redacted_text
from nexus.reply import OpenReply, passed_back
from nexus.routing import CORE, Pipeline

if TYPE_CHECKING:
    from nexus.dialects.ways import Way

FORWARDED = frozenset({"accept", "traceparent"})
_call = maker(Call)
_JSON = ("content-type", "application/json")
MAX_REJECTION_BYTES = 1024 * 1024  # no sentence is longer; what follows is not read
Headers = tuple[tuple[str, str], ...]
MAX_WHOLE_BYTES = 16 * 1024 * 1024  # up to here a whole body is held, so that a cut one can be asked for again elsewhere


@quick
@attrs.frozen(kw_only=True, weakref_slot=False)
class Turn:
    """A choice whose slot is held.  `patience` is how long an attempt at it may take."""

    choice: Choice
    claim: Claim
    patience: Patience = USUAL


_turn = maker(Turn)


class Attempts:
    """Makes attempts: prepares and admits the call, sends it, judges what comes back."""

    def __init__(
        self, fleet: Fleet, pipeline: Pipeline, ways: Ways, clock: Clock, patience: Patience, failures: FailureTable
    ) -> None:
        self._fleet = fleet
        self._pipeline = pipeline
        self._ways = ways
        self._clock = clock
        self._patience = patience
        self._failures = failures

    async def make(self, journey: Journey, turn: Turn) -> OpenReply | None:
        """One pair, asked once; once more where a pooled connection had died, and where what it rejected could be mended.  None: try
        elsewhere.

        Raises Problem where the request itself is at fault, StageError where a stage crashes.  The claim is finished unless a
        reply is returned.
        """
        claim = turn.claim
        turn = _turn(choice=turn.choice, claim=claim, patience=self._patience_for(claim))
        try:
            request, candidate = journey.request, turn.choice.candidate
            way = self._ways.to(candidate, journey.dialect, journey.endpoint, journey.payload, journey.facts, request.model)
            claim.asked = (way.dialect.name, way.endpoint.task)
            call = self._prepared(self._call(journey, turn, way))
            if self._pipeline.admit:
                await self._admitted(call)
            try:
                return await self._asked(journey, turn, call, way)
            except Mended:
                return await self._asked(journey, turn, self._prepared(self._call(journey, turn, way)), way)
        except BackendError as error:
            self._failed(journey, turn, of_error(error), error.code, turn.patience.told(error), sent=error.sent)
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
            self._tried(journey, turn, "left", code=UNANSWERED, message="the client left before the answer began")
            claim.finish("left", sent=True)
            raise
        except BaseException as error:  # a fault of ours or of a stage: the backend is not to blame
            claim.finish("refused", code=type(error).__name__)
            raise

    # ------------------------------------------------------------ the call

    def _patience_for(self, claim: Claim) -> Patience:
        """What the configuration says for this pair: its model's table, else its backend's, else `[upstream]`."""
        member, written = claim.standing.member, claim.pair.written
        own = None if written is None else written.timeouts
        if own is None and member.timeouts is None:
            return self._patience
        patience = self._patience.but(member.timeouts, f'[[backends]] "{member.name}"')
        return patience.but(own, f'[[backends.models]] "{claim.pair.model.id}" of "{member.name}"')

    def _call(self, journey: Journey, turn: Turn, way: Way) -> Call:
        facts, native, patience, now = journey.facts, way.dialect is journey.dialect, turn.patience, self._clock.now()
        setting = "first_byte" if facts.stream else "answer"
        if journey.first_byte_by is None:
            journey.first_byte_by = now + (self._patience.first_byte if facts.stream else self._patience.answer)
        until = patience.until(setting, now, journey.first_byte_by)
        return _call(
            ask=turn.choice.ask,
            candidate=turn.choice.candidate,
            dialect=way.dialect.name,
            task=journey.endpoint.task,
            path=way.endpoint.path + journey.query if native else way.endpoint.path,
            headers=_forwarded(journey.request.headers, way.dialect.forward if native else ()) + way.headers,
            body=way.body,
            stream=facts.stream,
            first_byte_by=until,
            answer_by=None if facts.stream else until,
            idle_timeout=patience.idle,
            connect_timeout=patience.connect if "connect" in patience.written else None,
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

    async def _asked(self, journey: Journey, turn: Turn, call: Call, way: Way) -> OpenReply | None:
        try:
            return await self._exchange(journey, turn, call, way)
        except BackendError as error:
            if not error.reused:
                raise
        return await self._exchange(journey, turn, call, way)

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
        headers = passed_back(reply.headers, way.dialect.backward, self._backend(turn))
        if not 200 <= reply.status < 300:
            return await self._refused_there(journey, turn, reply, exchange, headers, way)
        reader = way.reader(journey.request.id, turn.choice.candidate.name, int(self._clock.time()))
        try:
            head, whole = await (
                first_event(reply, reader, way.dialect.stream_type, lambda: self._clock.now() >= self._signs_until(journey, turn))
                if journey.facts.stream
                else whole_body(reply, reader, MAX_WHOLE_BYTES)
            )
        except ErrorAnswer as error:
            return await self._error_came(journey, turn, reply, exchange, headers, way, error.complaint)
        turn.claim.answered()
        return self._opened(turn, reply, exchange, reader, way.back(headers, stream=journey.facts.stream), head, whole=whole)

    def _signs_until(self, journey: Journey, turn: Turn) -> float:
        """Comments and pings show that a server lives and still works: a long prompt may take longer than a first byte usually does."""
        return turn.patience.signs_until(turn.claim.since, journey.first_byte_by or 0.0)

    async def _error_came(
        self,
        journey: Journey,
        turn: Turn,
        reply: Reply,
        exchange: AbstractAsyncContextManager[Reply],
        headers: Headers,
        way: Way,
        said: Complaint,
    ) -> OpenReply | None:
        """An error that came with a 200: judged as if it had come with the status that it names."""
        secrets = self._backend(turn).secrets
        found = await self._judge(journey, turn, reply, way, said.status, said)
        if found.verdict.next:
            message = redacted_text(said.message, secrets())
            self._judged_so(journey, turn, reply, found, said, message, said.status, "error_event")
            return None
        body = redacted(dumps(said.value) if isinstance(said.value, dict) else said.message.encode("utf-8", "replace"), secrets())
        return self._rejected(journey, turn, reply, exchange, as_json(headers), way, found, said.status, body)

    async def _refused_there(
        self, journey: Journey, turn: Turn, reply: Reply, exchange: AbstractAsyncContextManager[Reply], headers: Headers, way: Way
    ) -> OpenReply | None:
        """An answer with the status of an error: the client's, or another pair's to try."""
        secrets, status = tuple(self._backend(turn).secrets()), reply.status
        if status in REJECTED_BY_STATUS:
            head, whole = await whole_body(reply, None, MAX_REJECTION_BYTES)
        else:
            head, whole = await some_body(reply), True
        head, packed = redacted(head, secrets), is_packed(reply.headers)
        said = complaint_of(head) if whole and not packed else Complaint()
        found = await self._judge(journey, turn, reply, way, status, said)
        if found.verdict.next:
            message = f"answered {status}: {redacted_text(way.dialect.read_error(head), secrets)}"
            self._judged_so(journey, turn, reply, found, said, message, status, BY_STATUS)
            return None
        if not whole or (secrets and packed):  # what cannot be looked into is told anew
            head, headers = way.dialect.error(rejected(status, ""), journey.request.id), as_json(headers)
        return self._rejected(journey, turn, reply, exchange, headers, way, found, status, head)

    async def _judge(self, journey: Journey, turn: Turn, reply: Reply, way: Way, status: int | None, said: Complaint) -> Judged:
        if way.again(said.message):
            raise Mended
        says_when = asked_for(reply.headers, self._clock.time(), said.value) is not None
        return await judged(self._failures, journey, turn.claim, way, status, said, says_when=says_when)

    def _rejected(
        self,
        journey: Journey,
        turn: Turn,
        reply: Reply,
        exchange: AbstractAsyncContextManager[Reply],
        headers: Headers,
        way: Way,
        found: Judged,
        status: int | None,
        body: bytes,
    ) -> OpenReply:
        """The request's own fault, for the client to read.  It is no server's error, whatever its server made of it."""
        status = status if status is not None and status < 500 else 400
        code = found.code if found.code != BY_STATUS else rejected(status, way.dialect.read_error(body)).code
        body, headers = way.rejection(status, headers, body, journey.request.id)
        return self._opened(turn, attrs.evolve(reply, status=status), exchange, None, headers, body, whole=True, code=code)

    def _opened(
        self,
        turn: Turn,
        reply: Reply,
        exchange: AbstractAsyncContextManager[Reply],
        reader: Reader | None,
        headers: Headers,
        head: bytes,
        *,
        whole: bool,
        code: str = "",
    ) -> OpenReply:
        first_byte = self._clock.now() - turn.claim.since
        opened = OpenReply(
            turn.claim, turn.choice, reply, exchange, reader, headers, head, whole=whole, first_byte=first_byte, code=code
        )
        opened.told = turn.patience.told
        return opened

    def _backend(self, turn: Turn) -> Backend:
        return turn.claim.standing.member.backend

    # ------------------------------------------------------------ what did not work out

    def _objected(self, journey: Journey, turn: Turn, stage: str, refusal: Refusal) -> None:
        """Nothing has left, and nothing will: routing goes on without the pair."""
        candidate = turn.choice.candidate
        turn.claim.finish("refused", code=refusal.code)
        journey.tried |= {(candidate.backend, candidate.model)}
        journey.objections.append(Objection(stage=stage, candidate=candidate, leg=turn.choice.ask.leg.index, refusal=refusal))

    def _judged_so(
        self,
        journey: Journey,
        turn: Turn,
        reply: Reply,
        found: Judged,
        said: Complaint,
        message: str,
        status: int | None,
        by_nothing_else: str,
    ) -> None:
        """What the table says follows for the backend and the pair; then the attempt has failed."""
        rule, claim, pause = found.rule, turn.claim, None
        if rule.fault is Fault.BUSY:
            asked = asked_for(reply.headers, self._clock.time(), said.value)
            pause = rule.pause if asked is None else asked
        elif rule.fault in (Fault.ACCOUNT, Fault.PERMISSION):
            why = rule.reason + (f" (it answered {status})" if status else "")
            self._fleet.suspend(claim, why, model_only=rule.fault is Fault.PERMISSION)
        elif rule.fault is Fault.BLOCKED:
            self._fleet.blame(claim, f"forbids requests, perhaps to the configured key (api_key_env): it answered {status}")
        elif rule.fault is Fault.PATH:
            self._fleet.lack(claim)
        code = found.code if found.code != BY_STATUS else by_nothing_else
        if rule.fault is Fault.PATH:
            code = f"no_{claim.asked[1]}"
        self._failed(journey, turn, found.verdict, code, message, sent=True, status=status, pause=pause, fault=rule.fault)

    def _failed(
        self,
        journey: Journey,
        turn: Turn,
        verdict: Verdict,
        code: str,
        message: str,
        *,
        sent: bool,
        status: int | None = None,
        pause: float | None = None,
        fault: Fault | None = None,
    ) -> None:
        candidate = turn.choice.candidate
        self._tried(journey, turn, verdict.outcome, status=status, code=code, message=message)
        if pause is not None:
            journey.retry_after = pause if journey.retry_after is None else min(pause, journey.retry_after)
        # whom a pause holds back need not be remembered, nor who is not asked in these words again
        if not (fault in (Fault.BUSY, Fault.PATH) and journey.request.takes_slot):
            journey.tried |= {(candidate.backend, candidate.model)}
        if verdict.avoid and fault is not Fault.BLOCKED:  # before the slot is given back: who waits for it chooses at once
            self._fleet.blame(turn.claim, "")
        turn.claim.finish(verdict.outcome, sent=sent, status=status, code=code, retry_after=pause)
        if verdict.probe or fault is Fault.BUSY:
            self._fleet.doubted(candidate.backend)

    def _tried(
        self, journey: Journey, turn: Turn, outcome: str, *, status: int | None = None, code: str = "", message: str = ""
    ) -> None:
        candidate = turn.choice.candidate
        seconds = self._clock.now() - turn.claim.since
        journey.attempts.append(
            Attempt(
                backend=candidate.backend,
                model=candidate.model,
                outcome=outcome,
                status=status,
                code=code,
                message=redacted_text(message, turn.claim.standing.member.backend.secrets()) if message else "",
                seconds=seconds,
            )
        )


class Mended(Exception):
    """The server rejected the body, which is another one now."""


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
