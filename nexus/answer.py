"""One request of a dialect, from its body to its last byte.  Which pair serves it is dispatch's to say, how bytes leave relay's."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

from nexus.api import Dialect, Endpoint
from nexus.aside import aside
from nexus.body import Bodies
from nexus.config import KeyConfig
from nexus.context import RequestContext
from nexus.dialects.weight import is_much
from nexus.errors import CRASHES, Problem, StageError
from nexus.gateway import Gateway
from nexus.keys import CREDENTIAL_HEADERS
from nexus.model import Request, Zone
from nexus.names import matcher
from nexus.relay import relay, send_estimate, send_problem
from nexus.visit import Visit
from nexus.watch import Watch
from nexus.wishes import lane_of, wishes_of

LOG = logging.getLogger("nexus")
NOT_FOR_THIS_CLIENT = (403, 404)  # a model that is not there, or that the key may not use
REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")


class Answerer:
    """Answers the endpoints of all dialects, which are served under `prefix`."""

    def __init__(self, gateway: Gateway, watch: Watch, bodies: Bodies, prefix: str = "") -> None:
        self._gateway = gateway
        self._watch = watch
        self._bodies = bodies
        self._prefix = prefix
        self.now = gateway.clock.now

    async def answer(
        self, visit: Visit, dialect: Dialect, endpoint: Endpoint, key: KeyConfig | None, common: Mapping[str, str]
    ) -> None:
        """Answer it.  Emits exactly one `Answered`, whatever happens.  Raises ConnectionError where the client has gone."""
        headers = visit.headers
        for name in CREDENTIAL_HEADERS:
            headers.pop(name, None)
        context = RequestContext(request_id(headers), dialect, endpoint, self.now(), common)
        self._watch.add(visit, context)
        try:
            try:
                context.payload.body = await self._bodies.read(visit)
                await read(self._gateway, context, headers, key, peer=visit.peer, query=visit.query)
                check_key(context)
                context.streaming = context.facts.stream
                await self._served(visit, context)
            except BaseException as error:
                problem = self._problem_of(error, visit, context)
                if problem is None:
                    raise
                await send_problem(visit, context, problem)
        except (asyncio.CancelledError, ConnectionError):
            if visit.gone or not visit.complete:
                context.left()
            raise
        finally:
            self._watch.remove(visit)
            self._bodies.release(context.payload)
            self._gateway.tell(context.answered(self.now()))
            headers.clear()  # who keeps the event for later does not keep what a client sent
            if context.reply is not None:
                await context.reply.leave()

    def _problem_of(self, error: BaseException, visit: Visit, context: RequestContext) -> Problem | None:
        """What the client is told of an error; None where there is nobody to be told."""
        match error:
            case Problem():
                error.__traceback__ = None  # it leads to frames that hold the problem: a cycle for each refusal
                error.under(self._prefix)
                return error
            case StageError():
                LOG.error("%s", error, exc_info=error.__cause__)
                return _stage_failed(error)
            case asyncio.CancelledError() if context.stopping and not (visit.gone or visit.complete):
                return Problem(503, "stopping", "Nexus is stopping")
            case ConnectionError():
                return None
            case _ if isinstance(error, CRASHES):
                LOG.exception("request %s failed inside Nexus", context.id)
                return _internal(error)
        return None

    async def _served(self, visit: Visit, context: RequestContext) -> None:
        dispatcher = self._gateway.runtime.dispatcher
        estimate = context.dialect.local_answer(context.endpoint, context.facts)
        if estimate is not None and not dispatcher.decider.can_ask(context):
            await send_estimate(visit, context, estimate)
            return
        try:
            reply = context.reply = await dispatcher.open(context)
        except Problem as problem:
            if estimate is None or problem.status in NOT_FOR_THIS_CLIENT:
                raise
            await send_estimate(visit, context, estimate)
            return
        self._bodies.release(context.payload)  # a committed answer is never asked for again
        try:
            await relay(visit, context, reply, dispatcher.tell(reply.choice))
            reply.finish(context.attempt_outcome, context.code)
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError | ConnectionError)
            reply.finish("left" if left else "refused", type(error).__name__)
            if context.choice is None:  # the server has answered, of which the client gets nothing
                context.attempts.append(context.attempt_of(reply))
            raise


async def read(
    gateway: Gateway,
    context: RequestContext,
    headers: Mapping[str, str],
    key: KeyConfig | None,
    *,
    peer: str = "",
    query: str = "",
) -> None:
    """Read what the body and the headers mean.  Raises Problem (400; 413) for what is malformed."""
    dialect, endpoint, payload = context.dialect, context.endpoint, context.payload
    work = dialect.decode
    facts = context.facts = await aside(work, endpoint, payload) if is_much(payload.body) else work(endpoint, payload)
    wishes = wishes_of(headers)
    if wishes.zone is Zone.RESTRICTED and "zone" not in gateway.runtime.enforced:
        raise Problem(
            400, "zone_not_enforced", "X-Nexus-Zone cannot be kept here: no active stage enforces zones", param="X-Nexus-Zone"
        )
    context.request = Request(
        id=context.id,
        dialect=dialect.name,
        task=endpoint.task,
        takes_slot=endpoint.takes_slot,
        model=facts.model,
        stream=facts.stream,
        needs=facts.needs,
        tokens_low=facts.tokens_low,
        tokens_high=facts.tokens_high,
        max_output_tokens=facts.max_output_tokens,
        n=facts.n,
        headers=headers,
        peer=peer,
        key=key.name if key else None,
        priority=lane_of(wishes, key.priority if key else None),
        session=wishes.session,
        strict=wishes.strict,
        flexible=wishes.flexible,
        zone=wishes.zone,
        accepted=context.accepted,
    )
    context.allowed = None if key is None or "*" in key.models else matcher(key.models)
    context.legs = gateway.runtime.names.legs(facts.model, strict=wishes.strict, flexible=wishes.flexible)
    context.query = _passed_on(query, dialect) if query else ""


def check_key(context: RequestContext) -> None:
    """Raises Problem (403) for a model that the client's key may not use."""
    request = context.request
    if context.allowed is not None and not context.allowed(request.model):
        raise Problem(403, "model_not_allowed", f"the key {request.key!r} may not use the model {request.model!r}", param="model")


def _stage_failed(error: StageError) -> Problem:
    kept = "the answer" if error.verb == "tell" else "the request"
    return Problem(500, "stage_failed", f"the stage {error.stage!r} failed in {error.verb!r}; {kept} was not sent on")


def _internal(error: BaseException) -> Problem:
    return Problem(500, "internal_error", f"Nexus itself failed ({type(error).__name__}); its log says more")


def request_id(headers: Mapping[str, str]) -> str:
    """The client's `X-Request-Id` if it is short and printable, else a new one: unique, but no secret."""
    given = headers.get("x-request-id")
    return given if given and REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def _passed_on(query: str, dialect: Dialect) -> str:
    """The parameters that the dialect passes on; "" for none."""
    if not dialect.query:
        return ""
    given = parse_qs(query, keep_blank_values=True)
    passed = [(name, given[name][0]) for name in dialect.query if name in given]
    return "?" + urlencode(passed) if passed else ""
