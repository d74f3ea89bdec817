"""Ranking and refusing are quick, measured against something that every machine does at its own pace, never in seconds."""

from __future__ import annotations

import time
import timeit
from collections.abc import Callable
from typing import Any

import pytest

from nexus.api import Demand, Endpoint, State, Zone

LOOPS, REPEATS = 2000, 7


def cost(run: Callable[[], object]) -> float:
    """The best of several, in processor time, since a busy machine only ever makes it longer."""
    return min(timeit.repeat(run, timer=time.thread_time, number=LOOPS, repeat=REPEATS))


def small() -> Endpoint:
    """The yardstick: making one small frozen value of attrs', which takes about a microsecond."""
    return Endpoint(path="/yardstick", task="chat")


MEASURED = {
    "speed": 40.0,
    "first_byte": 0.3,
    "seconds": 4.0,
    "in_flight": 1,
    "backend_in_flight": 2,
    "capacity": 4,
    "load": 2,
    "resident": frozenset({"m"}),
    "failures": 0.1,
    "state": State.UNKNOWN,
}


@pytest.mark.parametrize(("fields", "limit"), [({}, 4), (MEASURED, 8)])
def test_ranking_costs_no_more_than_a_few_small_values(make: Any, fields: dict[str, Any], limit: float) -> None:
    stage, pair, ask = make.stage("balance"), make.pair(**fields), make.ask()
    stage.learn(make.claimed(pair))
    assert cost(lambda: stage.rank(ask, pair)) < limit * cost(small)


@pytest.mark.parametrize(
    ("name", "fields"),
    [("privacy", {"zone": Zone.OPEN}), ("tier", {"tier": 1}), ("capability", {"offers": {"tools": False}})],
)
def test_a_refusal_costs_no_more_than_a_few_small_values(make: Any, name: str, fields: dict[str, Any]) -> None:
    stage = make.stage(name)
    ask = make.ask(demand=Demand(zone=Zone.RESTRICTED, min_tier=3, needs=frozenset({"chat", "tools"})))
    pair = make.pair(**fields)
    assert stage.refuse(ask, pair) is not None
    assert cost(lambda: stage.refuse(ask, pair)) < 6 * cost(small)


def test_what_is_remembered_of_others_costs_nothing(make: Any) -> None:
    stage, pair, ask = make.stage("balance"), make.pair(), make.ask(session="s")
    stage.learn(make.finished(pair, session="s"))
    alone = cost(lambda: stage.rank(ask, pair))
    for i in range(4000):
        stage.learn(make.claimed(make.pair(f"b{i}")))
        stage.learn(make.finished(make.pair(f"b{i}"), session=f"s{i}"))
    assert cost(lambda: stage.rank(ask, pair)) < 3 * alone
