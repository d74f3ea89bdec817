"""The fleet on its own: who is found under which name, what the operator's word changes, and photographs that never lie."""

import logging

import pytest

from nexus.api import replace
from nexus.fleet import Fleet, Limits, Member, Override
from nexus.model import Claimed, Health, Joined, Left, Model, Price, Probed, Report, State, Usage, Zone
from nexus.testing import FakeClock, a_leg, a_request


class House:
    """A fleet without servers, that notes what it says."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.events: list = []
        self.freed: list[str] = []
        self.changes = 0
        self.fleet = Fleet(self.clock.now, self.events.append, Limits())
        self.fleet.freed = self.freed.append
        self.fleet.changed = self._changed

    def _changed(self, name: str) -> None:
        self.changes += 1

    def join(self, name: str, *models: Model | str, known=(), **member) -> None:
        self.fleet.join(Member(name=name, kind="x", url=f"http://{name}", backend=None, **member), known)
        if models:
            self.report(name, *models)

    def report(self, name: str, *models: Model | str, **report) -> bool:
        listed = tuple(Model(id=m) if isinstance(m, str) else m for m in models)
        return self.fleet.report(name, Report(**{"ok": True, "models": listed} | report), 0.01)

    def who(self, *ids: str, any_model: bool = False) -> list[tuple[str, str]]:
        leg = a_leg("x", ids=ids, any_model=any_model)
        return [(c.backend, c.model) for c in self.fleet.candidates(leg)]

    def one(self, id: str):
        (candidate,) = self.fleet.candidates(a_leg(id))
        return candidate


# ---------------------------------------------------------------- names


def test_pairs_are_found_by_public_name_and_by_the_servers_own_aliases():
    house = House()
    house.join("a", Model(id="llama3:latest", aliases=("llama3",)), "qwen")
    house.join("b", "llama3")
    assert house.who("llama3") == [("a", "llama3:latest"), ("b", "llama3")]
    assert house.who("llama3:latest") == [("a", "llama3:latest")]
    assert house.who("llama3", "llama3:latest") == [("a", "llama3:latest"), ("b", "llama3")]
    assert house.who(any_model=True) == [("a", "llama3:latest"), ("a", "qwen"), ("b", "llama3")]
    assert house.who("nobody") == []
    assert house.fleet.names() == ("llama3:latest", "qwen", "llama3")
    assert house.fleet.find("llama3")
    assert not house.fleet.find("x")


def test_the_log_says_what_a_backend_serves_once_it_is_known_and_when_it_changes(caplog):
    caplog.set_level(logging.INFO, "nexus.health")
    house = House()
    house.join("a", "x", "y")
    house.report("a", "x", Model(id="y", state=State.READY))
    house.report("a", "y")
    house.report("a")
    house.report("a", *"bcdefg", "z" * 500)
    house.report("a", *"bc\u202e", "z" * 1000, "half \ud800", "", "two\nlines")
    assert [record.getMessage() for record in caplog.records] == [
        "a serves x, y",
        "a serves y",
        "a serves no model",
        "a serves b, c, d, e and 3 more",
        r"a serves b, c, \u202e",
        "a: 4 models are left out, since no request can ask for their ids",
    ]


def test_a_model_that_was_renamed_is_found_by_its_new_name_only():
    house = House()
    house.join("a", Model(id="llava", aliases=("llava:7b",)), overrides=(Override(id="llava:7b", name="vision"),))
    assert house.who("vision") == [("a", "llava")]
    assert house.who("llava") == house.who("llava:7b") == []
    assert house.one("vision").names == ("vision", "llava", "llava:7b")


def test_the_operators_word_goes_before_the_servers():
    house = House()
    told = Model(
        id="m",
        offers={"vision": True, "tools": True},
        context=10,
        context_max=20,
        max_output_tokens=5,
        price=Price(input=1, output=1),
    )
    written = Override(id="m", offers={"chat": True}, context=99, tier=4, zone=Zone.RESTRICTED, price=Price(input=0, output=0))
    house.join("a", told, overrides=(written,), tier=2, zone=Zone.OPEN)
    c = house.one("m")
    assert c.max_output_tokens == 5
    assert (c.context, c.context_max, c.tier, c.zone, c.price) == (99, 20, 4, "restricted", Price(input=0, output=0))
    assert {need for need, offered in c.offers.items() if offered} == {"chat"}
    assert c.offers["vision"] is False


def test_what_a_kind_cannot_holds_unless_the_operator_says_otherwise():
    told = Model(id="m", offers={"vision": False, "image_url": False, "documents": True})
    for written, seen in (({"vision": True}, {"vision"}), ({"vision": True, "image_url": True}, {"vision", "image_url"})):
        house = House()
        house.join("a", told, overrides=(Override(id="m", offers=written),))
        assert {need for need, offered in house.one("m").offers.items() if offered} == seen


@pytest.mark.parametrize(
    ("zone", "remote", "written", "seen"),
    [
        ("restricted", False, None, "restricted"),
        ("restricted", True, None, "open"),
        ("restricted", True, "restricted", "restricted"),
        ("open", False, "restricted", "restricted"),
        ("open", False, None, "open"),
        ("restricted", False, "open", "open"),
    ],
)
def test_the_zone_of_a_pair(zone, remote, written, seen):
    house = House()
    overrides = (Override(id="m", zone=Zone(written)),) if written else ()
    house.join("a", Model(id="m", remote=remote), zone=Zone(zone), overrides=overrides)
    assert (house.one("m").zone, house.one("m").cloud) == (seen, remote)


def test_only_the_models_that_are_listed_are_used():
    house = House()
    house.join("a", "llama3:8b", "qwen", Model(id="x", aliases=("llama-x",)), models=("llama*",))
    assert house.who(any_model=True) == [("a", "llama3:8b"), ("a", "x")]


# ---------------------------------------------------------------- coming, changing, going


def test_what_a_probe_says_replaces_what_was_known_and_keeps_what_was_measured():
    house = House()
    house.join("a", known=[Model(id="old", state=State.READY), Model(id="both")])
    assert (house.one("old").state, house.one("old").health) == (State.UNKNOWN, Health.UNKNOWN)
    house.fleet.claim(house.one("both"), a_request()).finish("ok")
    house.clock.advance(1)
    assert house.report("a", Model(id="both", state=State.READY), "new")
    assert house.who(any_model=True) == [("a", "both"), ("a", "new")]
    assert house.one("both").seconds == 0.0
    assert house.one("both").resident == {"both"}
    assert not house.report("a", Model(id="both", state=State.READY), "new")
    assert not house.fleet.report("a", Report(ok=True), 0.01)
    assert house.who("new") == [("a", "new")]
    assert house.report("a")
    assert house.who(any_model=True) == []


def test_a_server_that_is_down_keeps_its_models():
    house = House()
    house.join("a", "m")
    for _ in range(3):
        house.fleet.report("a", Report(ok=False, code="unreachable", problem="refused"), 0.01)
    assert (house.one("m").health, house.one("m").state) == (Health.UNHEALTHY, State.OFF)
    assert house.fleet.standings["a"].problem == "refused"


def test_what_was_said_is_what_happened():
    house = House()
    house.join("a", "m")
    house.report("a", "m")
    house.fleet.claim(house.one("m"), a_request()).finish("ok")
    house.fleet.leave("a")
    house.fleet.leave("a")
    assert [type(e) for e in house.events if not isinstance(e, Probed)] == [Joined, Claimed, type(house.events[-2]), Left]
    assert [(e.changed, e.health, e.models) for e in house.events if isinstance(e, Probed)] == [
        (True, "healthy", 1),
        (False, "healthy", 1),
    ]
    assert house.freed == ["a", "a"]  # a probe without news, and a slot
    assert house.changes == 3  # joined, first probe, left
    assert not house.report("a", "m")


def test_capacity_is_the_operators_else_the_servers_else_the_kinds():
    house = House()
    house.join("a", "m", default_capacity=1)
    assert house.one("m").capacity == 1
    house.report("a", "m", capacity=4)
    assert house.one("m").capacity == 4
    house.fleet.leave("a")
    house.join("a", capacity=2, default_capacity=1)
    house.report("a", "m", capacity=4)
    assert house.one("m").capacity == 2
    assert house.fleet.has_room("a")
    claims = [house.fleet.claim(house.one("m"), a_request()) for _ in range(2)]
    assert not house.fleet.has_room("a")
    assert (house.fleet.claims, len({claim.id for claim in claims})) == (2, 2)
    claims[0].finish("left")
    assert house.fleet.has_room("a")
    assert not house.fleet.has_room("nobody")


def test_a_model_that_has_just_answered_is_no_longer_asleep():
    house = House()
    house.join("a", Model(id="m", state=State.ASLEEP, eta=9.0))
    house.fleet.claim(house.one("m"), a_request()).finish("ok")
    assert (house.one("m").state, house.one("m").eta, house.one("m").resident) == (State.READY, None, {"m"})


@pytest.mark.parametrize(
    ("tokens", "stream", "speed"), [(0, True, None), (1, True, None), (2, True, 0.5), (8, True, 2.0), (8, False, None)]
)
def test_a_speed_is_measured_where_tokens_came_one_after_the_other(tokens, stream, speed):
    """A single token comes with the first byte: the time after it says nothing of how quick the next would be."""
    house = House()
    house.join("a", "m")
    claim = house.fleet.claim(house.one("m"), a_request(stream=stream))
    house.clock.advance(5)
    claim.finish("ok", usage=Usage(output_tokens=tokens, source="reported"), first_byte=1.0)
    assert house.one("m").speed == speed


def test_a_photograph_is_kept_until_something_changes():
    house = House()
    house.join("a", "m")
    before = house.one("m")
    assert house.one("m") is before
    house.fleet.claim(before, a_request())
    assert house.one("m") == replace(before, in_flight=1, backend_in_flight=1, domain_in_flight=1)
    assert (before.in_flight, before.backend_in_flight) == (0, 0)


def test_the_zone_may_be_known_later():
    house = House()
    house.join("a", "m")
    house.fleet.place("a", Zone.RESTRICTED, "10.0.0.1 is private")
    assert house.one("m").zone == "restricted"


def test_what_healthy_backends_serve_is_counted_as_it_changes():
    house = House()
    assert not house.fleet.served
    house.join("a", "x", "y")
    house.join("b", Model(id="y:latest", aliases=("y",)), "y")
    assert house.fleet.served == {"x": 1, "y": 2, "y:latest": 1}
    house.report("b", "z")
    assert house.fleet.served == {"x": 1, "y": 1, "z": 1}
    assert [name for name in ("x", "y", "y:latest", "z", "n") if house.fleet.serves(name)] == ["x", "y", "z"]
    for _ in range(3):
        house.report("a", ok=False, models=None)
    assert house.fleet.served == {"z": 1}
    assert not house.fleet.serves("x")
    house.fleet.leave("b")
    house.report("a", "x", "y")
    house.report("a", "x", "y")
    assert house.fleet.served == {"x": 1, "y": 1}
    house.fleet.leave("a")
    assert not house.fleet.served
