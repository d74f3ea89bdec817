"""The smart strategy: every part of its score, and that no part can do harm."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_stages import smart

from nexus.api import Candidate, Claimed, Stage, State, replace

ONE = smart.UNMEASURED_SECONDS


def score(make: Any, stage: Stage, pair: Candidate, **request: Any) -> float:
    result: float = stage.rank(make.ask(**request), pair)
    return result


# ---------------------------------------------------------------- each part alone


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, ONE),
        ({"speed": 64.0}, 4.0),
        ({"speed": 64.0, "first_byte": 0.5}, 4.5),
        ({"speed": 64.0, "first_byte": 0.5, "seconds": 99.0}, 4.5),  # the finer figures are believed
        ({"seconds": 7.0}, 7.0),
        ({"seconds": 7.0, "first_byte": 0.5}, 7.0),
        ({"first_byte": 0.5}, 0.5),
        ({"seconds": 0.0}, 0.0),
        ({"speed": 0.0}, ONE),  # no division by nothing
        ({"speed": 1e-300}, smart.LONGEST_WORK_SECONDS),
    ],
)
def test_work_is_what_was_measured(make: Any, fields: dict[str, Any], expected: float) -> None:
    assert score(make, make.stage("balance"), make.pair(**fields)) == pytest.approx(expected)


@pytest.mark.parametrize(("limit", "expected"), [(None, 2.56), (64000, 2.56), (256, 2.56), (10, 0.1), (0, 0.0)])
def test_the_clients_limit_counts_only_where_it_is_short(make: Any, limit: int | None, expected: float) -> None:
    assert score(make, make.stage("balance"), make.pair(speed=100.0), max_output_tokens=limit) == pytest.approx(expected)


def test_embeddings_generate_nothing(make: Any) -> None:
    pair = make.pair(speed=1.0, seconds=0.2)
    assert score(make, make.stage("balance"), pair, task="embedding") == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("fields", "added"),
    [
        ({"backend_in_flight": 2, "capacity": 4}, 4.0 * 0.5),
        ({"load": 12, "capacity": 4}, 4.0 * 3),
        ({"state": State.UNKNOWN}, 0.5),
        ({"state": State.LOADING}, 10.0),
        ({"state": State.LOADING, "eta": 3.0}, 3.0),
        ({"state": State.ASLEEP}, 20.0),
        ({"state": State.ASLEEP, "eta": 90.0}, 90.0),
        ({"state": State.READY, "eta": 90.0}, 0.0),
        ({"failures": 0.1}, 3.0),
        ({"priority": 10}, -4.0),
        ({"priority": 90}, 4.0),
    ],
)
def test_what_each_part_adds(make: Any, fields: dict[str, Any], added: float) -> None:
    pair = make.pair(seconds=4.0)
    assert score(make, make.stage("balance"), replace(pair, **fields)) == pytest.approx(4.0 + added)


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_its_seconds(make: Any, state: State) -> None:
    assert score(make, make.stage("balance"), make.pair(state=state)) >= ONE


def test_the_faster_the_emptier_and_the_steadier_pair_is_preferred(make: Any) -> None:
    stage = make.stage("balance")
    good = make.pair(speed=50.0, first_byte=0.3, capacity=4, backend_in_flight=1, failures=0.0)
    for worse in ({"speed": 40.0}, {"first_byte": 0.4}, {"backend_in_flight": 2}, {"failures": 0.01}, {"capacity": 2}, {"load": 3}):
        assert score(make, stage, good) < score(make, stage, replace(good, **worse))


def test_a_pair_that_was_never_measured_gets_its_chance_and_no_flood(make: Any) -> None:
    stage = make.stage("balance")
    usual, new = make.pair("usual", speed=64.0), make.pair("new", capacity=4)
    assert score(make, stage, new) < score(make, stage, usual)
    assert score(make, stage, replace(new, load=16)) > score(make, stage, usual)


# ---------------------------------------------------------------- model swaps


@pytest.mark.parametrize(
    ("fields", "harm"),
    [
        ({"resident": {"other"}, "backend_in_flight": 1}, True),
        ({"resident": {"other"}, "load": 1}, True),  # busy for somebody else
        ({"resident": {"other"}}, False),  # idle: nobody is disturbed
        ({"resident": {"other", "m"}, "backend_in_flight": 1}, False),  # both fit
        ({"resident": {"m"}, "backend_in_flight": 1}, False),
        ({"resident": set(), "backend_in_flight": 1}, False),  # the server does not say
        ({"resident": {"other"}, "backend_in_flight": 1, "in_flight": 1}, False),  # its model is being loaded already
    ],
)
def test_a_second_model_on_a_busy_server_is_the_last_resort(make: Any, fields: dict[str, Any], harm: bool) -> None:
    fields = fields | {"resident": frozenset(fields["resident"]), "capacity": 100}
    assert (score(make, make.stage("balance"), make.pair(**fields)) > smart.SWAP_SECONDS) == harm


def test_even_a_sleeping_server_is_better_than_a_swap(make: Any) -> None:
    stage = make.stage("balance")
    swap = make.pair("busy", resident=frozenset({"other"}), backend_in_flight=1, capacity=4)
    assert score(make, stage, make.pair("asleep", state=State.ASLEEP)) < score(make, stage, swap)


# ---------------------------------------------------------------- sessions


def served(make: Any, stage: Stage, pair: Candidate, session: str = "s", outcome: str = "ok") -> None:
    stage.learn(make.finished(pair, outcome, session=session))


def gain(make: Any, stage: Stage, pair: Candidate, session: str | None = "s", tokens: int = 2000) -> float:
    """What the session is worth on the pair, in seconds."""
    return score(make, stage, pair, tokens_high=tokens) - score(make, stage, pair, session=session, tokens_high=tokens)


def test_a_session_returns_to_the_pair_that_served_it(make: Any) -> None:
    stage, one, other = make.stage("balance"), make.pair("one"), make.pair("other")
    served(make, stage, one)
    assert gain(make, stage, one) == pytest.approx(0.25 + 2.0)
    assert gain(make, stage, other) == 0
    assert gain(make, stage, make.pair("one", model="n")) == 0
    assert gain(make, stage, one, session="t") == 0
    assert gain(make, stage, one, session=None) == 0


def test_the_gain_grows_with_the_prompt_and_is_bounded(make: Any) -> None:
    stage, pair = make.stage("balance"), make.pair()
    served(make, stage, pair)
    gains = [gain(make, stage, pair, tokens=n) for n in (0, 1000, 4750, 10**9)]
    assert gains == pytest.approx([0.25, 1.25, 5.0, 5.0])


def test_a_session_moves_with_its_last_answer(make: Any) -> None:
    stage, one, other = make.stage("balance"), make.pair("one"), make.pair("other")
    served(make, stage, one)
    served(make, stage, other)
    assert (gain(make, stage, one), gain(make, stage, other)) == (0, pytest.approx(2.25))


@pytest.mark.parametrize(
    ("outcome", "kept"), [("failed", False), ("timeout", False), ("rejected", True), ("left", True), ("rate", True)]
)
def test_a_session_is_lost_where_its_pair_fails(make: Any, outcome: str, kept: bool) -> None:
    stage, pair = make.stage("balance"), make.pair()
    served(make, stage, pair)
    served(make, stage, make.pair("other"), outcome=outcome)  # somebody else's failure is not its own
    assert gain(make, stage, pair) > 0
    served(make, stage, pair, outcome=outcome)
    assert (gain(make, stage, pair) > 0) == kept


def test_a_session_is_forgotten_after_a_while(make: Any) -> None:
    stage, pair = make.stage("balance"), make.pair()
    served(make, stage, pair)
    make.clock.at += smart.SESSION_KEPT_SECONDS
    assert gain(make, stage, pair) > 0
    make.clock.at += 1
    assert gain(make, stage, pair) == 0


def test_remembered_sessions_are_bounded_and_the_least_recent_goes(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smart, "MAX_SESSIONS", 2)
    stage, pair = make.stage("balance"), make.pair()
    for session in ("a", "b", "a", "c"):
        served(make, stage, pair, session)
    assert [gain(make, stage, pair, session) > 0 for session in "abc"] == [True, False, True]


def test_the_gain_fades_as_the_server_fills_and_is_gone_when_it_is_full(make: Any) -> None:
    stage = make.stage("balance")
    pair = make.pair(capacity=4)
    served(make, stage, pair)
    gains = [gain(make, stage, replace(pair, backend_in_flight=n)) for n in range(4)]
    assert gains == sorted(gains, reverse=True)
    assert gains[0] > gains[-1] > 0
    assert [gain(make, stage, replace(pair, load=n)) for n in (4, 5, 50)] == [0, 0, 0]


@pytest.mark.parametrize("capacity", [2, 8, None])
def test_a_popular_session_never_floods_its_server(make: Any, capacity: int | None) -> None:
    """64 requests of one session at once, none of which ends: beyond the server's capacity they are spread evenly."""
    stage = make.stage("balance")
    fleet = {name: make.pair(name, capacity=capacity) for name in ("one", "other")}
    served(make, stage, fleet["one"])
    for _ in range(64):
        ask = make.ask(session="s", tokens_high=10**6)
        chosen = min(fleet.values(), key=lambda pair: stage.rank(ask, pair))
        stage.learn(Claimed(at=make.clock.at, claim=1, request=ask.request, candidate=chosen))
        fleet[chosen.backend] = replace(chosen, in_flight=chosen.in_flight + 1, backend_in_flight=chosen.backend_in_flight + 1)
    assert abs(fleet["one"].in_flight - fleet["other"].in_flight) <= 1


