"""Privacy and tier, end to end: whatever breaks, a restricted request reaches no open backend, and nobody gets a lesser model."""

import asyncio

import pytest

from nexus.testing import (
    CutAfter,
    ErrorEventFirst,
    FakeModel,
    Hang,
    Held,
    Malformed,
    Respond,
    Stream,
    ollama_server,
    openai_server,
    vllm_server,
)

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

RESTRICTED = {"X-Nexus-Zone": "restricted"}
FAILURES = {
    "500": Respond(500, json={"error": {"message": "boom"}}),
    "503": Respond(503, json={"error": {"message": "full"}}),
    "401": Respond(401, json={"error": {"message": "key"}}),
    "404": Respond(404, json={"error": {"message": "no such model"}}),
    "cut": CutAfter(40, Respond(json={"choices": [{"message": {}}]})),
    "reset": CutAfter(0, Respond(json={}), reset=True),
    "garbage": Malformed(b"SMTP ready\r\n\r\n"),
    "error event": ErrorEventFirst(),
    "empty stream": Stream([], done=False),
}


def refused(said, code: str = "privacy_zone") -> None:
    assert (said.status, said.error["code"]) == (503, code)


# ---------------------------------------------------------------- the restricted one fails, the open one hears nothing


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("failure", FAILURES)
async def test_no_failure_of_the_restricted_backend_leads_to_an_open_one(nexus_gateway, failure, stream):
    async with openai_server() as home, openai_server() as far:
        config = fleet(a_backend("home", home, zone="restricted"), a_backend("far", far))
        gateway = await settled(await nexus_gateway(config))
        home.next(*[FAILURES[failure]] * 5, path=CHAT)
        said = await ask(gateway, headers=RESTRICTED, stream=stream)
        assert said.status == (503 if failure == "503" else 502)
        assert said.error["context"]["privacy_zone_required"] == "restricted"
        assert "far/tiny=privacy:zone" in said.nexus("Rejection-Reasons")
        assert not chats(far)


@pytest.mark.parametrize("way", ["failover", "alias", "fallback", "flexible", "equal ids"])
async def test_a_policy_holds_on_every_way_to_another_backend(nexus_gateway, way):
    """First the restricted backend answers, then it is killed, and is down: at no time does the open one see the request."""
    async with openai_server(["med"]) as home, openai_server(["med", "spare", "twin"]) as far:
        far_models = {"failover": "med", "equal ids": "twin"}.get(way, "spare")
        aliases = {"doctor": ["med", "twin"] if way == "equal ids" else ["med"]}
        config = fleet(
            a_backend("home", home, zone="restricted"),
            a_backend("far", far, models=[far_models]),
            routing={"aliases": aliases, "fallbacks": {"med": ["spare"]} if way == "fallback" else {}},
            policies=[{"models": ["doctor" if way in ("alias", "equal ids") else "med"], "zone": "restricted"}],
            health={"failure_threshold": 1},
        )
        gateway = await settled(await nexus_gateway(config))
        asked = "doctor" if way in ("alias", "equal ids") else "med"
        headers = {"X-Nexus-Flexible": "true", "X-Nexus-Zone": "open"} if way == "flexible" else {"X-Nexus-Zone": "open"}
        first = await ask(gateway, asked, headers=headers)
        assert (first.nexus("Backend"), first.nexus("Privacy-Zone")) == ("home", "restricted")
        home.kill()
        assert (await ask(gateway, asked, headers=headers)).status in (502, 503)
        await gateway.until(lambda: gateway.gateway.fleet.standings["home"].pulse.health == "unhealthy")
        said = await ask(gateway, asked, headers=headers)
        assert said.status == 503
        assert said.nexus("Backend") is None
        if way != "alias":
            refused(said)
            assert said.headers.get("Retry-After") is None
        assert not chats(far)


async def test_the_restricted_backend_dies_in_mid_answer_and_its_request_goes_nowhere_else(nexus_gateway):
    async with openai_server() as home, openai_server() as far:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", home, zone="restricted"), a_backend("far", far))))
        home.next(Held(asyncio.Event(), Respond()), path=CHAT)
        asking = asyncio.get_running_loop().create_task(ask(gateway, headers=RESTRICTED))
        await home.until(lambda: home.in_flight == 1)
        home.kill()
        said = await asking
        assert said.status == 502
        assert [a["backend"] for a in said.error["context"]["attempts"]] == ["home"]
        assert not chats(far)


async def test_a_restricted_request_waits_for_its_busy_backend_rather_than_go_out(nexus_gateway):
    async with openai_server() as home, openai_server() as far:
        config = fleet(a_backend("home", home, zone="restricted", max_concurrent=1), a_backend("far", far))
        gateway = await settled(await nexus_gateway(config))
        gate = asyncio.Event()
        home.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
        tasks = [asyncio.get_running_loop().create_task(ask(gateway, headers=RESTRICTED)) for _ in range(2)]
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        gate.set()
        answers = await asyncio.gather(*tasks)
        assert [(a.status, a.nexus("Backend")) for a in answers] == [(200, "home")] * 2
        assert not chats(far)


# ---------------------------------------------------------------- zones


