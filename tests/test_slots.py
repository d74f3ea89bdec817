"""Slots by domain: whose slot a claim takes, which models go side by side, and that nothing is lost whatever comes and goes."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from nexus.api import replace
from nexus.fleet import Claim, Fleet, Limits, Member, Override
from nexus.model import Model, Report, State
from nexus.slots import Slots
from nexus.testing import FakeClock, FakeModel, Held, Pace, Respond, a_leg, a_request, llamaswap_server, ollama_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

OK = Respond(json={"choices": [{"message": {}}]})
READY, ASLEEP = State.READY, State.ASLEEP


class House:
    """A fleet of one server that serves models side by side, without anybody behind it."""

    def __init__(self, slots: str = "resident", default: int | None = 1, **member) -> None:
        self.freed: list[str] = []
        self.doubted: list[str] = []
        self.fleet = Fleet(FakeClock().now, lambda event: None, Limits())
        self.fleet.freed, self.fleet.doubted = self.freed.append, self.doubted.append
        self.fleet.join(
            Member(name="gpu", kind="x", url="http://gpu", backend=None, slots=slots, default_capacity=default, **member)
        )

    def report(self, *models: Model, **more) -> None:
        self.fleet.report("gpu", Report(ok=True, models=models, **more), 0.01)

    def resident(self, *ids: str, known: str = "abc") -> None:
        self.report(*(Model(id=id, state=READY if id in ids else ASLEEP) for id in known))

    def one(self, id: str):
        (candidate,) = self.fleet.candidates(a_leg(id))
        return candidate

    def free(self, id: str) -> bool:
        candidate = self.one(id)
        return not candidate.full and not candidate.waits_for

    def claim(self, id: str, **request) -> Claim:
        return self.fleet.claim(self.one(id), a_request(**request))

    def seen(self) -> str:
        """What each model waits for."""
        said = {"": "-", "load": "l", "answers": "a"}
        return "".join("f" if self.one(id).full else said[self.one(id).waits_for] for id in "abc")


# ---------------------------------------------------------------- side by side


def test_residents_go_side_by_side_and_who_would_be_loaded_waits():
    house = House()
    house.resident("a", "b")
    assert house.seen() == "---"
    first = house.claim("a")
    assert house.seen() == "f-a"
    second = house.claim("b")
    assert house.seen() == "ffa"
    second.finish("ok")
    assert house.seen() == "f-a"
    first.finish("ok")
    assert house.seen() == "---"
    assert house.freed[-2:] == ["gpu", "gpu"]


def test_while_one_is_loaded_everybody_waits_and_then_until_the_server_was_asked():
    house = House()
    house.resident("a")
    load = house.claim("c")
    assert house.seen() == "llf"
    house.resident()  # as Ollama says while it loads
    assert house.seen() == "llf"
    load.answered()
    assert house.doubted == ["gpu"]
    assert (house.one("c").state, house.seen()) == (READY, "aaf")  # `a` may have been driven out
    house.resident("a", "c")
    assert house.seen() == "-af"
    load.answered()
    load.finish("ok")
    assert (house.seen(), house.doubted) == ("---", ["gpu"])


@pytest.mark.parametrize("outcome", ["failed", "timeout", "left", "refused", "rejected", "rate"])
def test_a_load_that_came_to_nothing_is_over(outcome):
    house = House()
    house.resident("a")
    house.claim("b").finish(outcome)
    assert house.seen() == "---"
    assert "gpu" in house.doubted
    house.claim("a")
    assert house.seen() == "fll"  # nobody knows whether `a` was driven out


def test_what_the_server_lists_is_not_being_loaded_any_more():
    house = House()
    house.resident("a")
    load = house.claim("b")
    house.resident("a", "b")
    assert house.seen() == "-fa"
    load.answered()
    load.finish("failed")
    assert house.seen() == "---"


def test_several_claims_wait_for_one_load():
    house = House(capacity=3)
    house.resident("b")
    first, second = house.claim("a"), house.claim("a")
    first.finish("left")
    assert house.seen() == "-ll"  # the other still waits for it
    second.answered()
    assert house.seen() == "-aa"
    second.finish("ok")
    assert house.seen() == "---"


def test_a_model_that_is_driven_out_under_way_goes_on_and_newcomers_of_others_wait():
    house = House(capacity=4)
    house.resident("a", "b")
    claim = house.claim("a")
    house.resident()
    assert house.seen() == "-aa"
    claim.finish("ok")
    assert house.seen() == "---"


def test_what_the_server_forwards_needs_none_of_its_memory():
    house = House()
    house.report(Model(id="a", state=READY), Model(id="b", state=ASLEEP), Model(id="c", state=READY, remote=True))
    claims = [house.claim("c") for _ in range(9)]
    assert house.seen() == "---"
    load = house.claim("b")
    assert house.seen() == "lf-"
    for claim in (*claims, load):
        claim.finish("ok")
    assert house.seen() == "---"


def test_what_takes_no_slot_loads_nothing():
    house = House()
    house.resident("a")
    count = house.claim("b", takes_slot=False)
    assert house.seen() == "---"
    count.answered()
    count.finish("ok")
    assert (house.seen(), house.doubted) == ("---", [])


def test_a_server_that_arranges_its_models_itself_is_asked_at_once():
    house = House("model", 2)
    house.resident("a")
    claims = [house.claim("a"), house.claim("b")]
    assert house.seen() == "---"
    claims += [house.claim("a")]
    assert house.seen() == "f--"
    claims[0].finish("ok")
    assert house.freed[-1] == "gpu/a"  # nobody else is helped by it


@pytest.mark.parametrize("slots", ["server", "model", "resident"])
def test_who_waits_for_a_model_that_is_loading_may_have_it_as_soon_as_it_answers_somebody(slots):
    house = House(slots, capacity=2)
    house.report(Model(id="a", state=READY))
    claim = house.claim("a")
    house.report(Model(id="a", state=State.LOADING))
    house.freed.clear()
    claim.answered()
    assert (house.one("a").state, house.freed) == (READY, ["gpu"])
    claim.finish("ok")
    assert house.free("a")


def test_who_waits_while_a_server_is_tried_again_is_told_how_that_ends():
    """Whichever of its models it is tried with."""
    house = House("model")
    house.report(Model(id="a"), Model(id="b"))
    for _ in range(10):
        house.claim("b").finish("failed", code="connect_refused")
    assert house.one("a").ejected_backend
    house.freed.clear()
    house.claim("b").finish("ok", sent=True, status=200)
    assert (house.one("a").ejected_until, house.freed) == (0, ["gpu"])


# ---------------------------------------------------------------- how many


@pytest.mark.parametrize(
    ("member", "model", "report", "together", "own"),
    [
        ({"slots": "server"}, {}, {}, 1, None),
        ({"slots": "server"}, {}, {"capacity": 4}, 4, None),
        ({"slots": "server", "capacity": 2}, {}, {"capacity": 4}, 2, None),
        ({"slots": "server"}, {"capacity": 7}, {}, 1, None),
        ({"slots": "server", "own": 3}, {}, {"capacity": 4}, 4, 3),
        ({"slots": "model"}, {}, {}, None, 1),
        ({"slots": "model"}, {"capacity": 7}, {}, None, 7),
        ({"slots": "model"}, {"remote": True}, {}, None, None),
        ({"slots": "model"}, {}, {"capacity": 4}, 4, 1),
        ({"slots": "model", "capacity": 5}, {}, {}, 5, None),
        ({"slots": "model", "capacity": 5}, {"capacity": 7}, {}, 5, 7),
        ({"slots": "model", "capacity": 5, "own": 2}, {"capacity": 7}, {}, 5, 2),
        ({"slots": "resident", "own": 2}, {}, {}, None, 2),
    ],
)
def test_how_many_at_once(member, model, report, together, own):
    overrides = (Override(id="a", capacity=member.pop("own")),) if "own" in member else ()
    house = House(member.pop("slots"), overrides=overrides, **member)
    house.report(Model(id="a", **model), **report)
    candidate = house.one("a")
    assert (candidate.capacity, candidate.domain_capacity) == (together, own)
    assert candidate.domain == ("gpu/a" if house.fleet.standings["gpu"].domains else "gpu")


def test_the_operators_bound_holds_for_all_models_together():
    house = House(capacity=2)
    house.resident("a", "b", "c")
    claims = [house.claim("a"), house.claim("b")]
    assert house.seen() == "fff"
    claims[0].finish("ok")
    assert house.seen() == "---"
    assert house.freed[-1] == "gpu"


def test_one_model_under_many_names_has_one_set_of_slots():
    house = House(overrides=(Override(id="a", name="public"),))
    copies = [Model(id="a", state=READY, digest="1" * 64), Model(id="copy", state=READY, digest="1" * 64)]
    house.report(*copies, Model(id="other", aliases=("nick",), state=READY, digest="2" * 64))
    assert house.one("public").domain == house.one("copy").domain == "gpu/a"
    assert house.one("nick").domain == house.one("other").domain == "gpu/other"
    claim = house.claim("copy")
    assert house.one("public").full
    assert house.free("other")
    assert not house.fleet.has_room("gpu/a")
    claim.finish("ok")
    assert house.free("public")


def test_a_capacity_that_shrinks_takes_nothing_back():
    house = House("model")
    house.report(Model(id="a", capacity=3))
    claims = [house.claim("a") for _ in range(3)]
    house.report(Model(id="a", capacity=1))
    for claim in claims[:2]:
        claim.finish("ok")
        assert not house.free("a")
    claims[2].finish("ok")
    assert house.free("a")


def test_claims_of_a_model_that_vanishes_and_comes_again_still_count():
    house = House()
    house.resident("a")
    claim = house.claim("a")
    house.resident(known="b")
    house.resident("a")
    assert (house.seen(), house.one("a").in_flight) == ("faa", 1)
    claim.finish("ok")
    assert house.one("a").in_flight == 0
    assert house.seen() == "---"


def test_claims_of_a_server_that_leaves_and_comes_again_still_count():
    house = House()
    house.resident("a", "b")
    claims = [house.claim("a"), house.claim("b")]
    member = house.fleet.standings["gpu"].member
    house.fleet.leave("gpu")
    assert not house.fleet.has_room("gpu")
    claims.pop().finish("left")
    house.fleet.join(member)
    house.resident("a", "b")
    assert (house.seen(), house.fleet.standings["gpu"].in_flight) == ("f-a", 1)
    claims.pop().finish("ok")
    assert (house.seen(), house.fleet.standings["gpu"].in_flight) == ("---", 0)
    house.fleet.leave("gpu")
    house.fleet.join(member)
    assert house.fleet.standings["gpu"].in_flight == 0


def test_what_took_no_slot_ends_without_those_being_forgotten_that_take_one():
    """It was asked of the backend that left first; a second one left with claims, and a third counts those."""
    house = House("server")
    house.report(Model(id="a"))
    member = house.fleet.standings["gpu"].member
    count = house.claim("a", takes_slot=False)
    house.fleet.leave("gpu")
    house.fleet.join(member)
    house.report(Model(id="a"))
    claim = house.claim("a")
    house.fleet.leave("gpu")
    count.finish("ok")
    house.fleet.join(member)
    house.report(Model(id="a"))
    assert (house.one("a").full, house.fleet.standings["gpu"].in_flight) == (True, 1)
    claim.finish("ok")
    assert (house.one("a").full, house.fleet.standings["gpu"].in_flight) == (False, 0)


@pytest.mark.parametrize("outcome", ["ok", "failed", "left"])
def test_a_slot_that_becomes_free_is_named_though_its_model_has_others_by_now(outcome):
    """`b` was a copy of `a`, and is another model now: its claim still holds a slot of `a`."""
    house = House("model")
    house.report(*(Model(id=id, state=READY, digest="1" * 64) for id in "ab"))
    claim = house.claim("b")
    house.report(Model(id="a", state=READY), Model(id="b", state=READY))
    assert (house.one("a").full, house.one("a").domain, house.one("b").full) == (True, "gpu/a", False)
    house.freed.clear()
    claim.finish(outcome)
    assert house.freed == ["gpu"]  # for all of its models
    assert house.free("a")


@pytest.mark.parametrize("begin", [Claim.answered, lambda claim: claim.finish("ok", sent=True, status=200)])
def test_a_model_that_answers_a_claim_from_before_its_server_came_again_is_ready(begin):
    house = House("model")
    house.report(Model(id="a", state=State.LOADING), Model(id="b", state=READY))
    claim = house.claim("a")
    member = house.fleet.standings["gpu"].member
    house.fleet.leave("gpu")
    house.fleet.join(member)
    house.report(Model(id="a", state=State.LOADING), Model(id="b", state=READY))
    assert house.one("a").state is State.LOADING
    begin(claim)
    assert (house.one("a").state, house.one("b").resident) == (READY, {"a", "b"})


def test_a_name_behind_a_pattern_has_the_slots_that_the_server_came_again_with():
    house = House("model")
    house.report(Model(id="x/*", capacity=1))
    claim = house.claim("x/one")
    assert house.one("x/two").domain == house.one("x/one").domain == "gpu/x/*"
    member = house.fleet.standings["gpu"].member
    house.fleet.leave("gpu")
    house.fleet.join(replace(member, slots="server", capacity=2))
    house.report(Model(id="x/*", context=4096))
    names = [house.one("x/one"), house.one("x/two")]
    assert [(c.domain, c.capacity, c.domain_capacity, c.context, c.full) for c in names] == [("gpu", 2, None, 4096, False)] * 2
    claim.finish("ok")
    assert house.fleet.standings["gpu"].in_flight == 0


# ---------------------------------------------------------------- whatever happens

NAMES, IDS = st.sampled_from(["gpu", "cpu"]), st.sampled_from(["a", "b", "c"])
MODELS = st.lists(
    st.builds(
        Model,
        id=IDS,
        state=st.sampled_from([READY, ASLEEP, State.UNKNOWN]),
        remote=st.integers(0, 5).map(lambda n: n == 0),
        capacity=st.none() | st.integers(1, 3),
        digest=st.sampled_from(["", "", "1" * 64, "2" * 64]),
    ),
    unique_by=lambda model: model.id,
)


class Traffic(RuleBasedStateMachine):
    """Servers and models come and go, requests are let in as routing lets them in, and end in any order."""

    claims = Bundle("claims")

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.open: list[Claim] = []
        self.heard: set[str] = set()
        self.blocked: dict[tuple[str, str], set[str]] = {}
        self.fleet = Fleet(self.clock.now, lambda event: None, Limits())
        self.fleet.freed = self.heard.add
        self.fleet.changed = lambda name: self.heard.add("all")

    def all(self):
        return self.fleet.candidates(a_leg("x", any_model=True))

    @rule(
        name=NAMES,
        slots=st.sampled_from(["server", "model", "resident"]),
        bound=st.none() | st.integers(1, 3),
        default=st.none() | st.just(1),
    )
    def join(self, name, slots, bound, default) -> None:
        self.fleet.leave(name)
        overrides = (Override(id="a", capacity=2),) if bound == 3 else ()
        self.fleet.join(
            Member(
                name=name,
                kind="x",
                url="",
                backend=None,
                slots=slots,
                capacity=bound,
                default_capacity=default,
                overrides=overrides,
            )
        )

    @rule(name=NAMES)
    def leave(self, name) -> None:
        self.fleet.leave(name)

    @rule(name=NAMES, models=st.none() | MODELS, capacity=st.none() | st.integers(1, 3), ok=st.booleans())
    def report(self, name, models, capacity, ok) -> None:
        self.fleet.report(
            name, Report(ok=ok, problem="refused", models=None if models is None else tuple(models), capacity=capacity), 0.01
        )

    @rule(target=claims, pick=st.integers(0, 9), takes_slot=st.integers(0, 7))
    def claim(self, pick, takes_slot):
        free = [c for c in self.all() if not takes_slot or not (c.full or c.waits_for)]
        if not free:
            return None
        claim = self.fleet.claim(free[pick % len(free)], a_request(takes_slot=bool(takes_slot)))
        self.open.append(claim)
        return claim

    @rule(claim=claims)
    def answered(self, claim) -> None:
        if claim is not None:
            claim.answered()

    @rule(claim=consumes(claims), outcome=st.sampled_from(["ok", "failed", "timeout", "left", "rate", "rejected", "refused"]))
    def finish(self, claim, outcome) -> None:
        if claim is None:
            return
        assert claim.finish(outcome) is not None
        assert claim.finish(outcome) is None
        self.open.remove(claim)

    @invariant()
    def every_count_is_that_of_the_open_claims(self) -> None:
        holding = [claim for claim in self.open if claim.request.takes_slot]
        for name, standing in self.fleet.standings.items():
            here = [claim for claim in holding if claim.standing.member.name == name]
            assert standing.in_flight == len(here)
            for pair in (*standing.pairs.values(), *standing.departed.values()):
                assert pair.claimed == sum(claim.pair is pair for claim in here)
                assert pair.claimed == sum(claim.candidate.model == pair.model.id for claim in here)
            for slots in standing.domains.values():
                assert slots.in_flight == sum(claim.slots is slots for claim in here)
                assert self.fleet.has_room(slots.domain) == slots.has_room
            if standing.memory is not None:
                assert standing.memory.working == sum(claim.memory is standing.memory for claim in here)
                assert len(standing.memory.loading) <= 1  # never two at once
                assert all(len(waiting) <= standing.memory.working for waiting in standing.memory.loading.values())
            kept = standing.candidates()
            standing.redraw()
            assert standing.candidates() == kept  # as if nothing had been known before
        assert {name for name, gone in self.fleet._departed.items() if not gone.in_flight} == set()

    @invariant()
    def whoever_may_go_now_was_woken(self) -> None:
        """A waiter watches its pair's domain and server: one of them was named, or everybody was woken."""
        for candidate in self.all():
            watched = self.blocked.get((candidate.backend, candidate.model))
            if watched and not (candidate.full or candidate.waits_for):
                assert self.heard & (watched | {"all"})
        self.blocked = {(c.backend, c.model): {c.domain, c.backend} for c in self.all() if c.full or c.waits_for}
        self.heard.clear()

    def teardown(self) -> None:
        for claim in self.open:
            claim.finish("left")
        assert not any(c.in_flight or c.backend_in_flight or c.domain_in_flight or c.full or c.waits_for for c in self.all())


