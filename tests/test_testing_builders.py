"""The builders: what they make is plausible, what is said wins, and every event has one."""

from __future__ import annotations

import asyncio
import json

import pytest

from nexus import model
from nexus.testing import (
    FakeClock,
    Respond,
    a_body,
    a_call,
    a_candidate,
    a_leg,
    a_model,
    a_plan,
    a_report,
    a_request,
    a_scope,
    an_ask,
    every_event,
    until,
)
from nexus.testing.builders import odd_asks, odd_candidates, odd_requests


@pytest.mark.parametrize(
    ("build", "word"),
    [
        (a_request, {"tokens_low": 7}),
        (a_candidate, {"backend": "gpu"}),
        (a_leg, {"index": 2}),
        (a_call, {"path": "/v1/embeddings"}),
        (a_model, {"context": 5}),
        (a_report, {"capacity": 3}),
    ],
)
def test_what_is_said_wins_over_the_default(build, word):
    ((name, value),) = word.items()
    assert getattr(build(**word), name) == value
    assert getattr(build(), name) != value


def test_a_misspelt_word_is_refused():
    with pytest.raises(TypeError):
        a_candidate(bakend="gpu")


def test_every_request_has_its_own_id():
    assert a_request().id != a_request().id


def test_a_candidate_is_named_after_its_model():
    assert a_candidate(model="m").name == "m"
    assert a_candidate(model="m", name="n").name == "n"


def test_an_ask_is_for_the_model_of_its_request():
    ask = an_ask(model="big", stream=True)
    assert (ask.request.model, ask.request.stream, ask.leg.ids) == ("big", True, ("big",))


def test_a_call_carries_a_body_for_its_candidate():
    call = a_call(candidate=a_candidate(model="m"))
    assert json.loads(call.body) == json.loads(a_body("m"))
    assert call.first_byte_by > 10**12


def test_a_report_may_be_given_names():
    assert [m.id for m in a_report("a", a_model("b")).models] == ["a", "b"]


def test_a_plan_has_choices_and_an_objection():
    plan = a_plan(a_candidate())
    assert (len(plan.choices), len(plan.objections)) == (1, 1)


def test_there_is_an_event_of_every_type():
    def kinds(base):
        return {base, *(each for sub in base.__subclasses__() for each in kinds(sub))}

    made = {type(event) for event in every_event()}
    assert made == {kind for kind in kinds(model.Event) if kind is not model.Event}


def test_odd_ones_are_odd():
    assert any(c.context is None and c.capacity is None and not c.offers for c in odd_candidates())
    assert {c.state for c in odd_candidates()} == set(model.State)
    assert any(not r.model for r in odd_requests())
    assert any(ask.leg.any_model and not ask.leg.ids for ask in odd_asks())
    assert all(type(ask) is model.Ask for ask in odd_asks())


def test_a_clock_stands_still_until_it_is_moved():
    clock = FakeClock(now=5.0)
    before = clock.time()
    assert clock.now() == 5.0
    clock.advance(2.5)
    assert (clock.now(), clock.time() - before) == (7.5, 2.5)


# ---- a scope


async def test_a_scope_is_real(upstream, tmp_path):
    upstream.default = Respond(json={"ok": True})
    async with a_scope("mine", state_dir=tmp_path) as scope:
        async with scope.session().get(upstream.url) as answer:
            assert await answer.json() == {"ok": True}
        async with await scope.upstream.exchange("GET", upstream.url) as exchange:
            assert (exchange.status, await exchange.read()) == (200, b'{"ok": true}')
        assert scope.session() is scope.session()
        assert scope.state_dir() == tmp_path
        assert scope.clock.now() == pytest.approx(asyncio.get_running_loop().time(), abs=1)
        assert scope.log.name == "nexus.mine"
    await upstream.until(lambda: not upstream.open_connections)


async def test_a_state_directory_of_its_own_goes_with_the_scope():
    async with a_scope() as scope:
        assert scope.state_dir() == scope.state_dir()
        (scope.state_dir() / "x").write_text("x")
        path = scope.state_dir()
    assert not path.exists()


async def test_what_was_spawned_is_cancelled_at_the_end():
    ended = []

    async def forever():
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async with a_scope() as scope:
        scope.spawn(forever, "forever")
        await asyncio.sleep(0)
        assert not ended
    assert ended == [True]


async def test_a_crash_of_what_was_spawned_is_raised_at_the_end():
    async def crash():
        raise LookupError("lost")

    scopes = a_scope()
    scope = await scopes.__aenter__()
    scope.spawn(crash, "crash")
    await asyncio.sleep(0)
    with pytest.raises(LookupError, match="lost"):
        await scopes.__aexit__(None, None, None)


async def test_changed_is_heard():
    heard = []
    async with a_scope(changed=lambda: heard.append(1)) as scope:
        scope.changed()
    await until(lambda: heard == [1])
