"""How an answer leaves: the head with its headers, then bytes as they come.  Nothing here chooses or retries."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Mapping

from nexus.api import Dialect
from nexus.dialects.rejections import is_packed, rejected
from nexus.errors import BackendError, Problem
from nexus.journey import Journey
from nexus.model import COUNT, EMPTY, NO_USAGE, Attempt, Choice, Usage
from nexus.model.attempt import tries
from nexus.outcome import of_error
from nexus.plain import headers as fit
from nexus.plain import sentence
from nexus.redaction import redacted_text
from nexus.reply import OpenReply, cost_of
from nexus.verdict import reasons_header
from nexus.visit import Visit

LOG = logging.getLogger("nexus")
COUNT_HEADER = "X-Nexus-Token-Count"


class Told:
    """What the client was told, for the `Answered` event.  `common` are the headers of every answer.

    `message` is an error's sentence.
    `unsent` are the headers that came too late for an answer whose head had to be sent early, `opened` is what must be left
    when all is told.  `attempt_outcome` is how the last exchange ended, as in `Finished`, `attempt_seconds` how long it took.
    """

    __slots__ = (
        "attempt_outcome",
        "attempt_seconds",
        "choice",
        "code",
        "common",
        "cost",
        "dialect",
        "first_byte",
        "message",
        "opened",
        "outcome",
        "request_id",
        "status",
        "unsent",
        "usage",
    )

    def __init__(self, request_id: str, dialect: Dialect, common: Mapping[str, str]) -> None:
        self.request_id = request_id
        self.common = {"X-Nexus-Request-Id": request_id, **common}
        self.dialect = dialect
        self.status = 0
        self.outcome = "ok"
        self.code = self.message = ""
        self.attempt_outcome = "ok"
        self.attempt_seconds = 0.0
        self.choice: Choice | None = None
        self.usage: Usage = NO_USAGE
        self.cost: float | None = None
        self.first_byte: float | None = None
        self.unsent: Mapping[str, str] = EMPTY
        self.opened: OpenReply | None = None

    def left(self) -> None:
        """The client went before its answer was complete."""
        self.outcome = "client_left"
        self.status = self.status or 499
        self.code = "client_left"

    def last_attempt(self, journey: Journey | None) -> tuple[Attempt, ...]:
        """The attempt that answered, as the last line of the story."""
        if self.choice is None:
            return ()
        candidate = self.choice.candidate
        return (
            Attempt(
                backend=candidate.backend,
                model=candidate.model,
                outcome=self.attempt_outcome,
                status=self.status,
                code=self.code,
                message=self.message,
                seconds=self.attempt_seconds,
            ),
        )


def relay(visit: Visit, opened: OpenReply, journey: Journey, told: Told, extra: Mapping[str, str]) -> Awaitable[None]:
    """Send a committed reply.  A break after its head becomes the dialect's error event, and never a normal end.

    Awaiting it raises ConnectionError where the client is gone.
    """
    told.choice = opened.choice
    told.status = opened.status
    if opened.status >= 400:
        told.outcome, told.attempt_outcome = "refused", "rejected"
        told.code, told.message = opened.code, _said(opened, told)
    headers = _headers(opened, journey, told, extra)
    if visit.early:
        told.unsent = {name: value for name, value in headers.items() if name.startswith("X-Nexus-") and name not in told.common}
        if opened.status >= 400:
            return _rejected_late(visit, opened, told)
    return _whole(visit, opened, told, headers) if opened.whole else _stream(visit, opened, told, headers)


def send_estimate(visit: Visit, told: Told, body: bytes) -> Awaitable[None]:
    """Send what Nexus itself has estimated, marked as such."""
    told.status = 200
    headers = {"Content-Type": "application/json", **told.common, COUNT_HEADER: "estimated"}
    return visit.whole(200, headers, body)


async def send_problem(visit: Visit, told: Told, problem: Problem, journey: Journey | None) -> None:
    """Send an error in the dialect's own form: as a whole answer, or as the last event of a stream that has begun."""
    told.status, told.code, told.outcome = problem.status, problem.code, "refused"
    told.message = sentence(problem.message)
    headers = _problem_headers(problem, journey)
    if await visit.begun():
        told.outcome = "broken"
        told.unsent = told.unsent or headers
        event = _event_of(told, problem)
        if event is None:
            visit.abort()
            return
        await visit.write(event)
        await visit.end()
        return
    headers = {"Content-Type": "application/json", **told.common, **headers}
    visit.streaming = False
    await visit.whole(problem.status, headers, error_of(told.dialect, problem, told.request_id))


