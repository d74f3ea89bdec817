"""Models that no list has: declared by the operator, meant by a pattern, or there since a moment ago."""

import asyncio
import random
from fnmatch import fnmatchcase

import pytest

from nexus.api import Server
from nexus.catalog import Catalog
from nexus.listing import Listing, Override
from nexus.model import Model
from nexus.pairs import MOST_MEANT
from nexus.testing import FakeModel, Held, Respond, a_scope, litellm_server, ollama_server, openai_server

from .asking import a_backend, ask, chats, fleet, page, settled

LIST = "/v1/models"


def lists(server, *entries):
    """The server serves whatever it is asked for, and lists only this."""
    server.any_model = True
    server.on(LIST, Respond(json={"object": "list", "data": list(entries)}), method="GET")
    return server


def no_list(server, status=404):
    server.any_model = True
    server.on(LIST, Respond(status, json={"detail": "Not Found"}), method="GET")
    return server


async def serving(nexus_gateway, server, *models, type="openai-compatible", **tables):
    backend = a_backend("one", server, type, **({"models": list(models)} if models else {}))
    return await settled(await nexus_gateway(fleet(backend, **tables)))


async def served(gateway) -> list[str]:
    return [entry["id"] for entry in (await page(gateway, LIST)).json["data"]]


# ---------------------------------------------------------------- declared


@pytest.mark.parametrize("models", [["mine"], [{"id": "mine"}], [{"id": "mine", "context": 4096, "capabilities": ["chat"]}]])
@pytest.mark.parametrize("listed", [(), ({"id": "other"},), None, "no such path", "no such method"])
async def test_what_is_declared_is_served_whether_it_is_listed_or_not(nexus_gateway, models, listed):
    async with openai_server() as server:
        if isinstance(listed, str):
            no_list(server, 404 if "path" in listed else 405)
        elif listed is None:
            server.any_model = True
            server.on(LIST, Respond(json={"object": "list", "data": None}), method="GET")
        else:
            lists(server, *listed)
        gateway = await serving(nexus_gateway, server, *models)
        assert gateway.gateway.fleet.standings["one"].pulse.health == "healthy"
        assert "mine" in await served(gateway)
        assert (await ask(gateway, "mine")).status == 200
        assert chats(server)[0]["model"] == "mine"
        (pair,) = [m for m in (await page(gateway, "/nexus/models")).json["models"] if m["id"] == "mine"]
        assert pair["state"] == "unknown"
        assert pair["context"] == (4096 if isinstance(models[0], dict) and "context" in models[0] else None)


async def test_a_server_without_a_list_is_ill_where_nothing_is_declared(nexus_gateway):
    async with openai_server() as server:
        gateway = await serving(nexus_gateway, no_list(server))
        assert "GET /v1/models" in gateway.gateway.fleet.standings["one"].problem


async def test_what_is_declared_is_known_before_its_server_has_ever_answered(nexus_gateway):
    async with openai_server() as server:
        server.stop_listening()
        for type in ("openai-compatible", "auto"):
            gateway = await serving(nexus_gateway, server, "mine", type=type, routing={"aliases": {"alias": "mine"}})
            for name in ("mine", "alias"):
                said = await ask(gateway, name)
                assert (said.status, said.error["code"]) == (503, "backends_unavailable")
                assert "one" in said.error["message"]


async def test_what_the_server_knows_by_another_name_is_not_declared_twice(nexus_gateway):
    async with ollama_server(["llama3:latest"]) as server:
        gateway = await serving(nexus_gateway, server, "llama3", type="ollama")
        assert await served(gateway) == ["llama3:latest"]


async def test_what_is_declared_has_the_facts_of_the_list_once_it_is_there(nexus_gateway):
    async with openai_server() as server:
        lists(server)
        gateway = await serving(nexus_gateway, server, {"id": "mine", "name": "public"})
        assert await served(gateway) == ["public"]
        lists(server, {"id": "mine", "max_model_len": 2048})
        gateway.gateway.fleet.doubted("one")
        await gateway.until(lambda: gateway.gateway.fleet.standings["one"].pairs["mine"].model.context == 2048)
        assert await served(gateway) == ["public"]


# ---------------------------------------------------------------- patterns


