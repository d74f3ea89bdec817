"""Balance: the plain strategies, and what all strategies share.  `smart` has a file of its own."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from nexus_stages import fairness
from nexus_stages.balance import STRATEGIES, BalanceOptions

from nexus.api import Candidate, Left, Stage, replace

TAKE_TURNS = ("smart", "round_robin", "priority", "least_busy")


def best(make: Any, stage: Stage, pairs: list[Candidate]) -> Candidate:
    """What the core would choose: the lowest score, the first of equals."""
    ask = make.ask()
    return min(pairs, key=lambda pair: stage.rank(ask, pair))


def picks(make: Any, stage: Stage, pairs: list[Candidate], times: int) -> Counter[str]:
    """How often each backend is chosen when one request follows another."""
    counted: Counter[str] = Counter()
    for _ in range(times):
        chosen = best(make, stage, pairs)
        stage.learn(make.claimed(chosen))
        counted[chosen.backend] += 1
    return counted


def crowd(make: Any, stage: Stage, pairs: list[Candidate], times: int) -> Counter[str]:
    """The same, when no request ends."""
    fleet = {pair.backend: pair for pair in pairs}
    for _ in range(times):
        chosen = best(make, stage, list(fleet.values()))
        stage.learn(make.claimed(chosen))
        fleet[chosen.backend] = replace(chosen, in_flight=chosen.in_flight + 1, backend_in_flight=chosen.backend_in_flight + 1)
    return Counter({name: pair.in_flight for name, pair in fleet.items()})


def test_smart_is_the_default(make: Any) -> None:
    assert type(make.stage("balance")) is STRATEGIES["smart"]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_each_strategy_opens_and_ranks_in_finite_seconds(make: Any, strategy: str) -> None:
    stage = make.stage("balance", strategy=strategy)
    assert type(stage) is STRATEGIES[strategy]  # type: ignore[index]  # parametrize gives plain texts
    assert abs(stage.rank(make.ask(), make.pair())) < 1e6


@pytest.mark.parametrize("word", ["fastest", "Smart", "", None, ["smart"]])
def test_another_word_is_a_mistake_that_names_all_strategies(word: Any) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        BalanceOptions(strategy=word)
    if isinstance(word, str):
        assert f"must be one of smart, round_robin, priority, random, least_busy, not {word!r}" in str(caught.value)


@pytest.mark.parametrize("strategy", TAKE_TURNS)
def test_equal_pairs_take_turns(make: Any, strategy: str) -> None:
    stage = make.stage("balance", strategy=strategy)
    pairs = [make.pair(name) for name in "abc"]
    assert picks(make, stage, pairs, 300) == {"a": 100, "b": 100, "c": 100}


@pytest.mark.parametrize("strategy", TAKE_TURNS)
def test_equal_pairs_still_take_turns_after_millions_of_requests(make: Any, strategy: str) -> None:
    stage = make.stage("balance", strategy=strategy)
    pairs = [make.pair(name) for name in "abc"]
    picks(make, stage, pairs, 3)
    stage._count = 10**9
    picks(make, stage, pairs, 3)
    assert picks(make, stage, pairs, 300) == {"a": 100, "b": 100, "c": 100}


def test_round_robin_looks_at_nothing_else(make: Any) -> None:
    stage = make.stage("balance", strategy="round_robin")
    pairs = [make.pair("a", priority=1), make.pair("b", backend_in_flight=50), make.pair("c", speed=1.0, failures=0.9)]
    assert picks(make, stage, pairs, 90) == {"a": 30, "b": 30, "c": 30}


def test_round_robin_gives_a_newcomer_the_next_turn_and_no_more(make: Any) -> None:
    stage = make.stage("balance", strategy="round_robin")
    picks(make, stage, [make.pair("a"), make.pair("b")], 40)
    trio = [make.pair("a"), make.pair("b"), make.pair("new")]
    assert best(make, stage, trio).backend == "new"
    assert picks(make, stage, trio, 30) == {"a": 10, "b": 10, "new": 10}


def test_random_chooses_each_about_as_often(make: Any) -> None:
    stage = make.stage("balance", strategy="random")
    pairs = [make.pair("a", priority=1), make.pair("b", backend_in_flight=50), make.pair("c")]
    counted = picks(make, stage, pairs, 3000)
    # 200 is nearly eight standard deviations
    assert all(abs(counted[name] - 1000) < 200 for name in "abc")


def test_priority_comes_first_and_load_decides_among_equals(make: Any) -> None:
    stage = make.stage("balance", strategy="priority")
    first = make.pair("first", priority=10, capacity=1, load=100)
    second = make.pair("second", priority=11)
    assert picks(make, stage, [second, first], 20) == {"first": 20}
    busy, idle = make.pair("busy", capacity=4, backend_in_flight=2), make.pair("idle", capacity=4, backend_in_flight=1)
    assert picks(make, stage, [busy, idle], 20) == {"idle": 20}


def test_least_busy_fills_servers_by_their_size(make: Any) -> None:
    stage = make.stage("balance", strategy="least_busy")
    pairs = [make.pair("small", capacity=2), make.pair("large", capacity=8, priority=99)]
    assert crowd(make, stage, pairs, 10) == {"small": 2, "large": 8}


# ---------------------------------------------------------------- what they share


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0.0),
        ({"capacity": 4}, 0.0),
        ({"capacity": 4, "backend_in_flight": 1}, 0.25),
        ({"capacity": 4, "backend_in_flight": 4}, 1.0),
        ({"capacity": 4, "backend_in_flight": 1, "load": 3}, 0.75),  # others use the server too
        ({"capacity": 4, "backend_in_flight": 3, "load": 1}, 0.75),  # the last probe is old
        ({"capacity": 2, "load": 6}, 3.0),  # and a queue there
        ({"backend_in_flight": 8}, 0.5),  # no limit stated
        ({"capacity": 0, "backend_in_flight": 8}, 0.5),  # a limit of none is no limit, not a crash
        ({"capacity": 4, "in_flight": 1, "backend_in_flight": 2}, 0.5),  # other models of the server count
    ],
)
def test_how_full_a_backend_is(make: Any, fields: dict[str, Any], expected: float) -> None:
    assert fairness.fill(make.pair(**fields)) == expected


def test_a_backend_that_left_and_came_back_is_new(make: Any) -> None:
    stage = make.stage("balance", strategy="round_robin")
    pairs = [make.pair("a"), make.pair("b")]
    picks(make, stage, pairs, 4)
    assert best(make, stage, pairs).backend == "a"
    stage.learn(Left(at=0, backend="b"))
    assert best(make, stage, pairs).backend == "b"


def test_remembered_turns_are_bounded(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fairness, "MAX_TURNS", 2)
    stage = make.stage("balance", strategy="round_robin")
    for name in "abac":
        stage.learn(make.claimed(make.pair(name)))
    assert [stage.rank(make.ask(), make.pair(name)) > 0 for name in "abc"] == [True, False, True]


@pytest.mark.parametrize("strategy", list(STRATEGIES))
def test_home_comes_before_cloud_whatever_the_strategy_says(make: Any, strategy: str) -> None:
    stage = make.stage("balance", strategy=strategy)
    home = make.pair("home", priority=99, capacity=4, backend_in_flight=3, failures=0.9)
    cloud = make.pair("cloud", cloud=True, priority=1)
    plan = make.plan([("balance", stage)], (make.leg(),), {0: (cloud, home)})
    assert [choice.candidate.backend for choice in plan.choices] == ["home", "cloud"]


Picker = Callable[..., Counter[str]]


@pytest.mark.parametrize(("pick", "strategy"), [(picks, "smart"), (crowd, "smart"), (crowd, "least_busy")])
def test_unequal_pairs_are_not_starved_for_long(make: Any, pick: Picker, strategy: str) -> None:
    stage = make.stage("balance", strategy=strategy)
    pairs = [make.pair("a", priority=50 if pick is picks else 45), make.pair("b")]
    assert min(pick(make, stage, pairs, 60)[name] for name in "ab") >= 20
