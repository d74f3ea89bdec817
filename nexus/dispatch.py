"""A plan becomes an open reply.  This is the only place that retries; it neither ranks pairs nor writes to clients."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from time import perf_counter

import attrs

from nexus import verdict
from nexus.api import Clock, Reader, Reply, Splice
from nexus.errors import BackendError, Problem, Refused, StageError
from nexus.fleet import DEFAULT_PAUSE_SECONDS, Claim, Fleet
from nexus.journey import Journey
from nexus.model import CHAT, COMPLETION, Attempt, Call, Choice, Objection, Plan
from nexus.names import Names
from nexus.outcome import CANNOT, FAILED, Verdict, of_error, of_status, retry_after
from nexus.reply import OpenReply, passed_back
from nexus.routing import Circumstances, Pipeline, reason, route, waitable
from nexus.waiting import QueueFull, WaitedTooLong, Waiter, Waiting

MAX_WHOLE_BYTES = 16 * 1024 * 1024  # up to here a whole body is held, so that a cut one can be asked for again elsewhere
MAX_ERROR_BYTES = 256 * 1024
ERROR_SECONDS = 2.0  # for an error's body: the next pair must not wait for the sentence of the last one
MAX_FIRST_EVENT_BYTES = 16 * 1024 * 1024
FORWARDED = frozenset({"accept", "traceparent"})


@attrs.frozen(kw_only=True)
class Limits:
    """Seconds, but for `max_attempts` (contract §2)."""

    max_attempts: int = 3
    first_byte_timeout: float = 300.0
    answer_timeout: float = 1800.0
    idle_timeout: float = 120.0
    overflow_after: float = 0.0
    max_wait: float = 30.0


@attrs.frozen(kw_only=True)
class Turn:
    """A choice whose slot is held."""

    choice: Choice
    claim: Claim


class Dispatcher:
    """Chooses, claims, tries, and tries elsewhere."""

    def __init__(
        self, fleet: Fleet, pipeline: Pipeline, names: Names, waiting: Waiting[Turn], clock: Clock, limits: Limits
    ) -> None:
        self.fleet = fleet
        self.pipeline = pipeline
        self.names = names
        self.waiting = waiting
        self.clock = clock
        self.limits = limits
        self._policy = names.demand if names.has_policies else None

    def plan(self, journey: Journey, *, whole: bool = False) -> Plan:
        """Where the request would go now, without claiming or sending anything.  `whole` looks at every leg."""
        at = Circumstances(
            candidates=self.fleet.candidates,
            now=self.clock.now(),
            tried=journey.tried,
            policy=self._policy,
            allowed=journey.allowed,
        )
        plan = route(self.pipeline, journey.request, journey.payload, journey.legs, at, whole=whole)
        if journey.objections:
            plan = attrs.evolve(plan, objections=plan.objections + tuple(journey.objections))
        return plan

    async def open(self, journey: Journey) -> OpenReply:
        """The reply of the best pair that answers.  Raises Problem where none does, StageError where a stage crashes."""
        if len(self.waiting):
            self.waiting.pump_due()
        while True:
            turn = self._choose(journey) or await self._wait(journey)
            opened = await self._attempt(journey, turn)
            if opened is not None:
                return opened
            if len(journey.attempts) >= self.limits.max_attempts or self._out_of_time(journey):
                raise verdict.all_failed(journey.plan, journey.attempts, journey.retry_after)

    def _out_of_time(self, journey: Journey) -> bool:
        """Whether the deadline that all attempts share has passed: another pair could only be blamed for it."""
        return journey.first_byte_by is not None and self.clock.now() >= journey.first_byte_by

    # ------------------------------------------------------------ choosing and waiting

    def _choose(self, journey: Journey, *, patient: bool = True) -> Turn | None:
        """The best pair, claimed in the same tick; None where waiting may help.  Raises Problem where it cannot.

        A `patient` request leaves a pair that is not at home for later while home may still come free.
        """
        start = perf_counter()
        plan = journey.plan = self.plan(journey)
        journey.routing_seconds += perf_counter() - start
        choice = plan.choices[0] if plan.choices else None
        if choice is not None and not (patient and self._rather_wait(journey, plan, choice)):
            journey.choice = choice
            journey.reason = reason(plan, choice, failed_before=bool(journey.attempts))
            return Turn(choice=choice, claim=self.fleet.claim(choice.candidate, journey.request))
        if choice is None and not waitable(plan) and (plan.objections or self.fleet.settled):
            raise self._give_up(journey, plan)
        return None

    def _unknown(self, journey: Journey) -> Problem:
        """No backend that has answered knows the name."""
        standings, asked = self.fleet.standings, journey.request.model
        silent = [name for name, s in standings.items() if not s.pairs and not (s.report and s.report.ok)]
        if not standings:
            return verdict.no_backends()
        if silent:
            return verdict.not_ready(asked, silent)
        return verdict.unknown_model(asked, [*self.names.aliases, *self.fleet.names()])

    def _rather_wait(self, journey: Journey, plan: Plan, choice: Choice) -> bool:
        """Whether home may still come free before the time for overflow (`overflow_after_seconds`)."""
        if self.clock.now() >= journey.request.accepted + self.limits.overflow_after:
            return False
        if choice.ask.leg.index == 0 and not choice.candidate.cloud:
            return False
        return any(not candidate.cloud for candidate in waitable(plan))

    def _give_up(self, journey: Journey, plan: Plan, code: str | None = None) -> Problem:
        if journey.attempts:
            return verdict.all_failed(plan, journey.attempts, journey.retry_after)
        if not plan.objections:
            return self._unknown(journey)
        return verdict.no_choice(plan, self.clock.now(), len(self.waiting), code)

    async def _wait(self, journey: Journey) -> Turn:
        plan = journey.plan
        assert plan is not None
        began = self.clock.now()
        retry_at = self._retry_at(journey, plan)
        if self._hopeless(plan, retry_at, began):
            raise self._give_up(journey, plan)
        waiter: Waiter[Turn]

        def attempt() -> Turn | None:
            turn = self._choose(journey)
            if turn is None and journey.plan is not None:
                waiter.retry_at = self._retry_at(journey, journey.plan)
                waiter.watch = _watched(journey.plan)
            return turn

        waiter = Waiter(journey.request, len(journey.payload.body), attempt, _watched(plan), began)
        try:
            return await self.waiting.wait(waiter, retry_at)
        except QueueFull:
            return self._last_chance(journey, "queue_full")
        except WaitedTooLong:
            return self._last_chance(journey, "queue_timeout")
        except asyncio.CancelledError:
            waiter.give_back(lambda turn: turn.claim.finish("left"))
            raise
        finally:
            journey.queue_seconds += self.clock.now() - began

    def _last_chance(self, journey: Journey, code: str) -> Turn:
        """No more waiting: what was free all the time, but not at home, is better than nothing.  Raises Problem."""
        turn = self._choose(journey, patient=False)
        if turn is None:
            assert journey.plan is not None
            raise self._give_up(journey, journey.plan, code)
        return turn

    def _retry_at(self, journey: Journey, plan: Plan) -> float | None:
        moments = [o.refusal.retry_at for o in plan.objections if o.refusal.retry_at is not None]
        if plan.choices:
            moments.append(journey.request.accepted + self.limits.overflow_after)
        now = self.clock.now()
        return min((m for m in moments if m > now), default=None)

    def _hopeless(self, plan: Plan, retry_at: float | None, now: float) -> bool:
        """Whether all that may wait is paused for longer than anybody may wait."""
        held = waitable(plan)
        paused = [c for c in held if c.paused_until > now + self.limits.max_wait]
        return bool(held) and len(paused) == len(held) and not plan.choices

    # ------------------------------------------------------------ one attempt

    async def _attempt(self, journey: Journey, turn: Turn) -> OpenReply | None:
        """One pair, asked once (twice where a pooled connection had died).  None: try elsewhere."""
        claim = turn.claim
        try:
            call, hide_usage = self._call(journey, turn.choice)
            if not await self._admitted(journey, turn, call):
                return None
            try:
                return await self._exchange(journey, turn, call, hide_usage)
            except BackendError as error:
                if not error.reused:
                    raise
            return await self._exchange(journey, turn, call, hide_usage)
        except BackendError as error:
            self._failed(journey, turn, of_error(error), error.code, error.hint, sent=error.sent)
            return None
        except asyncio.CancelledError:
            claim.finish("left", sent=True)
            raise
        except BaseException as error:
            claim.finish("failed", code=type(error).__name__)
            raise

    def _call(self, journey: Journey, choice: Choice) -> tuple[Call, bool]:
        facts, candidate, dialect = journey.facts, choice.candidate, journey.dialect
        ask_usage = facts.stream and candidate.takes_usage and not facts.wants_usage and journey.endpoint.task in (CHAT, COMPLETION)
        body = journey.payload.body
        model = None if journey.request.model == candidate.model else candidate.model
        if model is not None or ask_usage:
            body = dialect.splice(journey.endpoint, body, Splice(model=model, ask_usage=ask_usage))
        now = self.clock.now()
        if journey.first_byte_by is None:
            seconds = self.limits.first_byte_timeout if facts.stream else self.limits.answer_timeout
            journey.first_byte_by = now + seconds
            journey.answer_by = None if facts.stream else journey.first_byte_by
        call = Call(
            ask=choice.ask,
            candidate=candidate,
            dialect=dialect.name,
            task=journey.endpoint.task,
            path=journey.endpoint.path,
            headers=_forwarded(journey.request.headers, dialect.forward),
            body=body,
            stream=facts.stream,
            first_byte_by=journey.first_byte_by,
            answer_by=journey.answer_by,
            idle_timeout=self.limits.idle_timeout,
        )
        return self._prepared(call), ask_usage

    def _prepared(self, call: Call) -> Call:
        for name, prepare in self.pipeline.prepare:
            try:
                changed: Call = prepare(call)
            except Exception as error:
                raise StageError(name, "prepare", error) from error
            if changed is not call:
                call = attrs.evolve(call, body=changed.body, headers=changed.headers)
        return call

    async def _admitted(self, journey: Journey, turn: Turn, call: Call) -> bool:
        for name, admit in self.pipeline.admit:
            try:
                await admit(call)
            except Refused as refused:
                turn.claim.finish("refused", code=refused.refusal.code)
                self._tried(journey, turn)
                leg = turn.choice.ask.leg.index
                journey.objections.append(Objection(stage=name, candidate=turn.choice.candidate, leg=leg, refusal=refused.refusal))
                return False
            except Exception as error:
                raise StageError(name, "admit", error) from error
        return True

    async def _exchange(self, journey: Journey, turn: Turn, call: Call, hide_usage: bool) -> OpenReply | None:
        backend = turn.claim.standing.member.backend
        exchange = backend.send(call)
        reply = await exchange.__aenter__()
        try:
            opened = await self._judged(journey, turn, reply, exchange, hide_usage)
        except BaseException:
            await exchange.__aexit__(*sys.exc_info())
            raise
        if opened is None:
            await exchange.__aexit__(None, None, None)
        return opened

    async def _judged(
        self, journey: Journey, turn: Turn, reply: Reply, exchange: AbstractAsyncContextManager[Reply], hide_usage: bool
    ) -> OpenReply | None:
        judged = of_status(reply.status)
        reader: Reader | None = None
        if judged.next:
            await self._refused_there(journey, turn, reply, judged)
            return None
        if judged.outcome == "ok":
            reader = journey.dialect.reader(journey.endpoint, journey.facts, hide_usage=hide_usage)
            head, whole = await (
                _first_event(reply, reader, lambda: self._out_of_time(journey))
                if journey.facts.stream
                else _whole_body(reply, reader, MAX_WHOLE_BYTES)
            )
        else:
            head, whole = await _whole_body(reply, None, MAX_WHOLE_BYTES)
        return OpenReply(
            turn.claim,
            turn.choice,
            reply,
            exchange,
            reader,
            passed_back(reply.headers, journey.dialect.backward),
            head,
            whole=whole,
            first_byte=self.clock.now() - turn.claim.since,
        )

    async def _refused_there(self, journey: Journey, turn: Turn, reply: Reply, judged: Verdict) -> None:
        pause = retry_after(reply.headers, self.clock.time()) if judged.outcome == "rate" else None
        body = await _some_body(reply)
        said = journey.dialect.read_error(body)
        code = journey.dialect.lacks(said)
        if judged is FAILED and code.removeprefix("no_") in (*journey.request.needs, journey.request.task):
            judged = CANNOT
        message = f"answered {reply.status}: {said}"
        self._failed(journey, turn, judged, code or "status", message, sent=True, status=reply.status, pause=pause)

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
        seconds = self.clock.now() - turn.claim.since
        journey.attempts.append(
            Attempt(
                backend=candidate.backend,
                model=candidate.model,
                outcome=judged.outcome,
                status=status,
                code=code,
                message=message,
                seconds=seconds,
            )
        )
        if judged.outcome == "rate":
            asked = DEFAULT_PAUSE_SECONDS if pause is None else pause
            journey.retry_after = asked if journey.retry_after is None else min(asked, journey.retry_after)
        else:
            self._tried(journey, turn)
        turn.claim.finish(judged.outcome, sent=sent, status=status, code=code, retry_after=pause)
        if judged.blame:
            self.fleet.blame(candidate.backend, judged.blame)
        if judged.probe:
            self.fleet.doubted(candidate.backend)

    @staticmethod
    def _tried(journey: Journey, turn: Turn) -> None:
        journey.tried |= {(turn.choice.candidate.backend, turn.choice.candidate.model)}

    def tell(self, choice: Choice) -> dict[str, str]:
        """What the stages want to say in `X-Nexus-*` headers.  Raises StageError."""
        told: dict[str, str] = {}
        for name, tell in self.pipeline.tell:
            try:
                told.update(tell(choice.ask, choice.candidate))
            except Exception as error:
                raise StageError(name, "tell", error) from error
        return told


def _watched(plan: Plan) -> frozenset[str]:
    """The backends a free slot of which may help.  Empty (any) where the plan has none yet, or a leg takes any model."""
    if not plan.legs or plan.legs[-1].any_model:
        return frozenset()
    return frozenset(o.candidate.backend for o in plan.objections)


def _forwarded(headers: Mapping[str, str], prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What a backend gets to see: the body's type, what is accepted, the trace, the dialect's own headers."""
    kept = [(name, _as_sent(value)) for name, value in headers.items() if name in FORWARDED or name.startswith(prefixes)]
    return (("content-type", "application/json"), *kept)