async def test_a_pattern_in_a_list_serves_every_name_that_fits(nexus_gateway):
    async with openai_server() as server:
        gateway = await serving(
            nexus_gateway, lists(server, {"id": "ollama/*"}, {"id": "ollama/listed", "max_model_len": 512}, {"id": "a?b[c]*"})
        )
        assert await served(gateway) == ["ollama/listed"]
        for name in ("ollama/anything:7b", "ollama/listed", "a?b[c]d"):
            assert (await ask(gateway, name)).status == 200
        for name in ("ollama", "xollama/y", "OLLAMA/x", "axbcd"):
            assert (await ask(gateway, name)).status == 404
        assert [body["model"] for body in chats(server)] == ["ollama/anything:7b", "ollama/listed", "a?b[c]d"]
        assert len(gateway.gateway.fleet.standings["one"].pairs) == 1


async def test_a_route_of_litellm_serves_what_fits(nexus_gateway):
    async with litellm_server(["plain"], any_model=True) as server:
        info = [
            {"model_name": "plain", "model_info": {}},
            {"model_name": "ollama/*", "litellm_params": {"model": "ollama/*"}, "model_info": {}},
        ]
        server.on("/model/info", Respond(json={"data": info}), method="GET")
        gateway = await serving(nexus_gateway, server, type="litellm")
        assert await served(gateway) == ["plain"]
        assert (await ask(gateway, "ollama/qwen3")).status == 200
        assert chats(server)[0]["model"] == "ollama/qwen3"


async def test_a_table_may_have_a_pattern(nexus_gateway):
    async with openai_server() as server:
        tables = ({"id": "team/*", "context": 1024, "tier": 4}, {"id": "team/big", "context": 2048})
        gateway = await serving(nexus_gateway, lists(server, {"id": "team/listed"}, {"id": "other"}), *tables)
        assert sorted(await served(gateway)) == ["other", "team/big", "team/listed"]
        assert (await ask(gateway, "team/new")).status == 200
        known = {m["id"]: (m["context"], m["tier"]) for m in (await page(gateway, "/nexus/models")).json["models"]}
        assert known == {"team/listed": (1024, 4), "team/big": (2048, 1), "other": (None, 1)}
        behind = gateway.gateway.fleet.standings["one"].behind["team/new"]
        assert (behind.photo.context, behind.photo.tier) == (1024, 4)


async def test_the_operators_list_bounds_what_a_pattern_may_mean(nexus_gateway):
    async with openai_server() as server:
        gateway = await serving(nexus_gateway, lists(server, {"id": "*"}), "safe/*")
        assert (await ask(gateway, "safe/x")).status == 200
        assert (await ask(gateway, "other")).status == 404


async def test_a_policy_binds_what_a_pattern_means(nexus_gateway):
    async with openai_server() as server:
        policies = [{"models": ["secret/*"], "zone": "restricted"}]
        gateway = await serving(nexus_gateway, lists(server, {"id": "*"}), policies=policies)
        assert (await ask(gateway, "secret/x")).status in (403, 503)
        assert not chats(server)
        assert (await ask(gateway, "other")).status == 200


async def test_a_server_that_has_the_name_itself_is_asked_before_its_pattern(nexus_gateway):
    async with openai_server(["home"]) as home, openai_server() as cloud:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", home), a_backend("cloud", lists(cloud, {"id": "*"})))))
        assert (await ask(gateway, "home")).nexus("Backend") == "home"
        assert (await ask(gateway, "elsewhere")).nexus("Backend") == "cloud"
        assert len((await page(gateway, "/nexus/models")).json["models"]) == 1


async def test_names_that_fit_are_bounded_and_those_in_use_stay(nexus_gateway):
    async with openai_server() as server:
        gateway = await serving(nexus_gateway, lists(server, {"id": "*"}), balance={"strategy": "priority"})
        standing = gateway.gateway.fleet.standings["one"]
        for n in range(MOST_MEANT + 50):
            await asyncio.gather(ask(gateway, f"m{n}"))
        assert len(standing.behind) == MOST_MEANT
        assert "m0" not in standing.behind
        assert standing.in_flight == 0


# ---------------------------------------------------------------- names that nobody knew a moment ago


