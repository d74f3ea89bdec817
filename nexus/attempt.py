"""One pair is asked once.  What is tried next, and whether to wait, is decided in `dispatch`."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs
import msgspec

from nexus.api import Clock, Reader, Reply
from nexus.aside import aside
from nexus.context import RequestContext
from nexus.dialects.complaints import Complaint, complaint_of
from nexus.dialects.jsontext import dumps
from nexus.dialects.rejections import as_json, is_packed, rejected
from nexus.dialects.ways import Ways
from nexus.dialects.weight import is_much
from nexus.errors import CRASHES, CRASHES_OF_A_CALL, BackendError, Problem, Refused, StageError, is_cancelled
from nexus.failures import LOADING
from nexus.fleet import Claim, Fleet
from nexus.judging import Judge, code_of
from nexus.model import OUT_OF_TIME, UNANSWERED, Attempt, Call, Choice, Fault, Refusal, replace
from nexus.model.attempt import told_again
from nexus.outcome import BY_STATUS, REJECTED_BY_STATUS, FailureTable, Judged, Verdict, of_error
from nexus.patience import Patience
from nexus.plain import rounded
from nexus.reading import ErrorAnswer, first_event, some_body, whole_body
from nexus.redaction import redacted, redacted_text
from nexus.reply import OpenReply, passed_back
from nexus.routing import CORE, Pipeline, forbidden, tried

if TYPE_CHECKING:
    from nexus.dialects.ways import Way

FORWARDED = frozenset({"accept", "traceparent"})
_JSON = ("content-type", "application/json")
MAX_REJECTION_BYTES = (
    256 * 1024
)  # no sentence is longer; what follows is not read, and nobody waits while so much is looked through
Headers = tuple[tuple[str, str], ...]
NO_PATH = "path"  # the code of a claim whose server has no path for it
MAX_WHOLE_BYTES = 16 * 1024 * 1024  # up to here a whole body is held, so that a cut one can be asked for again elsewhere


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """A choice whose slot is held.  `patience` is how long an attempt at it may take."""

    choice: Choice
    claim: Claim
    patience: Patience


@attrs.frozen
class _Got:
    """What came of a call that was not served: the reply and how to leave it, the way it was asked, what of its headers may pass."""

    reply: Reply
    way: Way
    headers: Headers


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
        self._judging = Judge(failures, fleet, clock)

    async def make(self, context: RequestContext, turn: Turn) -> OpenReply | None:
        """One pair, asked once; once more where a pooled connection had died, and where what it rejected could be mended.  None: try
        elsewhere.

        Raises Problem where the request itself is at fault, StageError where a stage crashes.  The claim is finished unless a
        reply is returned.
        """
        claim = turn.claim
        try:
            way = await self._way(context, turn.choice)
            claim.asked = (way.dialect.name, way.endpoint.task)
            call = self._prepared(self._call(context, turn, way))
            if self._pipeline.admit:
                await self._admitted(call)
            try:
                return await self._exchange(context, turn, call, way)
            except Mended:
                return await self._exchange(context, turn, self._prepared(self._call(context, turn, way)), way)
        except BackendError as error:
            code, told = self._told(context, turn, error)
            self._failed(context, turn, of_error(error), code, told, sent=error.sent)
            return None
        except Objected as objected:
            self._objected(context, turn, objected.stage, objected.refusal)
            return None
        except Refused as refused:
            self._objected(context, turn, CORE, refused.refusal)
            return None
        except Problem as problem:
            claim.finish("refused", code=problem.code)
            raise
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and is_cancelled():
                self._tried(context, turn, "left", code=UNANSWERED, message="the client left before the answer began")
                claim.finish("left", sent=True)
                raise
            claim.finish("refused", code=type(error).__name__)  # a fault of ours or of a plugin: the server is not to blame
            if isinstance(error, asyncio.CancelledError | ConnectionError):  # elsewhere that means that the client has gone
                raise RuntimeError(f"what talks to {turn.choice.candidate.backend} raised {type(error).__name__}") from error
            raise

    async def has_way(self, context: RequestContext, choice: Choice) -> bool:
        """Whether the request can be put to the pair, which it is not; where it cannot, the pair is left out from now on.

        Raises Problem where the request itself is at fault.
        """
        try:
            await self._way(context, choice)
        except Refused as refused:
            context.leave_out(choice, forbidden(CORE, refused.refusal))
            return False
        return True

    # ------------------------------------------------------------ the call

    async def _way(self, context: RequestContext, choice: Choice) -> Way:
        """Raises Problem and Refused, as `Ways.to` does."""
        asked = (choice.candidate, context.dialect, context.endpoint, context.payload, context.facts, context.request.model)
        return await aside(self._ways.to, *asked) if is_much(context.payload.body) else self._ways.to(*asked)

    def patience_for(self, claim: Claim) -> Patience:
        """What the configuration says for this pair: its model's table, else its backend's, else `[upstream]`."""
        member, written = claim.standing.member, claim.pair.written
        own = None if written is None else written.timeouts
        if own is None and member.timeouts is None:
            return self._patience
        patience = self._patience.but(member.timeouts, f'[[backends]] "{member.name}"')
        return patience.but(own, f'[[backends.models]] "{written.id if written else ""}" of "{member.name}"')

    def _call(self, context: RequestContext, turn: Turn, way: Way) -> Call:
        facts, native, patience, now = context.facts, way.dialect is context.dialect, turn.patience, self._clock.now()
        setting = "first_byte" if facts.stream else "answer"
        shared = context.first_byte_by
        if shared is None:
            shared = context.first_byte_by = now + (self._patience.first_byte if facts.stream else self._patience.answer)
        until = patience.until(setting, now, shared) if patience.written else shared
        return Call(
            ask=turn.choice.ask,
            candidate=turn.choice.candidate,
            dialect=way.dialect.name,
            task=context.endpoint.task,
            path=way.endpoint.path + context.query if native else way.endpoint.path,
            headers=_forwarded(context.request.headers, way.dialect.forward if native else ()) + way.headers,
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
                    call = replace(call, body=changed.body, headers=changed.headers)
        except CRASHES_OF_A_CALL as error:
            raise StageError(name, "prepare", error) from error
        return call

    async def _admitted(self, call: Call) -> None:
        for name, admit in self._pipeline.admit:
            try:
                await admit(call)
            except Refused as refused:
                raise Objected(name, refused.refusal) from None
            except (*CRASHES, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and is_cancelled():
                    raise
                raise StageError(name, "admit", error) from error

    # ------------------------------------------------------------ the reply

    async def _exchange(self, context: RequestContext, turn: Turn, call: Call, way: Way, *, again: bool = True) -> OpenReply | None:
        """The call, sent; `again` where the connection that was kept for it had died."""
        try:
            reply = await turn.claim.standing.member.backend.send(call)
            try:
                opened = await self._judged(context, turn, reply, way)
            except BaseException:
                await reply.aclose()
                raise
            if opened is None:
                await reply.aclose()
            return opened
        except BackendError as error:
            if not (again and error.reused):
                raise
        return await self._exchange(context, turn, call, way, again=False)

    async def _judged(self, context: RequestContext, turn: Turn, reply: Reply, way: Way) -> OpenReply | None:
        headers = passed_back(reply.headers, way.dialect.backward, turn.claim.standing.member.backend)
        if not 200 <= reply.status < 300:
            return await self._refused_there(context, turn, _Got(reply, way, headers))
        reader = way.reader(context.request.id, turn.choice.candidate.name, int(self._clock.time()))
        try:
            head, whole = await (
                first_event(reply, reader, way.dialect.stream_type, lambda: self._clock.now() >= self._signs_until(context, turn))
                if context.facts.stream
                else whole_body(reply, reader, MAX_WHOLE_BYTES)
            )
        except ErrorAnswer as error:
            return await self._error_came(context, turn, _Got(reply, way, headers), error.complaint)
        turn.claim.answered()
        return self._opened(turn, reply, reader, way.back(headers, stream=context.facts.stream), head, whole=whole)

    def _signs_until(self, context: RequestContext, turn: Turn) -> float:
        """Comments and pings show that a server lives and still works: a long prompt may take longer than a first byte usually does."""
        return turn.patience.signs_until(turn.claim.since, context.first_byte_by or 0.0)

    async def _error_came(self, context: RequestContext, turn: Turn, got: _Got, said: Complaint) -> OpenReply | None:
        """An error that came with a 200: judged as if it had come with the status that it names."""
        found = await self._judge(context, turn, got, said.status, said)
        if found.verdict.next:
            self._tried_elsewhere(context, turn, got, found, said, said.status, "error_event", said.message)
            return None
        body = dumps(said.value) if isinstance(said.value, dict) else said.message.encode("utf-8", "replace")
        body = redacted(body, turn.claim.standing.member.backend.secrets())
        return self._rejected(context, turn, attrs.evolve(got, headers=as_json(got.headers)), found, said.status, body)

    async def _refused_there(self, context: RequestContext, turn: Turn, got: _Got) -> OpenReply | None:
        """An answer with the status of an error: the client's, or another pair's to try."""
        secrets, reply, way = tuple(turn.claim.standing.member.backend.secrets()), got.reply, got.way
        if reply.status in REJECTED_BY_STATUS:
            head, whole = await whole_body(reply, None, MAX_REJECTION_BYTES)
        else:
            head, whole = await some_body(reply), True
        head, packed = redacted(head, secrets), is_packed(reply.headers)
        said = Complaint() if packed else complaint_of(head)
        found = await self._judge(context, turn, got, reply.status, said)
        if found.verdict.next:
            words = way.dialect.read_error(head)
            message = f"answered {reply.status}" + (f": {words}" if words else "")
            self._tried_elsewhere(context, turn, got, found, said, reply.status, BY_STATUS, message)
            return None
        if not whole or (secrets and packed):  # what cannot be looked into is told anew
            head = way.dialect.error(rejected(reply.status, said.message), context.request.id)
            got = attrs.evolve(got, headers=as_json(got.headers))
        return self._rejected(context, turn, got, found, reply.status, head)

    async def _judge(self, context: RequestContext, turn: Turn, got: _Got, status: int | None, said: Complaint) -> Judged:
        again = got.way.again
        if await aside(again, said.message) if is_much(got.way.body) else again(said.message):
            raise Mended
        return await self._judging.judge(context, turn.claim, got.way, status, got.reply.headers, said)

    def _rejected(
        self, context: RequestContext, turn: Turn, got: _Got, found: Judged, status: int | None, body: bytes
    ) -> OpenReply:
        """The request's own fault, for the client to read.  It is no server's error, whatever its server made of it."""
        status = status if status is not None and status < 500 else 400
        code = code_of(found, turn.claim, rejected(status, got.way.dialect.read_error(body)).code)
        body, headers = got.way.rejection(status, got.headers, body, context.request.id)
        reply = replace(got.reply, status=status)
        return self._opened(turn, reply, None, headers, body, whole=True, code=code)

    def _opened(
        self,
        turn: Turn,
        reply: Reply,
        reader: Reader | None,
        headers: Headers,
        head: bytes,
        *,
        whole: bool,
        code: str = "",
    ) -> OpenReply:
        first_byte = self._clock.now() - turn.claim.since
        opened = OpenReply(turn.claim, turn.choice, reply, reader, headers, head, whole=whole, first_byte=first_byte, code=code)
        opened.told = turn.patience.told
        return opened

    # ------------------------------------------------------------ what did not work out

    def _told(self, context: RequestContext, turn: Turn, error: BackendError) -> tuple[str, str]:
        """The attempt's code and sentence, by what the exchange broke off with."""
        since, stream = turn.claim.since, context.facts.stream
        waited = self._clock.now() - since
        if not error.timed_out or turn.patience.had(error.code, since, context.first_byte_by, stream=stream):
            return error.code, turn.patience.told(error, waited)
        return OUT_OF_TIME, f"the time for all attempts ({self.shared(context)}) was over after {rounded(waited)} s here"

    def shared(self, context: RequestContext) -> str:
        """How long all attempts of the request may take together, in words."""
        return self._patience.shared(stream=context.facts.stream)

    def _objected(self, context: RequestContext, turn: Turn, stage: str, refusal: Refusal) -> None:
        """Nothing has left, and nothing will: routing goes on without the pair."""
        turn.claim.finish("refused", code=refusal.code)
        context.leave_out(turn.choice, forbidden(stage, refusal))

    def _tried_elsewhere(
        self,
        context: RequestContext,
        turn: Turn,
        got: _Got,
        found: Judged,
        said: Complaint,
        status: int | None,
        otherwise: str,
        message: str,
    ) -> None:
        """What the table says follows; then the attempt has failed, with the code `otherwise` where nothing but its status says why."""
        pause = self._judging.pause(found, got.reply.headers, said)
        self._judging.tell(found, turn.claim, status)
        code = code_of(found, turn.claim, otherwise)
        # whom a pause holds back need not be remembered, nor who is not asked in these words again
        learnt = NO_PATH if found.rule.fault is Fault.PATH else None  # the fleet knows: no stage need remember it, too
        again = found.rule.fault in (Fault.BUSY, Fault.PATH) and context.request.takes_slot
        self._failed(context, turn, found.verdict, code, message, sent=True, status=status, pause=pause, again=again, learnt=learnt)

    def _failed(
        self,
        context: RequestContext,
        turn: Turn,
        verdict: Verdict,
        code: str,
        message: str,
        *,
        sent: bool,
        status: int | None = None,
        pause: float | None = None,
        again: bool = False,
        learnt: str | None = None,
    ) -> None:
        candidate = turn.choice.candidate
        self._tried(context, turn, verdict.outcome, status=status, code=code, message=message)
        if pause is not None:
            context.retry_after = pause if context.retry_after is None else min(pause, context.retry_after)
        if not again:
            context.leave_out(turn.choice, tried())
        turn.claim.finish(verdict.outcome, sent=sent, status=status, code=code if learnt is None else learnt, retry_after=pause)
        if verdict.probe or code == LOADING:
            self._fleet.doubted(candidate.backend)

    def _tried(
        self, context: RequestContext, turn: Turn, outcome: str, *, status: int | None = None, code: str = "", message: str = ""
    ) -> None:
        candidate = turn.choice.candidate
        seconds = self._clock.now() - turn.claim.since
        attempt = Attempt(
            backend=candidate.backend,
            model=candidate.model,
            outcome=outcome,
            status=status,
            code=code,
            message=redacted_text(message, turn.claim.standing.member.backend.secrets()) if message else "",
            seconds=seconds,
        )
        told_again(context.attempts, attempt)


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
    passed = _passed_names(tuple(headers), prefixes)
    return (_JSON, *[(name, value if (value := headers[name]).isascii() else _as_sent(value)) for name in passed])


@functools.lru_cache(maxsize=256)
def _passed_names(names: tuple[str, ...], prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """Which of these headers a backend gets to see.  A client sends the same ones each time: they are looked through once."""
    return tuple([name for name in names if name in FORWARDED or name.startswith(prefixes)])


def _as_sent(value: str) -> str:
    """aiohttp reads headers as UTF-8, the upstream writes latin-1: the same bytes."""
    return value.encode("utf-8", "surrogateescape").decode("latin-1")