@pytest.mark.parametrize("name", ["gpt-oss:120b-cloud", "qwen:cloud", "plain"])
async def test_what_a_local_server_forwards_is_open(nexus_gateway, name):
    remote = FakeModel(name, remote_host="https://ollama.com:443" if name == "plain" else None)
    async with ollama_server([remote, "own:latest"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("ollama", server, "ollama"))))
        refused(await ask(gateway, name, headers=RESTRICTED))
        assert not chats(server)
        own = await ask(gateway, "own", headers=RESTRICTED)
        assert (own.status, own.nexus("Privacy-Zone"), own.nexus("Backend-Type")) == (200, "restricted", "local")
        cloud = await ask(gateway, name)
        assert (cloud.status, cloud.nexus("Privacy-Zone"), cloud.nexus("Backend-Type")) == (200, "open", "cloud")


@pytest.mark.parametrize(
    ("kind", "double", "zone"), [("openai-compatible", openai_server, "open"), ("vllm", vllm_server, "restricted")]
)
async def test_only_kinds_that_run_models_are_restricted_by_being_local(nexus_gateway, kind, double, zone):
    async with double() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, kind))))
        (shown,) = (await page(gateway, "/nexus/backends")).json["backends"]
        said = await ask(gateway, headers=RESTRICTED)
    assert shown["zone"] == zone
    assert shown["zone_evidence"]
    assert said.status == (200 if zone == "restricted" else 503)


async def test_a_backend_that_is_written_open_stays_so(nexus_gateway):
    async with vllm_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, "vllm", zone="open"))))
        refused(await ask(gateway, headers=RESTRICTED))


@pytest.mark.parametrize("value", ["Restricted", " restricted "])
async def test_the_header_is_read_as_it_is_meant(nexus_gateway, value):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        refused(await ask(gateway, headers={"X-Nexus-Zone": value}))
        unclear = await ask(gateway, headers={"X-Nexus-Zone": "private"})
        assert (unclear.status, unclear.error["param"]) == (400, "X-Nexus-Zone")
        assert not chats(server)


@pytest.mark.parametrize("order", [["restricted", "open"], ["open", "restricted"]])
async def test_of_two_zone_headers_none_loosens_the_other(nexus_gateway, order):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        said = await ask(gateway, headers=[("X-Nexus-Zone", value) for value in order])
        refused(said)
        assert not chats(server)


# ---------------------------------------------------------------- tier


async def test_overflow_and_fallback_need_at_least_the_home_tier(nexus_gateway):
    async with openai_server(["big"]) as home, openai_server(["big", "spare"]) as weak, openai_server(["spare", "good"]) as strong:
        config = fleet(
            a_backend("home", home, tier=3),
            a_backend("weak", weak, "openai", tier=2),
            a_backend("strong", strong, tier=3, models=["good"]),
            routing={"fallbacks": {"big": ["spare", "good"]}},
            health={"failure_threshold": 1},
        )
        gateway = await settled(await nexus_gateway(config))
        home.kill()
        said = await ask(gateway, "big")
        assert (said.status, said.nexus("Backend"), said.nexus("Fallback-Model")) == (200, "strong", "good")
        strong.kill()
        await ask(gateway, "big")
        await gateway.until(
            lambda: not any(gateway.gateway.fleet.standings[n].pulse.health == "healthy" for n in ("home", "strong"))
        )
        refused(said := await ask(gateway, "big"), "tier")
        assert said.error["context"]["required_tier"] == 3
        flexible = await ask(gateway, "big", headers={"X-Nexus-Flexible": "1"})
        refused(flexible, "tier")
        assert not chats(weak)


async def test_a_policy_may_ask_for_more_than_the_home_tier(nexus_gateway):
    async with openai_server() as low, openai_server() as high:
        config = fleet(a_backend("low", low), a_backend("high", high, tier=4), policies=[{"models": ["tiny"], "min_tier": 4}])
        gateway = await settled(await nexus_gateway(config))
        assert (await ask(gateway)).nexus("Backend") == "high"
        high.next(Respond(500, json={}), path=CHAT)
        assert (await ask(gateway)).status == 502
        assert not chats(low)


async def test_a_model_may_have_a_tier_and_a_zone_of_its_own(nexus_gateway):
    async with openai_server(["a", "b"]) as server:
        models = [{"id": "b", "tier": 5, "zone": "restricted"}]
        config = fleet(a_backend("one", server, models=models), policies=[{"models": ["*"], "min_tier": 5, "zone": "restricted"}])
        gateway = await settled(await nexus_gateway(config))
        assert (await ask(gateway, "b")).status == 200
        assert (await ask(gateway, "a")).status == 503
        assert [body["model"] for body in chats(server)] == ["b"]


async def test_a_request_that_is_held_stays_where_it_may_be(nexus_gateway):
    """A stream whose restricted backend never answers ends in a timeout, not elsewhere."""
    async with openai_server() as home, openai_server() as far:
        config = fleet(
            a_backend("home", home, zone="restricted"), a_backend("far", far), upstream={"first_byte_timeout_seconds": 0.2}
        )
        gateway = await settled(await nexus_gateway(config))
        home.next(Hang(), path=CHAT)
        said = await ask(gateway, headers=RESTRICTED, stream=True)
        assert (said.status, said.error["code"]) == (504, "all_attempts_timed_out")
        assert not chats(far)
