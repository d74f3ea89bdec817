"""One request of a dialect, from its body to its last byte.  Which pair serves it is dispatch's to say, how bytes leave relay's."""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Mapping
from urllib.parse import parse_qs, urlencode

from nexus.api import Dialect, Endpoint, Facts
from nexus.aside import aside
from nexus.body import Bodies
from nexus.config import KeyConfig
from nexus.dialects.weight import is_much
from nexus.errors import CRASHES, Problem, StageError
from nexus.gateway import Gateway
from nexus.journey import Journey
from nexus.keys import CREDENTIAL_HEADERS
from nexus.model import Answered, Payload, Request, Zone
from nexus.names import matcher
from nexus.relay import Told, relay, send_estimate, send_problem
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
        accepted = self.now()
        headers = visit.headers
        for name in CREDENTIAL_HEADERS:
            headers.pop(name, None)
        told = Told(request_id(headers), dialect, common)
        payload = Payload(b"")
        journey: Journey | None = None
        self._watch.add(visit)
        try:
            payload.body = await self._bodies.read(visit)
            work = dialect.decode
            facts = await aside(work, endpoint, payload) if is_much(payload.body) else work(endpoint, payload)
            journey = journey_of(
                self._gateway,
                headers,
                payload,
                facts,
                dialect,
                endpoint,
                key,
                told.request_id,
                accepted,
                visit.peer,
                _query(visit.query, dialect) if visit.query else "",
            )
            check_key(journey)
            visit.common = told.common
            visit.keepalive = dialect.keepalive
            visit.stream_type = dialect.stream_type
            visit.streaming = journey.facts.stream
            await self._served(visit, journey, told)
        except Problem as problem:
            problem.__traceback__ = None  # it leads to frames that hold the problem: a cycle for each refusal
            problem.under(self._prefix)
            await send_problem(visit, told, problem, journey)
        except StageError as error:
            LOG.error("%s", error, exc_info=error.__cause__)
            await send_problem(visit, told, _stage_failed(error), journey)
        except ConnectionError:
            if visit.gone or not visit.complete:
                told.left()
            raise
        except asyncio.CancelledError:
            if visit.gone or not (visit.cut or visit.complete):
                told.left()
            if visit.gone or visit.complete or not visit.cut:
                raise
            await send_problem(visit, told, Problem(503, "stopping", "Nexus is stopping"), journey)
        except CRASHES as error:
            LOG.exception("request %s failed inside Nexus", told.request_id)
            await send_problem(visit, told, _internal(error), journey)
        finally:
            self._watch.remove(visit)
            self._bodies.release(payload)
            self._answered(told, journey, dialect, endpoint, accepted)
            headers.clear()  # who keeps the event for later does not keep what a client sent
            if told.opened is not None:
                await told.opened.leave()

    async def _served(self, visit: Visit, journey: Journey, told: Told) -> None:
        dispatcher = self._gateway.runtime.dispatcher
        estimate = journey.dialect.local_answer(journey.endpoint, journey.facts)
        if estimate is not None and not dispatcher.can_ask(journey):
            await send_estimate(visit, told, estimate)
            return
        try:
            opened = await dispatcher.open(journey)
        except Problem as problem:
            if estimate is None or problem.status in NOT_FOR_THIS_CLIENT:
                raise
            await send_estimate(visit, told, estimate)
            return
        told.opened = opened
        self._bodies.release(journey.payload)  # a committed answer is never asked for again
        try:
            sending = relay(visit, opened, journey, told, dispatcher.tell(opened.choice))
            if opened.whole:  # the backend has said all: how slowly the client takes it is no matter of its slot
                opened.finish(told.attempt_outcome, told.code)
            await sending
            opened.finish(told.attempt_outcome, told.code)
        except BaseException as error:
            left = isinstance(error, asyncio.CancelledError | ConnectionError)
            opened.finish("left" if left else "refused", type(error).__name__)
            raise
        finally:
            if (finished := opened.finished) is not None:
                told.attempt_outcome, told.attempt_seconds = finished.outcome, finished.seconds
            told.usage = opened.usage
            told.cost = opened.cost
            told.first_byte = opened.claim.since + opened.first_byte

    def _answered(self, told: Told, journey: Journey | None, dialect: Dialect, endpoint: Endpoint, accepted: float) -> None:
        now = self.now()
        request = (
            journey.request
            if journey
            else Request(id=told.request_id, dialect=dialect.name, task=endpoint.task, model="", accepted=accepted)
        )
        choice = told.choice
        self._gateway.tell(
            Answered(
                at=now,
                request=request,
                status=told.status,
                outcome=told.outcome,
                code=told.code,
                message=told.message,
                candidate=choice.candidate if choice else None,
                leg=choice.ask.leg if choice else None,
                reason=journey.reason if journey and choice else "",
                attempts=tuple(journey.attempts) + told.last_attempt(journey) if journey else (),
                plan=journey.plan if journey else None,
                usage=told.usage,
                cost=told.cost,
                seconds=now - accepted,
                queue_seconds=journey.queue_seconds if journey else 0.0,
                routing_seconds=journey.routing_seconds if journey else 0.0,
                first_byte=told.first_byte - accepted if told.first_byte is not None else None,
                unsent=told.unsent,
            )
        )


def journey_of(
    gateway: Gateway,
    headers: Mapping[str, str],
    payload: Payload,
    facts: Facts,
    dialect: Dialect,
    endpoint: Endpoint,
    key: KeyConfig | None,
    request_id: str,
    accepted: float,
    peer: str,
    query: str = "",
) -> Journey:
    """Headers and body, of which the dialect has told the facts, become a request and its legs.  Raises Problem (400) for headers
    that are malformed."""
    wishes = wishes_of(headers)
    if wishes.zone is Zone.RESTRICTED and "zone" not in gateway.runtime.enforced:
        raise Problem(
            400, "zone_not_enforced", "X-Nexus-Zone cannot be kept here: no active stage enforces zones", param="X-Nexus-Zone"
        )
    request = Request(
        id=request_id,
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
        accepted=accepted,
    )
    allowed = None if key is None or "*" in key.models else matcher(key.models)
    legs = gateway.runtime.names.legs(facts.model, strict=request.strict, flexible=request.flexible)
    return Journey(request, payload, facts, dialect, endpoint, legs, allowed, query)


def check_key(journey: Journey) -> None:
    """Raises Problem (403) for a model that the client's key may not use."""
    request = journey.request
    if journey.allowed is not None and not journey.allowed(request.model):
        raise Problem(403, "model_not_allowed", f"the key {request.key!r} may not use the model {request.model!r}", param="model")


def _stage_failed(error: StageError) -> Problem:
    return Problem(500, "stage_failed", f"the stage {error.stage!r} failed in {error.verb!r}; the request was not sent on")


def _internal(error: BaseException) -> Problem:
    return Problem(500, "internal_error", f"Nexus itself failed ({type(error).__name__}); its log says more")


def request_id(headers: Mapping[str, str]) -> str:
    """The client's `X-Request-Id` if it is short and printable, else a new one: unique, but no secret."""
    given = headers.get("x-request-id")
    return given if given and REQUEST_ID.fullmatch(given) else f"{random.getrandbits(128):032x}"


def _query(query: str, dialect: Dialect) -> str:
    """The parameters that the dialect passes on; "" for none."""
    if not dialect.query:
        return ""
    given = parse_qs(query, keep_blank_values=True)
    passed = [(name, given[name][0]) for name in dialect.query if name in given]
    return "?" + urlencode(passed) if passed else ""