TestTraffic = Traffic.TestCase
TestTraffic.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_slots_without_a_bound_have_room():
    slots = Slots("gpu")
    slots.in_flight = 10**6
    assert slots.has_room
    slots.capacity = 10**6
    assert not slots.has_room


# ---------------------------------------------------------------- on a real gateway


def begin(coro):
    return asyncio.get_running_loop().create_task(coro)


async def queued(gateway, count):
    await gateway.until(lambda: len(gateway.gateway.waiting) == count)


async def idle(gateway):
    standings = gateway.gateway.fleet.standings.values()
    await gateway.until(lambda: not any(s.in_flight for s in standings) and not len(gateway.gateway.waiting))


@pytest.mark.parametrize("stream", [True, False])
async def test_a_resident_model_answers_beside_another_and_one_that_would_be_loaded_waits(nexus_gateway, stream):
    gate = asyncio.Event()
    models = [FakeModel("a:1"), FakeModel("b:1"), FakeModel("c:1", loaded=False)]
    async with ollama_server(models) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, "ollama"))))
        server.next(Held(gate, OK), path=CHAT)
        first = begin(ask(gateway, "a:1"))
        await server.until(lambda: server.in_flight == 1)
        third = begin(ask(gateway, "c:1", stream=stream))
        await queued(gateway, 1)
        assert (await ask(gateway, "b:1", stream=stream)).status == 200
        waits = (await page(gateway, "/nexus/queue")).json["waiting"]
        assert [entry["for"] for entry in waits] == [["gpu", "gpu/c:1"]]
        again = begin(ask(gateway, "a:1", stream=stream))
        await queued(gateway, 2)
        assert [body["model"] for body in chats(server)] == ["a:1", "b:1"]
        gate.set()
        assert [(await task).status for task in (first, third, again)] == [200] * 3
        assert server.loads == ["c:1"]
        await idle(gateway)


