"""Demands only ever tighten: whatever is combined, in whatever order, nothing that was asked for is lost."""

from __future__ import annotations

from functools import reduce
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.model import NO_DEMAND, Demand, Zone

NEEDS = ("chat", "completion", "embedding", "vision", "tools", "json_schema", "something_new")

demands = st.builds(
    Demand,
    zone=st.sampled_from(Zone),
    min_tier=st.integers(0, 5),
    needs=st.frozensets(st.sampled_from(NEEDS)),
    context=st.integers(0, 2_000_000),
)


def is_no_looser(tight: Demand, loose: Demand) -> bool:
    """Whether everything that satisfies `tight` also satisfies `loose`.  Written out here, not taken from the model."""
    return (
        (tight.zone == Zone.RESTRICTED or loose.zone == Zone.OPEN)
        and tight.min_tier >= loose.min_tier
        and tight.needs >= loose.needs
        and tight.context >= loose.context
    )


@given(demands, demands)
def test_the_order_does_not_matter(a: Demand, b: Demand) -> None:
    assert a & b == b & a


@given(demands, demands, demands)
def test_the_grouping_does_not_matter(a: Demand, b: Demand, c: Demand) -> None:
    assert (a & b) & c == a & (b & c)


@given(demands)
def test_the_same_twice_is_the_same(a: Demand) -> None:
    assert a & a == a


@given(demands)
def test_no_demand_changes_nothing(a: Demand) -> None:
    assert a & NO_DEMAND == a
    assert NO_DEMAND & a == a
    assert a & Demand() == a


@given(demands, demands)
def test_a_combination_is_never_looser_than_its_parts(a: Demand, b: Demand) -> None:
    assert is_no_looser(a & b, a)
    assert is_no_looser(a & b, b)


@given(demands, demands, demands)
def test_a_combination_is_never_tighter_than_it_must_be(a: Demand, b: Demand, bound: Demand) -> None:
    if is_no_looser(bound, a) and is_no_looser(bound, b):
        assert is_no_looser(bound, a & b)


@given(st.lists(demands, min_size=1, max_size=8))
def test_nothing_in_a_row_of_demands_loosens_an_earlier_one(row: list[Demand]) -> None:
    total = reduce(Demand.__and__, row)
    assert all(is_no_looser(total, demand) for demand in row)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_each_field_keeps_its_strictest_value(order: tuple[int, ...]) -> None:
    parts = [
        Demand(zone=Zone.RESTRICTED, context=10),
        Demand(min_tier=3, needs=frozenset({"tools"}), context=4000),
        Demand(min_tier=1, needs=frozenset({"chat"})),
    ]
    total = reduce(Demand.__and__, [parts[i] for i in order], NO_DEMAND)
    assert total == Demand(zone=Zone.RESTRICTED, min_tier=3, needs=frozenset({"tools", "chat"}), context=4000)
