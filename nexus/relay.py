"""How an answer leaves: the head with its headers, then bytes as they come.  Nothing here chooses or retries."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Mapping

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
from nexus.reply import OpenReply
from nexus.verdict import reasons_header
from nexus.visit import Visit

LOG = logging.getLogger("nexus")
COUNT_HEADER = "X-Nexus-Token-Count"
PENDING = {"X-Nexus-Pending": "true"}
UNTELLABLE = b'{"error":{"message":"the error cannot be told","type":"server_error","param":null,"code":"internal_error"}}'


def relay(visit: Visit, context: RequestContext, reply: OpenReply, extra: Mapping[str, str]) -> Awaitable[None]:
    """Send a committed reply.  A break after its head becomes the dialect's error event, and never a normal end.

    Awaiting it raises ConnectionError where the client is gone.
    """
    rejected_there = reply.status >= 400
    if rejected_there:
        context.outcome, context.attempt_outcome = "refused", "rejected"
        context.code, context.message = reply.code, _said(context, reply)
    if reply.whole:  # the backend has said all: how slowly the client takes it is no matter of its slot
        reply.finish(context.attempt_outcome, context.code)
    headers = _headers(context, reply, extra)
    context.choice = reply.choice
    if visit.early:
        context.unsent = _unsent(context, headers)
        if rejected_there:  # the server's sentence becomes an error event
            problem = rejected(reply.status, context.message)
            problem.code = reply.code
            return send_problem(visit, context, problem)
    else:
        context.status = reply.status
    if reply.whole:
        context.streaming = False
        return visit.whole(reply.status, headers, reply.head)
    return _stream(visit, context, reply, headers)


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
            context.status = 200
            await visit.begin(200, {"Content-Type": dialect.stream_type, "Cache-Control": "no-cache", **context.common, **PENDING})
        await visit.write(dialect.keepalive)


def send_estimate(visit: Visit, context: RequestContext, body: bytes) -> Awaitable[None]:
    """Send what Nexus itself has estimated, marked as such."""
    context.status = 200
    headers = {"Content-Type": "application/json", **context.common, COUNT_HEADER: "estimated"}
    return visit.whole(200, headers, body)


async def send_problem(visit: Visit, context: RequestContext, problem: Problem) -> None:
    """Send an error in the dialect's own form: as a whole answer, or as the last event of a stream that has begun."""
    context.code, context.message = problem.code, sentence(problem.message)
    headers = _problem_headers(problem, context)
    if await visit.begun():
        context.outcome = "broken"
        if context.choice is None:  # its head was sent without any
            context.unsent = _unsent(context, headers)
        await _break_off(visit, context, problem)
        return
    context.status, context.outcome, context.streaming = problem.status, "refused", False
    headers = {"Content-Type": "application/json", **context.common, **headers}
    await visit.whole(problem.status, headers, error_of(context.dialect, problem, context.id))


def error_of(dialect: Dialect, problem: Problem, request_id: str) -> bytes:
    """The error in the dialect's own form: an error is always answered."""
    return _told(dialect.error, problem, request_id) or UNTELLABLE


def _told(tell: Callable[[Problem, str], bytes], problem: Problem, request_id: str) -> bytes | None:
    """The error as a dialect tells it, with less of it where that fails: a plugin's `context` may hold anything.  None where nothing
    can be told."""
    for told in (problem, Problem(problem.status, problem.code, sentence(problem.message))):
        try:
            return tell(told, request_id)
        except Exception:
            LOG.exception("the error %s of the request %s cannot be told as it is", problem.code, request_id)
    return None


async def _break_off(visit: Visit, context: RequestContext, problem: Problem) -> None:
    """End what has begun with an error event.  A body with a length or a JSON document has no place for one: only a cut says it."""
    event = _told(context.dialect.error_event, problem, context.id) if context.streaming else None
    if event is None:
        visit.abort()
        return
    await visit.write(event)
    await visit.end()


def _problem_headers(problem: Problem, context: RequestContext) -> dict[str, str]:
    headers = problem.headers()
    if context.legs:  # it was understood
        headers["X-Nexus-Attempts"] = str(tries(context.attempts))
        headers.update(_queue_header(context))
        if context.plan is not None and context.plan.objections:
            headers["X-Nexus-Rejection-Reasons"] = reasons_header(context.plan)
    return headers


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
    if context.streaming and error.code == "error_event":  # which has been relayed already
        await visit.end()
        return
    backend = reply.choice.candidate.backend
    why = f"the backend {backend!r} broke off in the middle of its answer: {why}"
    await _break_off(visit, context, Problem(502, "backend_broke_off", why))


def _said(context: RequestContext, reply: OpenReply) -> str:
    """The sentence of a rejection, which is in the client's own dialect."""
    return "" if is_packed(reply.headers) else context.dialect.read_error(reply.head)


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
    if reply.whole and reply.finished is not None and (cost := reply.finished.cost) is not None:
        headers["X-Nexus-Cost-Estimated"] = f"{cost:.6f}".rstrip("0").rstrip(".")
    headers.update(_queue_header(context))
    headers.update(extra)
    return fit(headers)


def _queue_header(context: RequestContext) -> dict[str, str]:
    return {"X-Nexus-Queue-Ms": str(round(context.queue_seconds * 1000))} if context.queue_seconds else {}


def _unsent(context: RequestContext, headers: Mapping[str, str]) -> dict[str, str]:
    """Those of Nexus that come too late for the head, which had the common ones."""
    return {name: value for name, value in headers.items() if name.startswith("X-Nexus-") and name not in context.common}