async def test_while_a_model_is_loaded_its_neighbours_wait_until_its_first_byte(nexus_gateway):
    """And no longer: it streams on while they answer."""
    async with ollama_server([FakeModel("a:1"), FakeModel("b:1", loaded=False)], pace=Pace(load=0.3)) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, "ollama"))))
        server.text = lambda body: "word " * (2000 if body["model"] == "b:1" else 1)
        server.pace = Pace(load=0.3, tokens_per_second=100)
        load = begin(ask(gateway, "b:1", stream=True))
        await server.until(lambda: server.loads == ["b:1"])
        beside = begin(ask(gateway, "a:1"))
        await queued(gateway, 1)
        assert len(chats(server)) == 1
        assert (await asyncio.wait_for(beside, 10)).status == 200
        assert server.running == 1  # the stream goes on
        load.cancel()
        with suppress(asyncio.CancelledError):
            await load
        await idle(gateway)


async def test_two_that_do_not_fit_never_drive_each_other_out_while_they_answer(nexus_gateway):
    models = [FakeModel(f"{name}:1", loaded=name == "a") for name in "abc"]
    async with ollama_server(models, keeps=1, pace=Pace(load=0.02, first_token=0.02)) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, "ollama"))))
        answers = await asyncio.gather(*(ask(gateway, f"{name}:1") for name in "abcabcabc"))
        assert [said.status for said in answers] == [200] * 9
        assert server.peak <= 2  # one at a time, and a probe
        assert len(server.loads) <= 8
        await idle(gateway)


