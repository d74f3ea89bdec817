"""One decision over a fleet without sockets: which legs are looked at, and in which order the pairs of one stand."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus.api import Backend, Refusal, RefusalKind, Report, Stage, Zone
from nexus.fleet import Fleet, Member
from nexus.model import Leg, Payload, replace
from nexus.routing import Circumstances, Pipeline, reason, route, tried
from nexus.testing import FakeClock, a_candidate, a_leg, a_report, a_request


class Nobody(Backend):
    """A backend that is never sent anything."""

    async def probe(self) -> Report:
        return Report(ok=True)

    async def send(self, call):
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
    plan, choice = decided(fleet, *legs, whole=True), decided(fleet, *legs).choices[0]
    assert reason(Pipeline(()), plan, choice, fleet.candidates, again=False, failed_before=False) == "capability-match"


@pytest.mark.parametrize(("failures", "first"), [(0, "one"), (2, "one"), (3, "two")])
def test_three_failures_in_a_row_send_a_pair_to_the_end(failures, first):
    fleet = a_fleet(one="tiny", two="tiny")
    for _ in range(failures):
        candidate = next(c for c in fleet.candidates(a_leg()) if c.backend == "one")
        fleet.claim(candidate, a_request()).finish("failed", sent=True)
    assert chosen(decided(fleet, a_leg()))[0] == f"{first}/tiny"


class Zones(Stage):
    """As the privacy stage."""

    def refuse(self, ask, candidate):
        return Refusal(kind=RefusalKind.POLICY, code="zone") if ask.request.zone > candidate.zone else None


class Seconds(Stage):
    """A score that the priority of a pair has no part in."""

    def rank(self, ask, candidate):
        return candidate.seconds


class Tools(Stage):
    def refuse(self, ask, candidate):
        return None if candidate.tier > 1 else Refusal(kind=RefusalKind.NEVER, code="no_tools")


PAIR = st.tuples(
    st.sampled_from(Zone), st.booleans(), st.sampled_from([0.0, 0.7, 0.8]), st.integers(0, 2), st.integers(1, 2), st.integers(0, 1)
)


@given(st.lists(PAIR, min_size=2, max_size=6), st.booleans())
@example([(Zone.OPEN, False, 0.0, 1, 2, 0), (Zone.RESTRICTED, False, 0.0, 0, 2, 1)], False)
@example([(Zone.RESTRICTED, False, 0.0, 1, 2, 0), (Zone.OPEN, False, 0.0, 1, 2, 0)], False)
@example([(Zone.OPEN, False, 0.0, 1, 2, 0), (Zone.RESTRICTED, False, 0.0, 1, 2, 0)], False)
@example([(Zone.OPEN, True, 0.0, 1, 2, 0), (Zone.RESTRICTED, False, 0.7, 1, 2, 0)], True)
def test_privacy_is_the_reason_exactly_where_the_request_would_have_gone_elsewhere_without_it(pairs, again):
    """Whatever else tells pairs from another: place, failures, scores, what they can, their order."""
    known = tuple(
        a_candidate(
            backend=f"b{n}", zone=zone, cloud=cloud, failures=failures, seconds=float(seconds), tier=tier, priority=priority
        )
        for n, (zone, cloud, failures, seconds, tier, priority) in enumerate(pairs)
    )
    pipeline = Pipeline([("privacy", Zones()), ("seconds", Seconds()), ("tools", Tools())])
    left_out = {("elsewhere", "tiny"): tried()} if again else {}
    at = Circumstances(candidates=lambda leg: known, now=0.0, tried=left_out)
    plan, free = [route(pipeline, a_request(zone=zone), Payload(b""), (a_leg(),), at) for zone in (Zone.RESTRICTED, Zone.OPEN)]
    if plan.choices:
        said = reason(pipeline, plan, plan.choices[0], at.candidates, again=again, failed_before=False)
        moved = free.choices[0].candidate is not plan.choices[0].candidate
        assert said == ("privacy-requirement" if moved else "capability-match")


def judged(plan) -> list[tuple[int, str]]:
    return [(o.leg, f"{o.candidate.backend}/{o.candidate.model}") for o in plan.objections]


def any_leg(index: int) -> Leg:
    return a_leg("tiny", index=index, ids=(), any_model=True)


def test_any_model_lists_no_pair_again_that_was_chosen_or_refused_by_its_name():
    fleet = a_fleet(one="tiny spare", two="tiny", three="other", gone="tiny")
    for _ in range(3):
        fleet.report("gone", Report(ok=False, code="refused", problem="it is down"), 0.001)
    legs = (a_leg("tiny"), a_leg("spare", index=1), any_leg(2))
    plan = decided(fleet, *legs, whole=True)
    assert chosen(plan) == ["one/tiny", "two/tiny", "one/spare", "three/other"]
    assert judged(plan) == [(0, "gone/tiny")]


def test_who_keeps_failing_stays_spared_while_a_pair_of_the_asked_name_is_only_busy():
    """The busy one is looked at once, by its name, and is still one of all models."""
    fleet = a_fleet(busy="tiny", ill="other")
    at = Circumstances(
        candidates=lambda leg: tuple(
            replace(c, ejected_until=60.0) if c.backend == "ill" else replace(c, capacity=1, backend_in_flight=1)
            for c in fleet.candidates(leg)
        ),
        now=0.0,
    )
    plan = route(Pipeline(()), a_request(), Payload(b""), (a_leg("tiny"), any_leg(1)), at)
    assert (chosen(plan), judged(plan)) == ([], [(0, "busy/tiny"), (1, "ill/other")])
    assert [o.refusal.code for o in plan.objections] == ["busy", "ejected"]
