"""Capability: no is refused, unknown ranks after yes, and a backend's own word is believed for a while."""

from __future__ import annotations

from typing import Any

import pytest
from nexus_stages import capability

from nexus.api import Demand, Health, Left, Probed, RefusalKind, Stage


def verdict(make: Any, stage: Stage, pair: Any, **request: Any) -> str | None:
    refusal = stage.refuse(make.described(stage, pair, **request), pair)
    return None if refusal is None else refusal.code


def test_it_describes_task_needs_and_the_least_length(make: Any) -> None:
    ask = make.described(make.stage("capability"), task="chat", needs=frozenset({"tools"}), tokens_low=70, tokens_high=200)
    assert ask.demand == Demand(needs=frozenset({"chat", "tools"}), context=70)


@pytest.mark.parametrize("need", ["vision", "image_url", "tools", "json_schema"])
@pytest.mark.parametrize(("offer", "refused"), [(True, False), (False, True), (None, False)])
def test_a_need_is_refused_only_where_the_answer_is_no(make: Any, need: str, offer: bool | None, refused: bool) -> None:
    pair = make.pair(offers={} if offer is None else {need: offer})
    assert verdict(make, make.stage("capability"), pair, needs=frozenset({need})) == (f"no_{need}" if refused else None)
    assert verdict(make, make.stage("capability"), pair) is None


@pytest.mark.parametrize("task", ["chat", "completion", "embedding"])
def test_the_task_is_a_need(make: Any, task: str) -> None:
    stage = make.stage("capability")
    assert verdict(make, stage, make.pair(offers={task: False}), task=task) == f"no_{task}"
    assert verdict(make, stage, make.pair(offers={task: True}), task=task) is None
    assert verdict(make, stage, make.pair(), task=task) is None


def test_all_that_is_missing_is_named_and_the_task_first(make: Any) -> None:
    stage = make.stage("capability")
    pair = make.pair(offers={"chat": False, "vision": False, "tools": False})
    refusal = stage.refuse(make.described(stage, needs=frozenset({"vision", "tools"})), pair)
    assert refusal is not None
    assert (refusal.kind, refusal.code) == (RefusalKind.NEVER, "no_chat")
    assert refusal.data == {"need": "chat", "missing": ("chat", "tools", "vision")}
    pair = make.pair(offers={"chat": True, "vision": False, "tools": False})
    refusal = stage.refuse(make.described(stage, needs=frozenset({"vision", "tools"})), pair)
    assert refusal is not None
    assert (refusal.code, refusal.data) == ("no_tools", {"need": "tools", "missing": ("tools", "vision")})
    blind = make.pair(offers={"image_url": False, "vision": False})
    refusal = stage.refuse(make.described(stage, needs=frozenset({"vision", "image_url"})), blind)
    assert refusal is not None
    assert (refusal.code, refusal.data) == ("no_vision", {"need": "vision", "missing": ("vision", "image_url")})


def test_what_another_stage_demands_counts_too(make: Any) -> None:
    ask = make.ask(demand=Demand(needs=frozenset({"poetry"})))
    refusal = make.stage("capability").refuse(ask, make.pair(offers={"poetry": False}))
    assert refusal is not None
    assert refusal.code == "no_poetry"


@pytest.mark.parametrize(
    ("low", "served", "most", "refused"),
    [
        (4096, 4096, None, False),
        (4097, 4096, None, True),
        (4097, 4096, 131072, True),  # what it could serve does not count
        (4097, None, 4096, False),  # what is served is unknown
        (10**9, None, None, False),
        (0, 0, None, False),
    ],
)
def test_a_prompt_is_refused_only_where_the_served_context_is_known_to_be_too_small(
    make: Any, low: int, served: int | None, most: int | None, refused: bool
) -> None:
    stage = make.stage("capability")
    pair = make.pair(context=served, context_max=most)
    refusal = stage.refuse(make.described(stage, tokens_low=low, tokens_high=low), pair)
    assert (refusal is not None) == refused
    if refusal is not None:
        assert (refusal.kind, refusal.code) == (RefusalKind.NEVER, "context")
        assert refusal.data == {"needed_at_least": low, "served": served}


# ---------------------------------------------------------------- rank


def seconds(make: Any, pair: Any, **request: Any) -> float:
    stage = make.stage("capability")
    result: float = stage.rank(make.described(stage, **request), pair)
    return result


@pytest.mark.parametrize("known", [0, 1, 2])
def test_each_unknown_need_costs_the_same(make: Any, known: int) -> None:
    needs = ("tools", "vision")
    pair = make.pair(offers=dict.fromkeys(needs[:known], True))
    assert seconds(make, pair, needs=frozenset(needs)) == (2 - known) * capability.UNKNOWN_SECONDS


def test_an_unknown_task_costs_nothing(make: Any) -> None:
    assert seconds(make, make.pair()) == 0


@pytest.mark.parametrize(
    ("low", "high", "served", "expected"),
    [
        (100, 1000, 1000, 0.0),
        (100, 1000, 999, 10.0 / 900),
        (0, 1000, 500, 5.0),
        (500, 1000, 500, 10.0),
        (900, 1000, 500, 10.0),  # refused anyway, but a number
        (100, 4096, None, 0.0),
        (100, 4097, None, 2.0),
    ],
)
def test_the_risk_of_a_cut_prompt_costs_its_share(make: Any, low: int, high: int, served: int | None, expected: float) -> None:
    assert seconds(make, make.pair(context=served), tokens_low=low, tokens_high=high) == pytest.approx(expected)


# ---------------------------------------------------------------- the backend's own word

TOOLS = frozenset({"tools"})


