"""Names become legs: aliases, fallbacks, flexible, and the policies that bind each leg by every name on its way."""

import itertools

import pytest

from nexus.model import NO_DEMAND, Demand, Zone
from nexus.names import KEPT, Names, matcher
from nexus.policies import Policy
from nexus.testing import FakeModel, ollama_server, openai_server
from nexus.wishes import wishes_of

from .asking import a_backend, ask, chats, fleet, page, settled

RESTRICTED = Demand(zone=Zone.RESTRICTED)


def names(aliases=(), fallbacks=(), policies=()) -> Names:
    """`policies` are (globs, demand)."""
    return Names(dict(aliases), dict(fallbacks), [Policy(models=tuple(globs), demand=demand) for globs, demand in policies])


def way(known: Names, asked: str, *, strict=False, flexible=False):
    return [(leg.index, leg.name, leg.ids) for leg in known.legs(asked, strict=strict, flexible=flexible)]


# ---------------------------------------------------------------- aliases


def test_a_name_that_nobody_configured_is_itself():
    assert way(names(), "tiny") == [(0, "tiny", ("tiny",))]


def test_an_alias_may_lead_over_three_steps():
    known = names({"a": ["b"], "b": ["c"], "c": ["d"]})
    (leg,) = known.legs("a", strict=False, flexible=False)
    assert (leg.name, leg.ids, leg.trail) == ("d", ("d",), ("a", "b", "c", "d"))


def test_several_ids_held_equal_end_the_chain_and_count_as_one_leg():
    known = names({"a": ["b"], "b": ["x", "y"], "x": ["never"]})
    (leg,) = known.legs("a", strict=False, flexible=False)
    assert (leg.name, leg.ids, leg.trail) == ("b", ("x", "y"), ("a", "b", "x", "y"))


# ---------------------------------------------------------------- fallbacks, strict and flexible


def test_fallbacks_in_order_and_their_own_chains_are_not_followed():
    known = names(fallbacks={"a": ["b", "c"], "b": ["never"]})
    assert way(known, "a") == [(0, "a", ("a",)), (1, "b", ("b",)), (2, "c", ("c",))]


def test_a_fallback_may_be_an_alias():
    known = names({"big": ["x", "y"], "far": ["z"]}, {"a": ["big", "far"]})
    assert way(known, "a") == [(0, "a", ("a",)), (1, "big", ("x", "y")), (2, "z", ("z",))]


@pytest.mark.parametrize("of", ["alias", "middle", "model"])
def test_an_alias_has_the_fallbacks_of_the_first_name_on_the_way_that_has_any(of):
    known = names({"alias": ["middle"], "middle": ["model"]}, {of: ["spare"], "zzz": ["never"]})
    assert way(known, "alias") == [(0, "model", ("model",)), (1, "spare", ("spare",))]


def test_strict_keeps_aliases_and_drops_the_rest_and_wins_over_flexible():
    known = names({"a": ["b"]}, {"a": ["c"]})
    assert way(known, "a", strict=True) == [(0, "b", ("b",))]
    assert way(known, "a", strict=True, flexible=True) == [(0, "b", ("b",))]


def test_flexible_adds_any_model_after_the_fallbacks():
    *_, last = names(fallbacks={"a": ["b"]}).legs("a", strict=False, flexible=True)
    assert (last.index, last.any_model, last.ids) == (2, True, ())


# ---------------------------------------------------------------- policies


@pytest.mark.parametrize("named", ["a", "b", "c", "[abc]", "?"])
def test_a_policy_binds_by_any_name_on_the_way(named):
    known = names({"a": ["b"], "b": ["c"]}, policies=[([named], RESTRICTED)])
    assert [leg.demand for leg in known.legs("a", strict=False, flexible=True)] == [RESTRICTED, RESTRICTED]


def test_a_policy_on_a_fallback_binds_that_leg_only():
    known = names({"spare": ["x"]}, {"a": ["spare", "y"]}, [(["x"], RESTRICTED)])
    assert [leg.demand for leg in known.legs("a", strict=False, flexible=False)] == [NO_DEMAND, RESTRICTED, NO_DEMAND]


def test_the_strictest_word_of_all_policies_that_match_wins():
    known = names(
        policies=[(["m*"], Demand(min_tier=2)), (["*"], RESTRICTED), (["mm"], Demand(min_tier=4)), (["z"], Demand(min_tier=5))]
    )
    (leg,) = known.legs("mm", strict=True, flexible=False)
    assert leg.demand == Demand(zone=Zone.RESTRICTED, min_tier=4)


@pytest.mark.parametrize(
    ("globs", "yes", "no"),
    [
        (["med-*"], ["med-", "med-a/b:c"], ["Med-a", "xmed-a", ""]),
        (["a", "b?"], ["a", "bc"], ["b", "bcd", "aa"]),
        (["*"], ["", "anything"], []),
        (["org/m[12]"], ["org/m1"], ["org/m3", "org/m1x"]),
        ([], [], ["", "a"]),
    ],
)
def test_globs(globs, yes, no):
    matches = matcher(globs)
    assert [name for name in yes + no if matches(name)] == yes


# ---------------------------------------------------------------- through a gateway


async def test_an_alias_beats_a_served_model_of_that_name(nexus_gateway):
    async with openai_server(["gpt-4o", "tiny"]) as server:
        config = fleet(a_backend("one", server), routing={"aliases": {"gpt-4o": "tiny"}})
        gateway = await settled(await nexus_gateway(config))
        said = await ask(gateway, "gpt-4o")
        listed = (await page(gateway, "/v1/models")).json["data"]
    assert (said.status, said.nexus("Model")) == (200, "tiny")
    assert chats(server)[0]["model"] == "tiny"
    assert sorted(entry["id"] for entry in listed) == ["gpt-4o", "tiny"]


