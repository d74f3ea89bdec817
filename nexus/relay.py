"""How an answer leaves: the head with its headers, then bytes as they come.  Nothing here chooses or retries."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Mapping

from nexus.api import Dialect
from nexus.context import RequestContext
from nexus.dialects.rejections import is_packed, rejected
from nexus.errors import BackendError, Problem
from nexus.model import COUNT
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
PENDING = {"X-Nexus-Pending": "true"}


def relay(visit: Visit, context: RequestContext, reply: OpenReply, extra: Mapping[str, str]) -> Awaitable[None]:
    """Send a committed reply.  A break after its head becomes the dialect's error event, and never a normal end.

    Awaiting it raises ConnectionError where the client is gone.
    """
    context.choice = reply.choice
    context.status = reply.status
    if reply.status >= 400:
        context.outcome, context.attempt_outcome = "refused", "rejected"
        context.code, context.message = reply.code, _said(context, reply)
    headers = _headers(context, reply, extra)
    if visit.early:
        context.unsent = {
            name: value for name, value in headers.items() if name.startswith("X-Nexus-") and name not in context.common
        }
        if reply.status >= 400:
            return _rejected_late(visit, context, reply)
    return _whole(visit, context, reply, headers) if reply.whole else _stream(visit, context, reply, headers)


async def keep_alive(visit: Visit, context: RequestContext) -> None:
    """Send a sign of life, and before it the head where the answer has not begun.  Never waits for a slow client."""
    if visit.gone or visit.behind or visit.complete or not context.streaming:
        return
    began = visit.early
    if began and not await visit.begun():
        return
    dialect = context.dialect
    visit.last_write = visit.now()
    with contextlib.suppress(OSError, RuntimeError):  # the client has just left: the next look finds out
        if not began:
            await visit.begin(200, {"Content-Type": dialect.stream_type, "Cache-Control": "no-cache", **context.common, **PENDING})
        await visit.write(dialect.keepalive)


def send_estimate(visit: Visit, context: RequestContext, body: bytes) -> Awaitable[None]:
    """Send what Nexus itself has estimated, marked as such."""
    context.status = 200
    headers = {"Content-Type": "application/json", **context.common, COUNT_HEADER: "estimated"}
    return visit.whole(200, headers, body)


async def send_problem(visit: Visit, context: RequestContext, problem: Problem) -> None:
    """Send an error in the dialect's own form: as a whole answer, or as the last event of a stream that has begun."""
    context.status, context.code, context.outcome = problem.status, problem.code, "refused"
    context.message = sentence(problem.message)
    headers = _problem_headers(problem, context)
    if await visit.begun():
        context.outcome = "broken"
        context.unsent = context.unsent or headers
        event = _event_of(context, problem)
        if event is None:
            visit.abort()
            return
        await visit.write(event)
        await visit.end()
        return
    headers = {"Content-Type": "application/json", **context.common, **headers}
    context.streaming = False
    await visit.whole(problem.status, headers, error_of(context.dialect, problem, context.id))


def error_of(dialect: Dialect, problem: Problem, request_id: str) -> bytes:
    """The error in the dialect's own form.  Where that fails, for a plugin's `context` may hold anything, with less of it: an error
    is always answered."""
    for told in (problem, Problem(problem.status, problem.code, sentence(problem.message))):
        try:
            return dialect.error(told, request_id)
        except Exception:
            LOG.exception("the error %s of the request %s cannot be told as it is", problem.code, request_id)
    return b'{"error":{"message":"the error cannot be told","type":"server_error","param":null,"code":"internal_error"}}'


def _event_of(context: RequestContext, problem: Problem) -> bytes | None:
    """As `error_of`, for a stream; None where only a cut can say it."""
    for said in (problem, Problem(problem.status, problem.code, sentence(problem.message))):
        try:
            return context.dialect.error_event(said, context.id)
        except Exception:
            LOG.exception("the error %s of the request %s cannot be told as it is", problem.code, context.id)
    return None