def _as_sent(value: str) -> str:
    """aiohttp reads headers as UTF-8, the upstream writes latin-1: the same bytes."""
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("latin-1")


async def _first_event(reply: Reply, reader: Reader, late: Callable[[], bool]) -> tuple[bytes, bool]:
    """All up to the first complete event that carries data.  Raises BackendError where it is an error or does not come in time."""
    kind = next((value for name, value in reply.headers if name == "content-type"), "")
    if "event-stream" not in kind:
        raise BackendError("malformed", f"answered a request for a stream with {kind or 'no content type'}", sent=True)
    _no_encoding(reply)
    head = b""
    while not reader.begun:
        data = await reply.read()
        if not data:
            raise BackendError("no_answer", "the stream ended without an event", sent=True)
        head += reader.feed(data)
        if not reader.begun and late():  # comments are bytes too, but nothing that a client could use
            raise BackendError("first_byte_timeout", "sent no event in time", sent=True)
        if len(head) > MAX_FIRST_EVENT_BYTES:
            raise BackendError("too_large", "no event within the first 16 MiB", sent=True)
    if reader.error is not None:
        raise BackendError("error_event", reader.error, sent=True)
    return head, False


async def _whole_body(reply: Reply, reader: Reader | None, limit: int) -> tuple[bytes, bool]:
    """The body, as far as `limit`, and whether that is all."""
    if reader is not None:
        _no_encoding(reply)
    pieces, size = [], 0
    while data := await reply.read():
        pieces.append(reader.feed(data) if reader else data)
        size += len(data)
        if size > limit:
            return b"".join(pieces), False
    if reader is not None:
        pieces.append(reader.finish())
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), True


async def _some_body(reply: Reply) -> bytes:
    """The beginning of an error's body; an answer that breaks off, or does not go on, says what it has said."""
    body = b""
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            while len(body) < MAX_ERROR_BYTES and (data := await reply.read()):
                body += data
    except (BackendError, TimeoutError):
        pass
    return body


def _no_encoding(reply: Reply) -> None:
    encoding = next((value for name, value in reply.headers if name == "content-encoding"), "identity")
    if encoding.lower() != "identity":
        raise BackendError("malformed", f"answered with content encoding {encoding!r}, which was not asked for", sent=True)