async def test_ids_held_equal_are_one_model_on_many_servers(nexus_gateway):
    async with openai_server(["llama3:70b"]) as one, openai_server(["meta/Llama-70B"]) as two:
        aliases = {"llama": ["llama3:70b", "meta/Llama-70B"]}
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("one", one), a_backend("two", two), routing={"aliases": aliases}))
        )
        assert (await ask(gateway, "llama")).nexus("Model") == "llama3:70b"
        one.kill()
        said = await ask(gateway, "llama")
    assert (said.nexus("Model"), said.nexus("Route-Reason")) == ("meta/Llama-70B", "failover")
    assert said.nexus("Fallback-Model") is None
    assert chats(two)[0]["model"] == "meta/Llama-70B"


async def test_fallback_strict_and_flexible_by_header(nexus_gateway):
    async with openai_server(["big"]) as one, openai_server(["small", "other"]) as two:
        config = fleet(a_backend("one", one), a_backend("two", two), routing={"fallbacks": {"big": ["small"]}})
        gateway = await settled(await nexus_gateway(config))
        flexible = await ask(gateway, "nobody-has-this", headers={"X-Nexus-Flexible": "true"})
        assert (flexible.status, flexible.nexus("Route-Reason"), flexible.nexus("Backend")) == (200, "fallback", "one")
        unknown = await ask(gateway, "nobody-has-this")
        assert (unknown.status, unknown.error["code"]) == (404, "model_not_found")
        one.kill()
        fallen = await ask(gateway, "big")
        assert (fallen.status, fallen.nexus("Model"), fallen.nexus("Fallback-Model")) == (200, "small", "small")
        strict = await ask(gateway, "big", headers={"X-Nexus-Strict": "true", "X-Nexus-Flexible": "true"})
        assert strict.status in (502, 503)
        assert strict.error["code"] in ("all_attempts_failed", "backends_unavailable")


@pytest.mark.parametrize(
    ("asked", "policy"),
    [("chat", "chat"), *itertools.product(("chat", "llama3", "llama3:latest"), ("llama3", "llama3:latest", "*:latest"))],
)
async def test_a_policy_binds_by_every_name_of_the_pair_too(nexus_gateway, asked, policy):
    """Ollama knows `llama3:latest` as `llama3` as well; whoever asks, and whichever of the two the policy names, it is one model."""
    async with ollama_server([FakeModel("llama3:latest")]) as server:
        config = fleet(
            a_backend("ollama", server, "ollama", zone="open"),
            routing={"aliases": {"chat": "llama3"}},
            policies=[{"models": [policy], "zone": "restricted"}],
        )
        gateway = await settled(await nexus_gateway(config))
        said = await ask(gateway, asked)
    assert (said.status, said.error["code"]) == (503, "privacy_zone")
    assert not chats(server)


@pytest.mark.parametrize("policy", ["llava", "vision-small"])
async def test_a_policy_binds_by_the_servers_id_and_by_the_public_name(nexus_gateway, policy):
    async with openai_server(["llava"]) as server:
        backend = a_backend("one", server, models=[{"id": "llava", "name": "vision-small"}])
        gateway = await settled(await nexus_gateway(fleet(backend, policies=[{"models": [policy], "zone": "restricted"}])))
        said = await ask(gateway, "vision-small")
        assert (said.status, said.error["code"]) == (503, "privacy_zone")
        assert (await ask(gateway, "llava")).status == 404
    assert not chats(server)


# ---------------------------------------------------------------- what is kept


def test_names_of_the_configuration_are_kept_however_many_and_others_are_bounded(monkeypatch):
    aliases = {f"alias-{n}": [f"model-{n}"] for n in range(2 * KEPT)}
    known = names(aliases, {"spare": ["other"]}, [(["model-*"], RESTRICTED)])
    made, inner = [], known._legs
    monkeypatch.setattr(known, "_legs", lambda asked, **how: made.append(asked) or inner(asked, **how))
    for _ in range(3):
        for alias in (*aliases, "spare"):
            (leg, *_) = known.legs(alias, strict=True, flexible=False)
            assert leg.demand == (NO_DEMAND if alias == "spare" else RESTRICTED)
    assert sorted(made) == sorted([*aliases, "spare"])
    for number in range(3 * KEPT):
        known.legs(f"unknown-{number}", strict=False, flexible=False)
    known.legs("long" * 1000, strict=False, flexible=False)
    assert len(known._others) == KEPT
    made.clear()
    known.legs("alias-0", strict=True, flexible=False)
    known.legs(f"unknown-{3 * KEPT - 1}", strict=False, flexible=False)
    assert made == []


# ---------------------------------------------------------------- strict and flexible, as headers say them


@pytest.mark.parametrize(
    ("value", "strict"),
    [
        *[(word, True) for word in ("true", " TRUE ", "1", "yes", "on", "true, false")],
        *[(word, False) for word in ("false", "0", "no", "off", "", "false,false")],
    ],
)
def test_words_for_yes_and_no(value, strict):
    assert wishes_of({"x-nexus-strict": value}).strict is strict
    assert wishes_of({"x-nexus-flexible": value}).flexible is strict


@pytest.mark.parametrize("value", ["nope", "true;", "2", "true, nope", "strict"])
@pytest.mark.parametrize("name", ["X-Nexus-Strict", "X-Nexus-Flexible"])
async def test_a_word_that_is_neither_yes_nor_no_is_a_400_that_names_both(nexus_gateway, name, value):
    async with openai_server() as up:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", up))))
        said = await ask(gateway, headers={name: value})
        assert (said.status, said.error["param"], said.error["message"]) == (400, name, f"{name} must be 'true' or 'false'")
        assert not chats(up)
