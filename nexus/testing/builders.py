"""The values that flow through Nexus, with sensible defaults: a test names only what it is about.

`a_scope`, which opens real things, is in `scope`.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

from nexus.model import (
    NO_DEMAND,
    Answered,
    Ask,
    Attempt,
    Call,
    Candidate,
    Choice,
    Claimed,
    Demand,
    Event,
    Finished,
    Health,
    Joined,
    Lane,
    Left,
    Leg,
    Model,
    Objection,
    Plan,
    Price,
    Probed,
    Queued,
    Refusal,
    RefusalKind,
    Report,
    Request,
    State,
    Usage,
    Zone,
)

_ids = itertools.count(1)


class FakeClock:
    """A clock that stands still until the test moves it.  Starts at 1,000 s, and on 2026-01-01 for people."""

    EPOCH = 1_767_225_600.0

    def __init__(self, now: float = 1000.0) -> None:
        self._start = self._now = now

    def now(self) -> float:
        return self._now

    def time(self) -> float:
        return self.EPOCH + self._now - self._start

    def advance(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self._now += seconds


def a_body(model: str = "tiny", **fields: Any) -> bytes:
    """The body of a chat request, as compact as clients write it."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
    return json.dumps(body, separators=(",", ":")).encode()


def a_request(**kw: Any) -> Request:
    """A short chat request for the model `tiny`."""
    defaults: dict[str, Any] = {
        "id": f"req-{next(_ids)}",
        "dialect": "openai",
        "task": "chat",
        "model": "tiny",
        "tokens_low": 2,
        "tokens_high": 12,
    }
    return Request(**defaults | kw)


def a_leg(name: str = "tiny", **kw: Any) -> Leg:
    """Leg 0, for one model."""
    defaults: dict[str, Any] = {"index": 0, "name": name, "ids": (name,), "trail": (name,)}
    return Leg(**defaults | kw)


def a_candidate(**kw: Any) -> Candidate:
    """A healthy home pair that chats."""
    defaults: dict[str, Any] = {
        "backend": "home",
        "kind": "openai-compatible",
        "model": "tiny",
        "offers": {"chat": True},
        "health": Health.HEALTHY,
        "state": State.READY,
        "speaks": frozenset({("openai", "chat")}),
    }
    given = defaults | kw
    return Candidate(**{"name": given["model"]} | given)


def an_ask(*, demand: Demand = NO_DEMAND, leg: Leg | None = None, request: Request | None = None, **kw: Any) -> Ask:
    """What stages judge by; further words are the request's."""
    request = request or a_request(**kw)
    return Ask(request=request, leg=leg or a_leg(request.model), demand=demand)


def a_call(*, ask: Ask | None = None, candidate: Candidate | None = None, **kw: Any) -> Call:
    """One attempt at a chat, without a deadline."""
    candidate = candidate or a_candidate()
    defaults: dict[str, Any] = {
        "ask": ask or an_ask(),
        "candidate": candidate,
        "dialect": "openai",
        "task": "chat",
        "path": "/v1/chat/completions",
        "headers": (("content-type", "application/json"),),
        "body": a_body(candidate.model),
        "stream": False,
        "first_byte_by": math.inf,
        "answer_by": None,
        "idle_timeout": 60.0,
    }
    return Call(**defaults | kw)


def a_model(id: str = "tiny", **kw: Any) -> Model:
    """A loaded chat model."""
    defaults: dict[str, Any] = {"offers": {"chat": True}, "state": State.READY, "speaks": frozenset({("openai", "chat")})}
    return Model(id=id, **defaults | kw)


def a_report(*models: Model | str, **kw: Any) -> Report:
    """A server that is well and has these models (default: `tiny`)."""
    known = tuple(a_model(model) if isinstance(model, str) else model for model in models or ("tiny",))
    defaults: dict[str, Any] = {"ok": True, "models": known}
    return Report(**defaults | kw)


# ---------------------------------------------------------------- odd ones, for contracts


def odd_candidates() -> tuple[Candidate, ...]:
    """Candidates of which nothing is known, and ones that are extreme."""
    return (
        Candidate(backend="", kind="", model="", name=""),
        a_candidate(),
        a_candidate(backend="dïä/…\n", model="a/b:c\r\n\0", cloud=True, zone=Zone.OPEN, tier=5, priority=-1),
        a_candidate(context=0, context_max=0, capacity=0, in_flight=10**9, backend_in_flight=10**9, load=0, speed=0.0),
        a_candidate(first_byte=math.inf, seconds=0.0, speed=math.inf, failures=1.0, paused_until=math.inf, eta=0.0),
        a_candidate(
            zone=Zone.RESTRICTED, state=State.OFF, health=Health.UNHEALTHY, price=Price(input=0, output=0), capacity=1, load=1
        ),
        *(a_candidate(state=state, offers={"vision": False, "tools": True}, price=Price(input=1, output=2)) for state in State),
    )