# ---------------------------------------------------------------- whatever is photographed

amounts = st.none() | st.floats(0, 1e6)
photographs = st.fixed_dictionaries(
    {
        "priority": st.integers(0, 100),
        "state": st.sampled_from(State),
        "eta": amounts,
        "resident": st.frozensets(st.sampled_from(["m", "n", "o"])),
        "in_flight": st.integers(0, 3),
        "backend_in_flight": st.integers(0, 100),
        "capacity": st.none() | st.integers(1, 64),
        "load": st.none() | st.integers(0, 1000),
        "speed": amounts,
        "first_byte": amounts,
        "seconds": amounts,
        "failures": st.floats(0, 1),
    }
)


@given(fields=photographs, session=st.none() | st.just("s"), limit=st.none() | st.integers(0, 10**6))
def test_a_score_is_always_a_finite_number(
    shared_make: Any, fields: dict[str, Any], session: str | None, limit: int | None
) -> None:
    stage = shared_make.stage("balance")
    served(shared_make, stage, shared_make.pair())
    assert math.isfinite(score(shared_make, stage, shared_make.pair(**fields), session=session, max_output_tokens=limit))


@given(fields=photographs, session=st.none() | st.just("s"), more=st.integers(1, 50))
def test_more_load_never_makes_a_pair_better(shared_make: Any, fields: dict[str, Any], session: str | None, more: int) -> None:
    stage = shared_make.stage("balance")
    served(shared_make, stage, shared_make.pair())
    less = shared_make.pair(**fields)
    fuller = replace(less, backend_in_flight=less.backend_in_flight + more, load=(less.load or 0) + more)
    before = score(shared_make, stage, less, session=session, tokens_high=3000)
    after = score(shared_make, stage, fuller, session=session, tokens_high=3000)
    assert after >= before - 1e-9 * abs(before)
