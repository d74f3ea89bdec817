"""What the stage tests share: a clock that is moved by hand, and short ways to make the values stages judge by."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nexus_stages import nexus_stages

from nexus.api import Ask, Candidate, Claimed, Demand, Finished, Leg, Payload, Plan, Request, Scope, Stage, StageKind, State
from nexus.routing import Circumstances, Pipeline, route


class HandClock:
    def __init__(self) -> None:
        self.at = 1000.0

    def now(self) -> float:
        return self.at

    def time(self) -> float:
        return self.at


class Make:
    """Builders.  Every argument is a field of the value that is made."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.kinds: dict[str, StageKind] = {kind.name: kind for kind in nexus_stages()}

    def scope(self, name: str = "stage") -> Scope:
        def no_upstream(*_: object) -> Any:
            raise AssertionError("a standard stage speaks to nobody")

        return Scope(
            name=name,
            log=logging.getLogger("test"),
            clock=self.clock,
            upstream=SimpleNamespace(exchange=no_upstream),
            session=no_upstream,
            spawn=no_upstream,
            changed=lambda: None,
            state_dir=lambda: Path("/nowhere"),
        )

    def stage(self, name: str, **options: Any) -> Stage:
        """The stage, opened the way the gateway opens it.  None of the five has anything to close."""
        kind = self.kinds[name]

        async def open_() -> Stage:
            async with kind.open(kind.options(**options), self.scope(name)) as stage:
                return stage

        return asyncio.run(open_())

    def request(self, **fields: Any) -> Request:
        return Request(**{"id": "r", "dialect": "openai", "task": "chat", "model": "m"} | fields)

    def leg(self, **fields: Any) -> Leg:
        return Leg(**{"index": 0, "name": "m", "ids": ("m",), "trail": ("m",)} | fields)

    def ask(self, *, demand: Demand | None = None, leg: Leg | None = None, **request: Any) -> Ask:
        return Ask(request=self.request(**request), leg=leg or self.leg(), demand=demand or Demand())

    def pair(self, backend: str = "b", **fields: Any) -> Candidate:
        return Candidate(**{"backend": backend, "kind": "k", "model": "m", "name": "m", "state": State.READY} | fields)

    def described(self, stage: Stage, *known: Candidate, leg: Leg | None = None, **request: Any) -> Ask:
        """The ask with the demand that the stage itself describes."""
        made, leg = self.request(**request), leg or self.leg()
        return Ask(request=made, leg=leg, demand=leg.demand & stage.describe(made, leg, Payload(b""), known))

    def plan(
        self, stages: Iterable[tuple[str, Stage]], legs: tuple[Leg, ...], known: Mapping[int, tuple[Candidate, ...]], **request: Any
    ) -> Plan:
        """What the gateway's own routing makes of all legs; `known` are the pairs by the leg's index."""
        at = Circumstances(candidates=lambda leg: known[leg.index], now=self.clock.at)
        return route(Pipeline(stages), self.request(**request), Payload(b""), legs, at, whole=True)

    def claimed(self, candidate: Candidate, **request: Any) -> Claimed:
        return Claimed(at=self.clock.at, claim=1, request=self.request(**request), candidate=candidate)

    def finished(self, candidate: Candidate, outcome: str = "ok", *, code: str = "", **request: Any) -> Finished:
        return Finished(
            at=self.clock.at, claim=1, request=self.request(**request), candidate=candidate, outcome=outcome, code=code, sent=True
        )


@pytest.fixture
def make() -> Make:
    return Make()


@pytest.fixture(scope="session")
def shared_make() -> Make:
    """For property tests, which use one fixture for many examples: whoever takes it must not move its clock."""
    return Make()
