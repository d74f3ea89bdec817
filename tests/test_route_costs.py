"""What routing and waiting cost grows with what a request asks for, and not with the rest of the fleet or of the queue.

Nothing is timed: what is counted is how often a stage looks at a candidate.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from nexus.api import Refusal, RefusalKind, Stage, State
from nexus.errors import Problem
from nexus.names import Opened, matcher
from nexus.sampling import MOST
from nexus.slices import SLICE

from .bench.crowd import Crowd, a_model, standard_stages


async def ended(*tasks) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def a_full_house(backends: int, waiters: int):
    """Backends of one slot each, all busy, and requests that wait for any of them."""
    crowd = Crowd()
    for number in range(backends):
        crowd.join(f"gpu{number}", "tiny", capacity=1)
    claims = [crowd.occupy(f"gpu{number}") for number in range(backends)]
    tasks = await crowd.asks(waiters, "tiny")
    await crowd.calm()
    crowd.counting.looks = 0
    return crowd, claims, tasks


# ---------------------------------------------------------------- one change, many who wait


async def test_half_of_the_fleet_goes_down_and_nobody_is_asked_in_vain():
    crowd, _, tasks = await a_full_house(20, 10)
    for number in range(10):
        crowd.fail(f"gpu{number}")
    await crowd.calm()
    assert crowd.counting.looks == 0
    assert not any(task.done() for task in tasks)
    await ended(*tasks)


async def test_all_of_the_fleet_goes_down_and_all_are_told_at_once():
    crowd, _, tasks = await a_full_house(5, 4)
    for number in range(5):
        crowd.fail(f"gpu{number}")
    ends = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 5)
    assert [(type(end), end.code) for end in ends] == [(Problem, "backends_unavailable")] * 4
    assert crowd.counting.looks == 4 * 5


async def test_a_slot_that_becomes_free_costs_one_decision_however_many_wait():
    for waiters in (2, 50):
        crowd, claims, tasks = await a_full_house(3, waiters)
        claims[0].finish("ok", sent=True, status=200)
        await crowd.calm()
        assert crowd.counting.looks == 3
        assert [task.done() for task in tasks] == [True] + [False] * (waiters - 1)
        await ended(*tasks)


async def test_one_that_joins_is_offered_to_as_many_as_it_has_room_for():
    crowd, _, tasks = await a_full_house(3, 20)
    crowd.join("new", "tiny", capacity=2)
    await crowd.calm()
    assert crowd.counting.looks == 2 * 4
    assert sum(task.done() for task in tasks) == 2
    crowd.join("other", "else", capacity=9)
    await crowd.calm()
    assert crowd.counting.looks == 2 * 4
    await ended(*tasks)


async def test_the_end_of_a_pause_is_told_to_as_many_as_find_a_slot():
    crowd = Crowd()
    crowd.join("one", "tiny", capacity=1)
    crowd.pause("one", "tiny", 0.05)
    tasks = await crowd.asks(20, "tiny")
    crowd.counting.looks = 0
    turn = await asyncio.wait_for(tasks[0], 5)
    await crowd.calm()
    assert crowd.counting.looks == 2  # the first, and one that finds it busy
    turn.claim.finish("ok", sent=True, status=200)
    assert await asyncio.wait_for(tasks[1], 5)
    await ended(*tasks)


# ---------------------------------------------------------------- neighbours


async def test_who_waits_for_a_paused_model_costs_its_neighbours_nothing():
    crowd = Crowd()
    crowd.join("one", "paused", "well", capacity=2)
    crowd.pause("one", "paused", 500.0)
    tasks = await crowd.asks(20, "paused")
    crowd.counting.looks = 0
    for _ in range(3):
        turn = await crowd.ask("well")
        turn.claim.finish("ok", sent=True, status=200)
    await crowd.calm()
    assert crowd.counting.looks == 3
    await ended(*tasks)


class Never(Stage):
    """Lets those of one key wait for something that never comes."""

    def refuse(self, ask, candidate):
        return Refusal(kind=RefusalKind.WAIT, code="never") if ask.request.key == "odd" else None


async def test_whom_a_stage_holds_up_is_judged_by_himself():
    crowd = Crowd([("never", Never())])
    crowd.join("one", "tiny", capacity=1)
    claim = crowd.occupy("one")
    odd = await crowd.asks(3, "tiny", key="odd")
    plain = await crowd.asks(2, "tiny")
    claim.finish("ok", sent=True, status=200)
    assert await asyncio.wait_for(plain[0], 5)
    await crowd.calm()
    assert not any(task.done() for task in (*odd, plain[1]))
    await ended(*odd, *plain)


# ---------------------------------------------------------------- nobody is overtaken


async def test_a_newcomer_waits_while_those_before_it_are_still_to_be_asked():
    crowd, _, tasks = await a_full_house(1, 3)
    newcomer, stranger = crowd.ask("tiny"), crowd.ask("else")  # they come in this turn of the loop
    crowd.join("new", "tiny", capacity=None)  # the three will have it, in the next
    turns = await asyncio.gather(*tasks, newcomer)
    assert [turn.choice.candidate.backend for turn in turns] == ["new"] * 4
    assert [turn.claim.id for turn in turns] == sorted(turn.claim.id for turn in turns)
    with pytest.raises(Problem):
        await stranger


async def test_a_newcomer_does_not_wait_for_those_who_want_something_else():
    crowd, _, tasks = await a_full_house(1, 3)
    crowd.join("far", "else", capacity=1)
    crowd.waiting.pump()
    assert (await crowd.ask("else")).choice.candidate.backend == "far"
    await ended(*tasks)


# ---------------------------------------------------------------- what a wait keeps


async def test_a_wait_keeps_nothing_of_its_plan_and_what_it_takes_is_counted():
    crowd, _, tasks = await a_full_house(50, 2)
    first, second = crowd.waiting.waiters()
    assert first.condition is second.condition
    assert len(first.condition.backends) == 50
    assert crowd.waiting.bytes == first.size + second.size > 2 * 4096
    kept = [
        cell.cell_contents
        for cell in first.attempt.__closure__
        if hasattr(cell.cell_contents, "plan") and hasattr(cell.cell_contents, "legs")
    ]
    assert [context.plan.objections for context in kept] == [()]
    await ended(*tasks)


# ---------------------------------------------------------------- any model of very many


def chosen(plan) -> set[str]:
    return {choice.candidate.model for choice in plan.choices}


async def test_of_very_many_models_a_flexible_request_looks_at_some_of_every_backend():
    crowd = Crowd()
    crowd.join("many", *[f"m{n}" for n in range(2 * MOST)], cloud=True)
    crowd.join("down", *[f"d{n}" for n in range(2 * MOST)])
    crowd.join("few", "one", "two")
    crowd.fail("down")
    plan = crowd.decider.plan(crowd.context("unknown", flexible=True))
    assert crowd.counting.looks == MOST
    assert {"one", "two", "m0"} <= chosen(plan)
    assert (len(plan.choices), len(plan.objections)) == (MOST - MOST // 3, MOST // 3)
    assert plan.choices[0].candidate.backend == "few"


async def test_what_is_loaded_and_what_can_do_it_is_among_them_wherever_it_stands():
    crowd = Crowd()
    plain = [a_model(f"m{n}", state=State.ASLEEP, offers={"chat": True, "vision": False}) for n in range(2 * MOST)]
    loaded = a_model("loaded", offers={"chat": True, "vision": False})
    sees = a_model("sees", state=State.ASLEEP, offers={"chat": True, "vision": True})
    crowd.join("many", *plain, sees, loaded)
    assert "loaded" in chosen(crowd.decider.plan(crowd.context("unknown", flexible=True)))
    needs = crowd.context("unknown", flexible=True, needs=frozenset({"vision"}))
    assert chosen(crowd.decider.plan(needs)) == {"sees"}


async def test_a_key_that_opens_few_of_very_many_finds_them():
    crowd = Crowd()
    crowd.join("many", *[f"m{n}" for n in range(2 * MOST)])
    context = crowd.context("unknown", flexible=True)
    context.allowed = matcher(["unknown", f"m{2 * MOST - 1}"])
    assert chosen(crowd.decider.plan(context)) == {f"m{2 * MOST - 1}"}


async def test_what_nobody_can_is_told_with_reasons_all_the_same():
    async with AsyncExitStack() as stack:
        crowd = Crowd(await standard_stages(stack))
        crowd.join("many", *[a_model(f"m{n}", offers={"chat": True, "vision": False}) for n in range(MOST + 1)])
        with pytest.raises(Problem, match="takes no images") as caught:
            await crowd.ask("unknown", flexible=True, needs=frozenset({"vision"}))
        assert (caught.value.status, caught.value.code) == (400, "capability_mismatch")


# ---------------------------------------------------------------- many candidates


def reached(monkeypatch, name: str):
    """Counts the calls of a function of `nexus.routing`, wherever it is used."""
    import nexus.conditions
    import nexus.decision
    import nexus.routing
    import nexus.verdict

    inner, calls = getattr(nexus.routing, name), []
    for module in (nexus.routing, nexus.decision, nexus.verdict, nexus.conditions):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, lambda objections: calls.append(0) or inner(Counted(objections, calls)))
    return calls


class Counted(list):
    """Objections; each that is read is a call."""

    def __init__(self, objections, calls) -> None:
        super().__init__(objections)
        self.calls = calls

    def __iter__(self):
        for objection in super().__iter__():
            self.calls.append(1)
            yield objection


async def test_what_is_refused_is_looked_at_once_for_each_purpose(monkeypatch):
    calls = reached(monkeypatch, "by_pair")
    read = []
    for backends in (20, 40):
        crowd = Crowd()
        for number in range(backends):
            crowd.join(f"gpu{number}", "tiny", capacity=1)
            crowd.occupy(f"gpu{number}")
        context = crowd.context("tiny")
        plan = crowd.decider.plan(context)
        calls.clear()
        problem = crowd.decider.problem(context, plan)
        assert (problem.status, len(problem.context["available_backends"])) == (503, backends)
        assert f"and {backends - 10} more" in problem.message
        read.append(sum(calls))
    assert read[1] == 2 * read[0] > 0


async def test_what_a_key_opens_by_name_is_not_looked_for_among_all_others():
    """Nothing of the rest is even asked for its name."""
    crowd = Crowd()
    for number in range(3):
        crowd.join(f"many{number}", *[f"m{n}" for n in range(MOST)])
    crowd.join("own", "m7", "own")
    context = crowd.context("unknown", flexible=True)
    context.allowed = matcher(["unknown", "m7", "own"])
    plan = crowd.decider.plan(context)
    assert sorted((c.candidate.backend, c.candidate.model) for c in plan.choices) == [
        *[(f"many{number}", "m7") for number in range(3)],
        ("own", "m7"),
        ("own", "own"),
    ]
    assert crowd.counting.looks == 5
    context.allowed = matcher(["unknown"])
    plan = crowd.decider.plan(context)
    assert not plan.choices
    assert {objection.refusal.code for objection in plan.objections} == {"key"}


async def test_what_a_key_opens_by_wildcards_is_looked_for_in_slices_and_once(monkeypatch):
    """All names of the fleet are compared, none of them while a decision is made."""
    crowd = Crowd()
    crowd.join("many", *[f"m{n}" for n in range(9000)], "team-b")
    crowd.join("more", *[f"n{n}" for n in range(9000)])
    crowd.join("own", "team-a", "team-b")
    compared, turns = [], 0
    inner = Opened.__call__
    monkeypatch.setattr(Opened, "__call__", lambda self, name: compared.append(turns) or inner(self, name))
    asked = []
    for _ in range(2):
        context = crowd.context("unknown", flexible=True)
        context.allowed = matcher(["unknown", "*eam-?"])
        foreseeing = asyncio.get_running_loop().create_task(crowd.dispatcher.outlook(context))
        while not foreseeing.done():
            await asyncio.sleep(0)
            turns += 1
        assert {(c.candidate.backend, c.candidate.model) for c in (await foreseeing).decision.plan.choices} == {
            ("many", "team-b"),
            ("own", "team-a"),
            ("own", "team-b"),
        }
        asked.append(len(compared))
    assert max(map(compared.count, set(compared))) <= SLICE + 10
    assert asked[0] > 18_000 > asked[1] - asked[0]
    crowd.join("new", "team-c")
    later = crowd.context("unknown", flexible=True)
    later.allowed = matcher(["unknown", "*eam-?"])
    assert "team-c" in chosen((await crowd.dispatcher.outlook(later)).decision.plan), "the fleet is another one"