async def test_llama_swap_gets_ten_at_once_of_each_model_and_the_eleventh_waits(nexus_gateway):
    gate = asyncio.Event()
    async with llamaswap_server(["a", FakeModel("b", loaded=False)]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("swap", server, "llamaswap"))))
        server.on(CHAT, Held(gate, OK), method="POST")
        asked = [begin(ask(gateway, "a")) for _ in range(11)]
        await server.until(lambda: server.in_flight == 10)
        await queued(gateway, 1)
        asked.append(begin(ask(gateway, "b")))  # the server knows whether it fits
        await server.until(lambda: server.in_flight == 11)
        gate.set()
        assert [(await task).status for task in asked] == [200] * 12
        await idle(gateway)


@pytest.mark.parametrize(("where", "most"), [("backend", 2), ("model", 1)])
async def test_what_the_operator_writes_bounds_the_server_or_the_model(nexus_gateway, where, most):
    gate = asyncio.Event()
    async with ollama_server([FakeModel("a:1"), FakeModel("b:1")], capacity=4) as server:
        table = {"max_concurrent": 2} if where == "backend" else {"models": [{"id": "a:1", "max_concurrent": 1}]}
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, "ollama", **table))))
        server.on(CHAT, Held(gate, OK), method="POST")
        asked = [begin(ask(gateway, "a:1")) for _ in range(3)]
        await server.until(lambda: server.in_flight == most)
        await queued(gateway, 3 - most)
        other = begin(ask(gateway, "b:1"))
        if where == "backend":
            await queued(gateway, 2)
        else:
            await server.until(lambda: server.in_flight == 2)
        gate.set()
        assert [(await task).status for task in (*asked, other)] == [200] * 4
        await idle(gateway)


async def test_a_copy_of_a_model_shares_its_slots(nexus_gateway):
    gate = asyncio.Event()

    def tags(received):
        listed = server.tags(received)
        for tag in listed.json["models"]:
            tag["digest"] = "0" * 64
        return listed

    async with ollama_server([FakeModel("a:1"), FakeModel("copy:1", loaded=False)]) as server:
        server.on("/api/tags", tags, method="GET")
        gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", server, "ollama"))))
        server.next(Held(gate, OK), path=CHAT)
        first = begin(ask(gateway, "a:1"))
        await server.until(lambda: server.in_flight == 1)
        second = begin(ask(gateway, "copy:1"))
        await queued(gateway, 1)
        assert (await page(gateway, "/nexus/queue")).json["waiting"][0]["for"] == ["gpu", "gpu/a:1"]
        gate.set()
        assert ((await first).status, (await second).status) == (200, 200)