def _problem_headers(problem: Problem, context: RequestContext) -> dict[str, str]:
    headers = {}
    if problem.retry_after is not None:
        headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.lasting:
        headers["X-Should-Retry"] = "false"  # what OpenAI's and Anthropic's clients obey before they look at the status
    if context.legs:  # it was understood
        headers["X-Nexus-Attempts"] = str(tries(context.attempts))
        headers.update(_queue_header(context))
        if context.plan is not None and context.plan.objections:
            headers["X-Nexus-Rejection-Reasons"] = reasons_header(context.plan)
    return headers


def _whole(visit: Visit, context: RequestContext, reply: OpenReply, headers: dict[str, str]) -> Awaitable[None]:
    context.streaming = False
    if reply.choice.candidate.price is not None and reply.reader is not None:
        cost = cost_of(reply.reader.usage(), reply.choice.candidate)
        if cost is not None:
            headers["X-Nexus-Cost-Estimated"] = f"{cost:.6f}".rstrip("0").rstrip(".")
    return visit.whole(reply.status, headers, reply.head)


async def _stream(visit: Visit, context: RequestContext, reply: OpenReply, headers: dict[str, str]) -> None:
    if not await visit.begun():
        await visit.begin(reply.status, headers)
    del headers  # a stream may stay open for long
    reply.headers = ()
    now, write, read = visit.now, visit.write, reply.read
    try:
        data, reply.head = reply.head or await read(), b""
        while data:
            await write(data)
            visit.last_write = now()
            data = b""  # nobody needs the old piece while the next one is waited for
            data = await read()
    except BackendError as error:
        await _broken(visit, context, reply, error)
        return
    await visit.end()


async def _broken(visit: Visit, context: RequestContext, reply: OpenReply, error: BackendError) -> None:
    """The backend broke off: the client must see that, and not take what came for all there is."""
    context.outcome, context.attempt_outcome, context.code = "broken", of_error(error).outcome, error.code
    context.message = why = redacted_text(reply.told(error), reply.secrets)
    if not context.streaming:  # a body with a length or a JSON document has no place for an error: only a cut says it
        visit.abort()
        return
    if error.code != "error_event":  # that one has been relayed already
        backend = reply.choice.candidate.backend
        problem = Problem(502, "backend_broke_off", f"the backend {backend!r} broke off in the middle of its answer: {why}")
        event = _event_of(context, problem)
        if event is None:
            visit.abort()
            return
        await visit.write(event)
    await visit.end()


def _said(context: RequestContext, reply: OpenReply) -> str:
    """The sentence of a rejection, which is in the client's own dialect."""
    return "" if is_packed(reply.headers) else context.dialect.read_error(reply.head)


async def _rejected_late(visit: Visit, context: RequestContext, reply: OpenReply) -> None:
    """The backend rejected the request after the stream had to begin: its sentence becomes an error event."""
    await send_problem(visit, context, rejected(reply.status, _said(context, reply)))
    context.attempt_outcome, context.code = "rejected", reply.code


def _headers(context: RequestContext, reply: OpenReply, extra: Mapping[str, str]) -> dict[str, str]:
    candidate, leg = reply.choice.candidate, reply.choice.ask.leg
    headers = {
        **dict(reply.headers),
        **context.common,
        "X-Nexus-Backend": candidate.backend,
        "X-Nexus-Backend-Type": "cloud" if candidate.cloud else "local",
        "X-Nexus-Model": candidate.name,
        "X-Nexus-Privacy-Zone": candidate.zone,
        "X-Nexus-Route-Reason": context.reason,
        "X-Nexus-Attempts": str(tries(context.attempts) + 1),
    }
    if leg.index:
        headers["X-Nexus-Fallback-Model"] = candidate.name
    if context.endpoint.task == COUNT and reply.status < 400:
        headers[COUNT_HEADER] = "exact"
    if context.queue_seconds:
        headers.update(_queue_header(context))
    headers.update(extra)
    return fit(headers)


def _queue_header(context: RequestContext) -> dict[str, str]:
    return {"X-Nexus-Queue-Ms": str(round(context.queue_seconds * 1000))} if context.queue_seconds else {}
