"""What would happen to a request now, for `POST /nexus/explain`.  The dispatcher decides it; nothing is sent, no route is served."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nexus.answer import NOT_FOR_THIS_CLIENT, check_key, read, request_id
from nexus.api import Dialect, Endpoint
from nexus.aside import aside
from nexus.config import KeyConfig
from nexus.context import RequestContext
from nexus.dialects.jsontext import dumps, loads
from nexus.dialects.weight import TooMany, is_much
from nexus.dispatch import Dispatcher, Outlook
from nexus.errors import Problem, StageError
from nexus.gateway import Gateway
from nexus.model import Choice
from nexus.observers.render import choice_json, demand_json, leg_json, objection_json
from nexus.plain import whole
from nexus.slices import in_slices

Json = dict[str, Any]


async def explained(gateway: Gateway, dialects: tuple[Dialect, ...], raw: bytes) -> Json:
    """The answer to the body `raw`.  Raises Problem where that body, its path or its key is wrong, not where the request in it is."""
    asked, request = await aside(_asked, raw) if is_much(raw) else _asked(raw)
    dialect, endpoint = _endpoint(dialects, asked.get("path") or "/v1/chat/completions")
    headers = {whole(str(name)).lower(): whole(str(value)) for name, value in asked.get("headers", {}).items()}
    key = _named_key(gateway, asked.get("key"))
    context = RequestContext(request_id(headers), dialect, endpoint, gateway.clock.now())
    context.payload.body = request
    try:
        await read(gateway, context, headers, key)
        check_key(context)
    except Problem as problem:
        return _malformed(asked["request"], endpoint, problem)
    try:
        return await _foreseen(gateway, context)
    except StageError as error:
        raise Problem(500, "stage_failed", str(error)) from error


async def _foreseen(gateway: Gateway, context: RequestContext) -> Json:
    """A plan over a large fleet is long: it is told a few pairs in a turn of the loop."""
    dispatcher, request = gateway.runtime.dispatcher, context.request
    outlook = await dispatcher.outlook(context)
    await asyncio.sleep(0)
    whole = dispatcher.decider.plan(context, whole=True)
    choices: list[Json] = []
    refusals: list[Json] = []
    await in_slices(whole.choices, lambda choice: choices.append(_choice(gateway, choice)))
    await in_slices(whole.objections, lambda objection: refusals.append(objection_json(objection)))
    return {
        "request": {"model": request.model, "task": request.task, "stream": request.stream},
        "legs": [leg_json(leg) for leg in whole.legs],
        "demand": demand_json(whole.demand),
        "choices": choices,
        "refusals": refusals,
        **(_estimated() if _answers_itself(gateway, context, outlook) else _told(dispatcher, context, outlook)),
    }


def _choice(gateway: Gateway, choice: Choice) -> Json:
    """Beside one that something speaks against, what its server or its probes have said."""
    told = choice_json(choice)
    standing = gateway.fleet.standings.get(choice.candidate.backend) if told["in_spite_of"] else None
    pair = None if standing is None else standing.pairs.get(choice.candidate.model)
    records = [whose.record for whose in (standing, pair) if whose is not None]
    left_out = [record.reason for record in records if record is not None and record.ejected_until]
    problem = standing.problem if standing is not None else ""
    told["problem"] = "; ".join(filter(None, (problem, *left_out))) or None
    return told


def _answers_itself(gateway: Gateway, context: RequestContext, outlook: Outlook) -> bool:
    """Whether Nexus gives its own estimate, since no server can be asked now that a chat would go to first."""
    dispatcher = gateway.runtime.dispatcher
    if context.dialect.local_answer(context.endpoint, context.facts) is None:
        return False
    if outlook.problem is not None:
        return outlook.problem.status not in NOT_FOR_THIS_CLIENT
    return outlook.decision.choice is None or not dispatcher.decider.can_ask(context)


def _told(dispatcher: Dispatcher, context: RequestContext, outlook: Outlook) -> Json:
    plan, choice = outlook.decision.plan, outlook.decision.choice
    return {
        "outlook": outlook.decision.word,
        "wait_seconds": outlook.wait_seconds,
        "route_reason": dispatcher.decider.reason(context, plan, choice) if choice else None,
        "error": _error(outlook.problem) if outlook.problem else None,
    }


def _estimated() -> Json:
    return {"outlook": "estimated", "wait_seconds": None, "route_reason": None, "error": None}


def _malformed(body: Mapping[str, Any], endpoint: Endpoint, problem: Problem) -> Json:
    """The request gets no further than its own reading, or its key does not let it."""
    model = body.get("model")
    return {
        "request": {
            "model": model if isinstance(model, str) else "",
            "task": endpoint.task,
            "stream": body.get("stream") is True,
        },
        "legs": [],
        "demand": None,
        "choices": [],
        "refusals": [],
        "outlook": "refused",
        "wait_seconds": None,
        "route_reason": None,
        "error": _error(problem),
    }


def _error(problem: Problem) -> Json:
    return {"status": problem.status, "code": problem.code, "message": problem.message}


# ---------------------------------------------------------------- what was asked


def _asked(raw: bytes) -> tuple[Mapping[str, Any], bytes]:
    """All of it, and the body of the request by itself."""
    try:
        asked = loads(raw)
    except TooMany as error:
        raise Problem(413, "request_too_large", f"the body has {error}: send less at a time") from None
    except ValueError:
        raise Problem(400, "invalid_request", 'the body must be JSON: {"request": {the body of the request to explain}}') from None
    headers = asked.get("headers", {}) if isinstance(asked, dict) else None
    if not isinstance(asked, dict) or not isinstance(asked.get("request"), dict) or not isinstance(headers, dict):
        raise Problem(
            400, "invalid_request", 'give {"request": {the body of the request to explain}, "headers": {…}}', param="request"
        )
    return asked, dumps(asked["request"])


def _endpoint(dialects: tuple[Dialect, ...], path: object) -> tuple[Dialect, Endpoint]:
    for dialect in dialects:
        for endpoint in dialect.endpoints:
            if endpoint.path == path:
                return dialect, endpoint
    raise Problem(400, "invalid_request", f"no dialect has the path {str(path)[:200]!r}", param="path")


def _named_key(gateway: Gateway, name: object) -> KeyConfig | None:
    if name is None:
        return None
    key = next((k for k in gateway.config.keys if k.name == name), None)
    if key is None:
        raise Problem(400, "invalid_request", f"no key is called {str(name)[:200]!r}", param="key")
    return key
