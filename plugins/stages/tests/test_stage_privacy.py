"""Privacy: open pairs never get restricted requests, whatever else is in the pipeline."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nexus.api import NO_DEMAND, Candidate, Demand, Leg, Payload, Refusal, RefusalKind, Request, Stage, Zone

OPEN, RESTRICTED = Zone.OPEN, Zone.RESTRICTED


@pytest.mark.parametrize(
    ("demanded", "has", "refused"),
    [(OPEN, OPEN, False), (OPEN, RESTRICTED, False), (RESTRICTED, RESTRICTED, False), (RESTRICTED, OPEN, True)],
)
def test_only_an_open_pair_is_refused_and_only_to_a_restricted_request(make: Any, demanded: Zone, has: Zone, refused: bool) -> None:
    refusal = make.stage("privacy").refuse(make.ask(demand=Demand(zone=demanded)), make.pair(zone=has))
    expected = Refusal(kind=RefusalKind.POLICY, code="zone", data={"required": "restricted", "has": "open"})
    assert refusal == (expected if refused else None)


def test_a_pair_whose_zone_nobody_stated_is_refused(make: Any) -> None:
    pair = Candidate(backend="b", kind="k", model="m", name="m")
    assert make.stage("privacy").refuse(make.ask(demand=Demand(zone=RESTRICTED)), pair) is not None


def test_the_refusals_data_cannot_be_changed(make: Any) -> None:
    refusal = make.stage("privacy").refuse(make.ask(demand=Demand(zone=RESTRICTED)), make.pair(zone=OPEN))
    with pytest.raises(TypeError):
        refusal.data["has"] = "restricted"


def test_the_clients_header_is_a_demand(make: Any) -> None:
    stage = make.stage("privacy")
    assert make.described(stage, zone=RESTRICTED).demand == Demand(zone=RESTRICTED)
    assert make.described(stage, zone=OPEN).demand == NO_DEMAND


def test_a_header_cannot_loosen_a_policy(make: Any) -> None:
    ask = make.described(make.stage("privacy"), zone=OPEN, leg=make.leg(demand=Demand(zone=RESTRICTED)))
    assert make.stage("privacy").refuse(ask, make.pair(zone=OPEN)) is not None


@pytest.mark.parametrize("zone", list(Zone))
def test_the_answer_tells_the_zone_it_came_from(make: Any, zone: Zone) -> None:
    told = make.stage("privacy").tell(make.ask(), make.pair(zone=zone))
    assert told == {"X-Nexus-Privacy-Zone": zone.value}
    assert type(told["X-Nexus-Privacy-Zone"]) is str


# ---------------------------------------------------------------- nobody can undo it


class Tempter(Stage):
    """Does all that a stage can do to get a request to an open pair."""

    def describe(self, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
        return Demand(zone=OPEN)

    def refuse(self, ask: Any, candidate: Candidate) -> Refusal | None:
        return Refusal(kind=RefusalKind.POLICY, code="mine") if candidate.zone == RESTRICTED else None

    def rank(self, ask: Any, candidate: Candidate) -> float:
        return -1e9 if candidate.zone == OPEN else 1e9


NAMES = ("privacy", "budget", "tier", "capability", "balance", "tempter")
zones = st.sampled_from(Zone)
pairs = st.builds(
    Candidate,
    backend=st.text("abcdef", min_size=1, max_size=2),
    kind=st.just("k"),
    model=st.just("m"),
    name=st.just("m"),
    zone=zones,
    cloud=st.booleans(),
    tier=st.integers(1, 5),
    priority=st.integers(0, 100),
    backend_in_flight=st.integers(0, 3),
    failures=st.floats(0, 1),
)
fleets = st.lists(pairs, max_size=6).map(tuple)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a machine may be busy with other things
@given(
    others=st.permutations(NAMES).flatmap(lambda order: st.integers(0, 5).map(lambda n: [*order][: n + 1])),
    place=st.integers(0, 6),
    header=zones,
    policies=st.lists(zones, min_size=3, max_size=3),
    fleet=st.lists(fleets, min_size=3, max_size=3),
)
def test_no_combination_of_stages_brings_an_open_pair_back(
    shared_make: Any, others: list[str], place: int, header: Zone, policies: list[Zone], fleet: list[tuple[Candidate, ...]]
) -> None:
    """Three legs, any stages in any order around privacy: a leg is restricted by the header, by the first leg's policy or its own."""
    order = [name for name in others if name != "privacy"]
    order.insert(min(place, len(order)), "privacy")
    stages = [(name, Tempter() if name == "tempter" else shared_make.stage(name)) for name in order]
    legs = tuple(shared_make.leg(index=i, demand=Demand(zone=zone)) for i, zone in enumerate(policies))

    plan = shared_make.plan(stages, legs, dict(enumerate(fleet)), zone=header)

    for choice in plan.choices:
        if RESTRICTED in (header, policies[0], policies[choice.ask.leg.index]):
            assert choice.candidate.zone == RESTRICTED
    for objection in plan.objections:
        assert (objection.refusal.code == "zone") <= (objection.candidate.zone == OPEN)


@pytest.mark.parametrize("order", list(permutations(("privacy", "tempter"))))
def test_where_only_open_pairs_are_left_nobody_gets_the_request(make: Any, order: tuple[str, str]) -> None:
    stages = [(name, Tempter() if name == "tempter" else make.stage(name)) for name in order]
    fleet = (make.pair("cloud", zone=OPEN, cloud=True), make.pair("home", zone=RESTRICTED), make.pair("home2", zone=OPEN))
    plan = make.plan(stages, (make.leg(), make.leg(index=1)), {0: fleet, 1: fleet}, zone=RESTRICTED)
    assert plan.choices == ()
    assert {(o.candidate.backend, o.refusal.code) for o in plan.objections} == {
        ("cloud", "zone"),
        ("home", "mine"),
        ("home2", "zone"),
    }


def test_the_demand_of_the_first_name_holds_for_its_fallbacks(make: Any) -> None:
    stages = [("privacy", make.stage("privacy"))]
    later = make.leg(index=1, name="n")
    known = {0: (), 1: (make.pair(zone=OPEN),)}
    assert make.plan(stages, (make.leg(demand=Demand(zone=RESTRICTED)), later), known).choices == ()
    assert len(make.plan(stages, (make.leg(), later), known).choices) == 1
