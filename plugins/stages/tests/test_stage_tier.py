"""Tier: overflow and fallback need at least what the model asked for has at home."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.api import NO_DEMAND, Demand, Health, Refusal, RefusalKind


@pytest.mark.parametrize(
    ("home", "cloud", "expected"),
    [
        ((3,), (5,), 3),
        ((3, 2, 4), (1,), 2),  # a lesser cloud pair does not lower the bar
        ((), (4, 3), 3),  # nothing at home: all pairs count
        ((1,), (), 1),
        ((), (), 0),  # nobody known: nothing to compare with
    ],
)
def test_the_home_tier_is_the_lowest_at_home(make: Any, home: tuple[int, ...], cloud: tuple[int, ...], expected: int) -> None:
    known = [make.pair(f"h{i}", tier=t) for i, t in enumerate(home)]
    known += [make.pair(f"c{i}", tier=t, cloud=True) for i, t in enumerate(cloud)]
    assert make.described(make.stage("tier"), *known).demand == Demand(min_tier=expected)


def test_an_unhealthy_home_pair_still_sets_the_bar(make: Any) -> None:
    known = (make.pair(tier=3, health=Health.UNHEALTHY), make.pair("cloud", tier=5, cloud=True))
    assert make.described(make.stage("tier"), *known).demand == Demand(min_tier=3)


def test_a_leg_that_any_model_may_serve_is_described_alike(make: Any) -> None:
    leg = make.leg(any_model=True)
    assert make.described(make.stage("tier"), make.pair(tier=2), make.pair(tier=4), leg=leg).demand == Demand(min_tier=2)


def test_later_legs_ask_for_nothing_of_their_own(make: Any) -> None:
    assert make.described(make.stage("tier"), make.pair(tier=5), leg=make.leg(index=1)).demand == NO_DEMAND


@pytest.mark.parametrize(("required", "has"), [(r, h) for r in range(6) for h in range(1, 6)])
def test_a_pair_below_the_bar_is_refused_and_says_by_how_much(make: Any, required: int, has: int) -> None:
    refusal = make.stage("tier").refuse(make.ask(demand=Demand(min_tier=required)), make.pair(tier=has))
    expected = Refusal(kind=RefusalKind.POLICY, code="tier", data={"required": required, "has": has})
    assert refusal == (expected if has < required else None)


def test_a_policy_raises_the_bar_and_cannot_lower_it(make: Any) -> None:
    stage = make.stage("tier")
    raised = make.described(stage, make.pair(tier=2), leg=make.leg(demand=Demand(min_tier=4)))
    assert raised.demand.min_tier == 4
    lowered = make.described(stage, make.pair(tier=3), leg=make.leg(demand=Demand(min_tier=1)))
    assert lowered.demand.min_tier == 3


def test_overflow_and_fallback_skip_what_is_below_home(make: Any) -> None:
    fleet = {
        0: (
            make.pair("home", tier=3, health=Health.UNHEALTHY),
            make.pair("cheap", tier=2, cloud=True),
        ),
        1: (make.pair("small", tier=1, model="n"), make.pair("big", tier=3, model="n")),
    }
    plan = make.plan([("tier", make.stage("tier"))], (make.leg(), make.leg(index=1, name="n")), fleet)
    assert [choice.candidate.backend for choice in plan.choices] == ["big"]
    assert [(o.candidate.backend, o.refusal.code) for o in plan.objections] == [
        ("home", "down"),
        ("cheap", "tier"),
        ("small", "tier"),
    ]