def error_of(dialect: Dialect, problem: Problem, request_id: str) -> bytes:
    """The error in the dialect's own form.  Where that fails, for a plugin's `context` may hold anything, with less of it: an error
    is always answered."""
    for told in (problem, Problem(problem.status, problem.code, sentence(problem.message))):
        try:
            return dialect.error(told, request_id)
        except Exception:
            LOG.exception("the error %s of the request %s cannot be told as it is", problem.code, request_id)
    return b'{"error":{"message":"the error cannot be told","type":"server_error","param":null,"code":"internal_error"}}'


def _event_of(told: Told, problem: Problem) -> bytes | None:
    """As `error_of`, for a stream; None where only a cut can say it."""
    for said in (problem, Problem(problem.status, problem.code, sentence(problem.message))):
        try:
            return told.dialect.error_event(said, told.request_id)
        except Exception:
            LOG.exception("the error %s of the request %s cannot be told as it is", problem.code, told.request_id)
    return None


def _problem_headers(problem: Problem, journey: Journey | None) -> dict[str, str]:
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.lasting:
        headers["X-Should-Retry"] = "false"  # what OpenAI's and Anthropic's clients obey before they look at the status
    if journey is not None:
        headers["X-Nexus-Attempts"] = str(tries(journey.attempts))
        headers.update(_queue_header(journey))
        if journey.plan is not None and journey.plan.objections:
            headers["X-Nexus-Rejection-Reasons"] = reasons_header(journey.plan)
    return headers


def _whole(visit: Visit, opened: OpenReply, told: Told, headers: dict[str, str]) -> Awaitable[None]:
    visit.streaming = False
    if opened.choice.candidate.price is not None and opened.reader is not None:
        cost = cost_of(opened.reader.usage(), opened.choice.candidate)
        if cost is not None:
            headers["X-Nexus-Cost-Estimated"] = f"{cost:.6f}".rstrip("0").rstrip(".")
    return visit.whole(opened.status, headers, opened.head)


async def _stream(visit: Visit, opened: OpenReply, told: Told, headers: dict[str, str]) -> None:
    if not await visit.begun():
        await visit.begin(opened.status, headers)
    del headers  # a stream may stay open for long
    opened.headers = ()
    now, write, read = visit.now, visit.write, opened.read
    try:
        data, opened.head = opened.head or await read(), b""
        while data:
            await write(data)
            visit.last_write = now()
            data = b""  # nobody needs the old piece while the next one is waited for
            data = await read()
    except BackendError as error:
        await _broken(visit, opened, told, error)
        return
    await visit.end()


async def _broken(visit: Visit, opened: OpenReply, told: Told, error: BackendError) -> None:
    """The backend broke off: the client must see that, and not take what came for all there is."""
    told.outcome, told.attempt_outcome, told.code = "broken", of_error(error).outcome, error.code
    told.message = why = redacted_text(opened.told(error), opened.secrets)
    if not visit.streaming:  # a body with a length or a JSON document has no place for an error: only a cut says it
        visit.abort()
        return
    if error.code != "error_event":  # that one has been relayed already
        backend = opened.choice.candidate.backend
        problem = Problem(502, "backend_broke_off", f"the backend {backend!r} broke off in the middle of its answer: {why}")
        event = _event_of(told, problem)
        if event is None:
            visit.abort()
            return
        await visit.write(event)
    await visit.end()


def _said(opened: OpenReply, told: Told) -> str:
    """The sentence of a rejection, which is in the client's own dialect."""
    return "" if is_packed(opened.headers) else told.dialect.read_error(opened.head)


async def _rejected_late(visit: Visit, opened: OpenReply, told: Told) -> None:
    """The backend rejected the request after the stream had to begin: its sentence becomes an error event."""
    await send_problem(visit, told, rejected(opened.status, _said(opened, told)), None)
    told.attempt_outcome, told.code = "rejected", opened.code


def _headers(opened: OpenReply, journey: Journey, told: Told, extra: Mapping[str, str]) -> dict[str, str]:
    candidate, leg = opened.choice.candidate, opened.choice.ask.leg
    headers = {
        **dict(opened.headers),
        **told.common,
        "X-Nexus-Backend": candidate.backend,
        "X-Nexus-Backend-Type": "cloud" if candidate.cloud else "local",
        "X-Nexus-Model": candidate.name,
        "X-Nexus-Privacy-Zone": candidate.zone,
        "X-Nexus-Route-Reason": journey.reason,
        "X-Nexus-Attempts": str(tries(journey.attempts) + 1),
    }
    if leg.index:
        headers["X-Nexus-Fallback-Model"] = candidate.name
    if journey.endpoint.task == COUNT and opened.status < 400:
        headers[COUNT_HEADER] = "exact"
    if journey.queue_seconds:
        headers.update(_queue_header(journey))
    headers.update(extra)
    return fit(headers)


def _queue_header(journey: Journey) -> dict[str, str]:
    return {"X-Nexus-Queue-Ms": str(round(journey.queue_seconds * 1000))} if journey.queue_seconds else {}