async def test_a_model_that_has_just_come_is_served_at_the_first_request(nexus_gateway, monkeypatch):
    monkeypatch.setattr("nexus.probing.NEWS_SECONDS", 0.05)
    async with ollama_server(["old:latest"]) as server, openai_server(["else"]) as other:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, "ollama"), a_backend("two", other))))
        await asyncio.sleep(0.6)  # past the least pause between two probes
        server.models["new:latest"] = FakeModel("new:latest")
        said = await ask(gateway, "new")
        assert (said.status, said.nexus("Backend")) == (200, "one")


async def test_mistyped_names_cost_the_servers_little(nexus_gateway):
    async with openai_server() as server:
        gateway = await serving(nexus_gateway, server)
        probes = lambda: sum(r.path == LIST for r in server.requests)  # noqa: E731
        before = probes()
        for n in range(30):
            assert (await ask(gateway, f"mistyped-{n}")).status == 404
        assert probes() - before <= 1


async def test_a_server_that_hangs_keeps_a_mistyped_name_waiting_for_a_moment_only(nexus_gateway, monkeypatch):
    monkeypatch.setattr("nexus.probing.NEWS_SECONDS", 0.0)
    monkeypatch.setattr("nexus.probing.ROUND_SECONDS", 0.0)
    monkeypatch.setattr("nexus.probing.PATIENCE_SECONDS", 0.1)
    async with openai_server() as server:
        gateway = await serving(nexus_gateway, server)
        server.on(LIST, Held(asyncio.Event(), Respond(json={})), method="GET")
        said = await asyncio.wait_for(ask(gateway, "mistyped"), 5)
        assert said.status == 404


async def test_only_those_that_may_have_it_are_asked(nexus_gateway, monkeypatch):
    monkeypatch.setattr("nexus.probing.NEWS_SECONDS", 0.0)
    async with openai_server() as may, openai_server() as never, openai_server() as down:
        down.stop_listening()
        backends = [a_backend("may", may), a_backend("never", never, models=["tiny*"]), a_backend("down", down)]
        gateway = await settled(await nexus_gateway(fleet(*backends)))
        await asyncio.sleep(0.6)
        before = (len(may.requests), len(never.requests))
        await ask(gateway, "unheard")
        assert (len(may.requests) > before[0], len(never.requests) > before[1]) == (True, False)


# ---------------------------------------------------------------- the rule itself


def simplest(globs, overrides, models):
    """The same, as one would say it."""
    wanted = [*(globs or ("*",)), *(o.id for o in overrides)]
    kept = {m.id: m for m in models if any(fnmatchcase(id, glob) for glob in wanted for id in (m.id, *m.aliases))}
    known = {id for m in kept.values() for id in (m.id, *m.aliases)}
    ids = [*(o.id for o in overrides), *(g for g in globs or () if not set(g) & set("*?["))]
    return list(kept) + [id for id in dict.fromkeys(ids) if id not in known]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_used_of_any_list(seed):
    chance = random.Random(seed)
    names = ["a", "b", "ab", "a/b", "a/c", "b:1", "b:2"]
    for _ in range(200):
        globs = tuple(chance.sample([*names, "a*", "b:?", "*"], chance.randint(1, 3))) if chance.random() < 0.7 else None
        overrides = tuple(Override(id=id) for id in chance.sample([*names, "a/*"], chance.randint(0, 2)))
        models = [Model(id=id, aliases=tuple(chance.sample(names, chance.randint(0, 1)))) for id in chance.sample(names, 4)]
        used = [model.id for model, _, _ in Listing(globs, overrides, frozenset()).entries(models)]
        assert sorted(used) == sorted(simplest(globs, overrides, models))


@pytest.mark.parametrize("kind", ["openai", "openai-compatible", "vllm", "llamacpp", "anthropic", "mlx", "litellm"])
@pytest.mark.parametrize("status", [404, 405, 501])
async def test_a_server_of_any_kind_without_a_list_is_well_where_its_models_are_declared(kind, status):
    found = Catalog.load().backends[kind]
    up = openai_server(["x"]).on("/v1/models", Respond(status, json={"error": {"message": "nf"}}), method="GET")
    async with up, a_scope(kind) as scope:
        for declared, ok in ((("q",), True), (("*",), True), ((), False)):
            server = Server(name="a", url=up.url, declared=declared)
            async with found.open(server, found.options(), scope) as backend:
                report = await backend.probe()
                assert (report.ok, report.models) == ((True, ()) if ok else (False, None)), (declared, report)