def odd_requests() -> tuple[Request, ...]:
    """Requests of which little is known, and ones that are extreme."""
    return (
        Request(id="", dialect="", task="", model=""),
        a_request(task="embedding", needs=frozenset({"vision", "tools", "json_schema", "never heard of"})),
        a_request(tokens_low=10**12, tokens_high=10**12, max_output_tokens=0, n=0, priority=Lane.LOW, strict=True, flexible=True),
        a_request(headers={"x-nexus-session": "é\n", "": ""}, session="", key="", peer="::1", zone=Zone.RESTRICTED, stream=True),
    )


def odd_asks() -> Iterable[Ask]:
    """Every odd request on a leg of its own, with and without a demand."""
    demands = (NO_DEMAND, Demand(zone=Zone.RESTRICTED, min_tier=5, needs=frozenset({"vision"}), context=10**9))
    for request, demand in itertools.product(odd_requests(), demands):
        yield an_ask(request=request, demand=demand)
        yield an_ask(request=request, demand=demand, leg=Leg(index=7, name="", ids=(), trail=(), any_model=True, demand=demand))


def every_event(at: float = 1000.0) -> tuple[Event, ...]:
    """At least one event of each type, the plain ones first, then ones with odd values."""
    request, candidate = a_request(), a_candidate()
    return (*_plain_events(at, request, candidate), *_odd_events(at))


def _plain_events(at: float, request: Request, candidate: Candidate) -> Iterable[Event]:
    usage = Usage(input_tokens=12, output_tokens=3, source="reported")
    done: Mapping[str, Any] = {"request": request, "candidate": candidate, "status": 200, "usage": usage, "seconds": 0.5}
    yield Joined(at=at, backend="home", kind="openai-compatible", url="http://127.0.0.1:8080", source="config")
    yield Probed(at=at, backend="home", health=Health.HEALTHY, seconds=0.01, models=1, changed=True)
    yield Queued(at=at, request=request, lane=Lane.NORMAL, waiting=True, depth=1)
    yield Queued(at=at, request=request, lane=Lane.NORMAL, waiting=False, depth=0)
    yield Claimed(at=at, claim=1, request=request, candidate=candidate)
    yield Finished(at=at + 0.5, claim=1, outcome="ok", sent=True, first_byte=0.1, **done)
    yield Answered(at=at + 0.5, outcome="ok", leg=a_leg(), plan=a_plan(candidate), **done)
    yield Left(at=at, backend="home")


def a_plan(*candidates: Candidate) -> Plan:
    """These candidates as choices, and one that was refused."""
    refused = Objection(
        stage="tier", candidate=a_candidate(backend="away"), leg=0, refusal=Refusal(kind=RefusalKind.POLICY, code="tier_too_low")
    )
    choices = tuple(Choice(ask=an_ask(), candidate=candidate) for candidate in candidates)
    return Plan(choices=choices, objections=(refused,), legs=(a_leg(),))


FINISHED_OUTCOMES = ("ok", "rejected", "rate", "failed", "timeout", "refused", "left")
ANSWERED_OUTCOMES = ("ok", "refused", "client_left", "broken")


def _odd_events(at: float) -> Iterable[Event]:
    request, candidate = odd_requests()[0], odd_candidates()[0]
    attempt = Attempt(backend="", model="", outcome="failed", code="")
    yield Finished(at=0.0, claim=999, request=request, candidate=candidate, outcome="failed")
    for claim, outcome in enumerate(FINISHED_OUTCOMES, 2):
        yield Claimed(at=at, claim=claim, request=request, candidate=candidate)
        yield Finished(at=at - 1, claim=claim, request=request, candidate=candidate, outcome=outcome, cost=0.0, code="status")
    for outcome in ANSWERED_OUTCOMES:
        yield Answered(at=at, request=request, status=0, outcome=outcome, attempts=(attempt,))
    yield Probed(at=at, backend="never joined", health=Health.UNKNOWN, seconds=0.0, models=0, problem="it\nbroke")
    yield Left(at=at, backend="never joined")
    yield Joined(at=at, backend="", kind="", url="", source="")
