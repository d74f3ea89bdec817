"""Events and plans as JSON-able dictionaries, for people and for `/nexus/*`.  Nothing is kept here, and no route is served.

Never in it: what was asked or answered, headers, keys (the name of a key is not a key).  What a backend said of a failed attempt
is in the full story of a request only, not in its line.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from nexus.api import Clock
from nexus.model import (
    Answered,
    Candidate,
    Choice,
    Claimed,
    Demand,
    Event,
    Finished,
    Joined,
    Left,
    Leg,
    Objection,
    Plan,
    Probed,
    Queued,
    Request,
    Usage,
)
from nexus.observers.line import line_of, milliseconds
from nexus.sentences import hint, in_spite_of, sentence

Json = dict[str, Any]


def iso(seconds: float) -> str:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds: `2030-01-31T12:00:00.000Z`."""
    thousandths = round(seconds * 1000)
    return f"{_whole_second(thousandths // 1000)}.{thousandths % 1000:03}Z"


# A busy log asks for the same second over and over: 0.7 µs instead of 2.7 for a time.
@lru_cache(maxsize=8)
def _whole_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def wall_time(event: Event, clock: Clock) -> str:
    """When an event happened, as people say it."""
    return iso(clock.time() - clock.now() + event.at)


def ms(seconds: float | None) -> float | None:
    return None if seconds is None else milliseconds(seconds)


# ---------------------------------------------------------------- requests


def answered_json(event: Answered, clock: Clock | None = None) -> Json:
    """The whole story of one request.  `time`, when it ended, is None without a clock."""
    return {
        "time": wall_time(event, clock) if clock else None,
        "request": request_json(event.request),
        "outcome": event.outcome,
        "status": event.status,
        "code": event.code or None,
        "message": event.message or None,
        "reason": event.reason or None,
        "answered_by": _pair(event.candidate) if event.candidate else None,
        "leg": leg_json(event.leg) if event.leg else None,
        "attempts": [msgspec.structs.asdict(attempt) for attempt in event.attempts],
        **(plan_json(event.plan) if event.plan else {"demand": None, "choices": [], "refusals": []}),
        "timings": timings_json(event),
        "usage": usage_json(event.usage),
        "cost_usd": event.cost,
        "unsent_headers": dict(event.unsent),
    }


def request_json(request: Request) -> Json:
    return {
        "id": request.id,
        "dialect": request.dialect,
        "task": request.task,
        "model": request.model,
        "stream": request.stream,
        "needs": sorted(request.needs),
        "tokens_low": request.tokens_low,
        "tokens_high": request.tokens_high,
        "max_output_tokens": request.max_output_tokens,
        "n": request.n,
        "peer": request.peer,
        "key": request.key,
        "priority": request.priority.value,
        "strict": request.strict,
        "flexible": request.flexible,
        "zone": request.zone.value,
    }


def timings_json(event: Answered) -> Json:
    return {
        "queue_ms": ms(event.queue_seconds),
        "routing_ms": ms(event.routing_seconds),
        "first_byte_ms": ms(event.first_byte),
        "total_ms": ms(event.seconds),
    }


def usage_json(usage: Usage) -> Json:
    return msgspec.structs.asdict(usage)


# ---------------------------------------------------------------- plans


def plan_json(plan: Plan) -> Json:
    """What was demanded, who may have the request, best first, and every objection with its reason in words."""
    return {
        "demand": demand_json(plan.demand),
        "choices": [choice_json(choice) for choice in plan.choices],
        "refusals": [objection_json(objection) for objection in plan.objections],
    }


def leg_json(leg: Leg) -> Json:
    return {"index": leg.index, "name": leg.name, "trail": list(leg.trail), "any_model": leg.any_model}


def demand_json(demand: Demand) -> Json:
    return {
        "zone": demand.zone.value,
        "min_tier": demand.min_tier,
        "needs": sorted(demand.needs),
        "context": demand.context,
    }


def choice_json(choice: Choice) -> Json:
    return {
        **_pair(choice.candidate),
        "leg": choice.ask.leg.index,
        "score_seconds": choice.score,
        "parts": dict(choice.parts),
        "in_spite_of": in_spite_of(choice.candidate),
    }


def objection_json(objection: Objection) -> Json:
    refusal = objection.refusal
    return {
        "backend": objection.candidate.backend,
        "model": objection.candidate.name,
        "leg": objection.leg,
        "stage": objection.stage,
        "kind": refusal.kind.value,
        "reason": refusal.code,
        "sentence": sentence(refusal, objection.candidate),
        "hint": hint(refusal),
        "data": _plain(refusal.data),
    }


def _pair(candidate: Candidate) -> Json:
    return {
        "backend": candidate.backend,
        "kind": candidate.kind,
        "model": candidate.name,
        "zone": candidate.zone.value,
        "tier": candidate.tier,
        "cloud": candidate.cloud,
    }


def _plain(value: Any) -> Any:
    """A stage may put anything into a refusal's data; what JSON does not know is told as text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted(str(item) for item in value)
    return str(value)


# ---------------------------------------------------------------- the live feed


def event_json(event: Event, clock: Clock) -> Json:
    """Any event, short: its type in lower case, its time, and what it is about."""
    facts = _FACTS.get(type(event))
    return {"type": type(event).__name__.lower(), "time": wall_time(event, clock), **(facts(event) if facts else {})}


def _answered(event: Answered) -> Json:
    return line_of(event).json()


def _attempt(event: Claimed | Finished) -> Json:
    return {
        "id": event.request.id,
        "claim": event.claim,
        "backend": event.candidate.backend,
        "model": event.candidate.name,
    }


def _finished(event: Finished) -> Json:
    return {
        **_attempt(event),
        "outcome": event.outcome,
        "status": event.status,
        "code": event.code or None,
        "total_ms": ms(event.seconds),
    }


def _queued(event: Queued) -> Json:
    return {"id": event.request.id, "lane": event.lane.value, "waiting": event.waiting, "depth": event.depth}


def _joined(event: Joined) -> Json:
    return {"backend": event.backend, "kind": event.kind, "url": event.url, "source": event.source}


def _left(event: Left) -> Json:
    return {"backend": event.backend}


def _probed(event: Probed) -> Json:
    return {
        "backend": event.backend,
        "health": event.health.value,
        "models": event.models,
        "problem": event.problem or None,
        "changed": event.changed,
        "total_ms": ms(event.seconds),
    }


_FACTS: Mapping[type[Event], Any] = {
    Answered: _answered,
    Claimed: _attempt,
    Finished: _finished,
    Queued: _queued,
    Joined: _joined,
    Left: _left,
    Probed: _probed,
}