def test_unknown_becomes_no_when_the_backend_says_so_and_only_for_a_while(make: Any) -> None:
    stage, pair = make.stage("capability", remember_seconds=60), make.pair()
    assert verdict(make, stage, pair, needs=TOOLS) is None
    stage.learn(make.finished(pair, "rejected", code="no_tools", needs=TOOLS))
    make.clock.at += 59.5
    refusal = stage.refuse(make.described(stage, needs=TOOLS), pair)
    assert refusal is not None
    assert (refusal.kind, refusal.code) == (RefusalKind.NEVER, "no_tools")
    assert refusal.data == {"need": "tools", "missing": ("tools",), "for_seconds": 1}
    make.clock.at += 0.5
    assert verdict(make, stage, pair, needs=TOOLS) is None


def test_the_word_holds_for_that_pair_and_that_need_alone(make: Any) -> None:
    stage, pair = make.stage("capability"), make.pair()
    stage.learn(make.finished(pair, "rejected", code="no_tools", needs=TOOLS))
    assert verdict(make, stage, pair) is None
    assert verdict(make, stage, pair, needs=frozenset({"vision"})) is None
    assert verdict(make, stage, make.pair(model="other"), needs=TOOLS) is None
    assert verdict(make, stage, make.pair("other"), needs=TOOLS) is None
    assert verdict(make, stage, pair, needs=TOOLS) == "no_tools"


def test_a_yes_is_not_unlearnt(make: Any) -> None:
    stage, pair = make.stage("capability"), make.pair(offers={"tools": True})
    stage.learn(make.finished(pair, "rejected", code="no_tools", needs=TOOLS))
    assert verdict(make, stage, pair, needs=TOOLS) is None


@pytest.mark.parametrize(
    ("outcome", "code", "needs"),
    [
        ("rejected", "no_tools", frozenset()),  # the request asked for no tools
        ("rejected", "no_tools", frozenset({"vision"})),
        ("rejected", "context_length_exceeded", TOOLS),
        ("rejected", "", TOOLS),
        ("ok", "no_tools", TOOLS),
    ],
)
def test_other_answers_teach_nothing(make: Any, outcome: str, code: str, needs: frozenset[str]) -> None:
    stage, pair = make.stage("capability"), make.pair()
    stage.learn(make.finished(pair, outcome, code=code, needs=needs))
    assert verdict(make, stage, pair, needs=TOOLS) is None


def test_a_500_that_says_what_is_missing_counts_too(make: Any) -> None:
    """llama.cpp answers a picture that it cannot take with 500."""
    stage, pair, vision = make.stage("capability"), make.pair(), frozenset({"vision"})
    stage.learn(make.finished(pair, "failed", code="no_vision", needs=vision))
    assert verdict(make, stage, pair, needs=vision) == "no_vision"


def test_nothing_is_remembered_where_it_is_turned_off(make: Any) -> None:
    stage, pair = make.stage("capability", remember_seconds=0), make.pair()
    stage.learn(make.finished(pair, "rejected", code="no_tools", needs=TOOLS))
    assert verdict(make, stage, pair, needs=TOOLS) is None


@pytest.mark.parametrize(
    ("event", "forgotten"),
    [
        (Left(at=0, backend="b"), True),
        (Left(at=0, backend="c"), False),
        (Probed(at=0, backend="b", health=Health.HEALTHY, seconds=0.1, models=1, changed=True), True),
        (Probed(at=0, backend="b", health=Health.HEALTHY, seconds=0.1, models=1), False),
        (Probed(at=0, backend="c", health=Health.HEALTHY, seconds=0.1, models=1, changed=True), False),
    ],
)
def test_the_word_is_forgotten_with_the_server_that_said_it(make: Any, event: Any, forgotten: bool) -> None:
    stage, pair = make.stage("capability"), make.pair("b")
    stage.learn(make.finished(pair, "rejected", code="no_tools", needs=TOOLS))
    stage.learn(event)
    assert (verdict(make, stage, pair, needs=TOOLS) is None) == forgotten


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capability, "MAX_REMEMBERED", 3)
    stage = make.stage("capability")
    for name in "abcad":
        stage.learn(make.finished(make.pair(name), "rejected", code="no_tools", needs=TOOLS))
    assert [verdict(make, stage, make.pair(name), needs=TOOLS) for name in "abcd"] == ["no_tools", None, "no_tools", "no_tools"]


def test_what_has_expired_takes_no_memory(make: Any) -> None:
    stage = make.stage("capability", remember_seconds=10)
    for name in "ab":
        stage.learn(make.finished(make.pair(name), "rejected", code="no_tools", needs=TOOLS))
    make.clock.at += 10
    stage.learn(make.finished(make.pair("c")))
    assert len(stage._said) == 0


def test_a_repeated_word_counts_from_the_last_time(make: Any) -> None:
    stage, first, second = make.stage("capability", remember_seconds=10), make.pair("first"), make.pair("second")
    for pair in (first, second):
        stage.learn(make.finished(pair, "rejected", code="no_tools", needs=TOOLS))
    make.clock.at += 6
    stage.learn(make.finished(first, "rejected", code="no_tools", needs=TOOLS))
    make.clock.at += 6
    stage.learn(make.finished(make.pair("third")))  # any end of a claim lets go of what has expired
    assert verdict(make, stage, first, needs=TOOLS) == "no_tools"
    assert verdict(make, stage, second, needs=TOOLS) is None


@pytest.mark.parametrize("seconds_", [-1, 86401, float("inf"), float("nan")])
def test_a_time_that_makes_no_sense_is_a_clear_mistake(make: Any, seconds_: float) -> None:
    with pytest.raises(ValueError, match=r"must be between 0 .* and 86400 seconds, not "):
        make.stage("capability", remember_seconds=seconds_)
