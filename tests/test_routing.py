"""One decision over a fleet without sockets: which legs are looked at, and in which order the pairs of one stand."""

from __future__ import annotations

import pytest

from nexus.api import Backend, Report
from nexus.fleet import Fleet, Member
from nexus.model import Leg, Payload
from nexus.routing import Circumstances, Pipeline, reason, route
from nexus.testing import FakeClock, a_leg, a_report, a_request


class Nobody(Backend):
    """A backend that is never sent anything."""

    async def probe(self) -> Report:
        return Report(ok=True)

    def send(self, call):
        raise NotImplementedError


def a_fleet(**models: str) -> Fleet:
    """Backends by name, each healthy and with these models (words with blanks between)."""
    known = Fleet(FakeClock().now, lambda event: None)
    for name, served in models.items():
        known.join(Member(name=name, kind="openai-compatible", url=f"http://{name}.invalid", backend=Nobody()))
        known.report(name, a_report(*served.split()), 0.001)
    return known


def decided(fleet: Fleet, *legs: Leg, whole: bool = False):
    at = Circumstances(candidates=fleet.candidates, now=fleet.now())
    return route(Pipeline(()), a_request(), Payload(b""), legs, at, whole=whole)


def chosen(plan) -> list[str]:
    return [f"{choice.candidate.backend}/{choice.candidate.model}" for choice in plan.choices]


def test_the_first_leg_with_a_free_pair_decides_and_people_see_the_others_too():
    fleet = a_fleet(one="tiny", two="spare")
    legs = (a_leg("tiny"), a_leg("spare", index=1))
    assert chosen(decided(fleet, *legs)) == ["one/tiny"]
    assert chosen(decided(fleet, *legs, whole=True)) == ["one/tiny", "two/spare"]
    assert reason(decided(fleet, *legs, whole=True), decided(fleet, *legs).choices[0], failed_before=False) == "capability-match"


@pytest.mark.parametrize(("failures", "first"), [(0, "one"), (2, "one"), (3, "two")])
def test_three_failures_in_a_row_send_a_pair_to_the_end(failures, first):
    fleet = a_fleet(one="tiny", two="tiny")
    for _ in range(failures):
        candidate = next(c for c in fleet.candidates(a_leg()) if c.backend == "one")
        fleet.claim(candidate, a_request()).finish("failed", sent=True)
    assert chosen(decided(fleet, a_leg()))[0] == f"{first}/tiny"
