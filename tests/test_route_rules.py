"""What rules keep from a request (its zone, its tier, its key) hides nothing of what the others say.  Real gateways, real sockets."""

import json

import anthropic
import openai
import pytest

from nexus.keys import new_key
from nexus.testing import FakeModel, Respond, llamacpp_server, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

LONG = {"messages": [{"role": "user", "content": "x" * 8000}]}
TOOLS = {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]}
RULES = ("zone", "tier", "key")
LACKS_TOOLS = Respond(400, json={"error": {"message": "tiny does not support tools"}})


def ruled(rule, home, far, type):
    """A fleet in which the rule keeps requests for `tiny` from `far`, and what a client of it sends."""
    text, hash = new_key()
    tables = {"zone": {"policies": [{"models": ["tiny"], "zone": "restricted"}]}, "tier": {}}
    fallback = {"keys": [{"name": "laptop", "hash": hash, "models": ["tiny"]}], "routing": {"fallbacks": {"tiny": ["other"]}}}
    own = {"zone": {"zone": "restricted"}, "tier": {"tier": 3}, "key": {}}[rule]
    second = {"type": "openai"} if rule == "tier" else {}  # the tier of what is at home is the least that counts
    backends = a_backend("home", home, type, **own), a_backend("far", far, **second)
    headers = {"Authorization": f"Bearer {text}"} if rule == "key" else {}
    return fleet(*backends, **tables.get(rule, fallback)), headers


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("fields", "code"), [(LONG, "context_length_exceeded"), (TOOLS, "capability_mismatch")])
async def test_what_the_permitted_cannot_is_told_as_if_the_others_were_not_there(nexus_gateway, rule, fields, code):
    far_model = "other" if rule == "key" else "tiny"
    async with llamacpp_server([FakeModel("tiny", context=64, tools=False)]) as home, openai_server([far_model]) as far:
        config, headers = ruled(rule, home, far, "llamacpp")
        gateway = await settled(await nexus_gateway(config))
        both = await ask(gateway, headers=headers, **fields)
        reasons = {(r["backend"], r["reason"]) for r in both.error["context"]["refusals"]}
        assert ("far", rule) in reasons, "this is about what is refused by a rule"
        gateway.gateway.fleet.leave("far")
        alone = await ask(gateway, headers=headers, **fields)
        assert [(said.status, said.error["code"], said.error["message"]) for said in (both, alone)] == [
            (400, code, alone.error["message"])
        ] * 2
        assert not chats(far)


@pytest.mark.parametrize("rule", RULES)
async def test_nor_does_it_hide_what_the_permitted_said_they_cannot(nexus_gateway, rule):
    far_model = "other" if rule == "key" else "tiny"
    async with openai_server() as home, openai_server([far_model]) as far:
        config, headers = ruled(rule, home, far, "openai-compatible")
        gateway = await settled(await nexus_gateway(config))
        home.next(LACKS_TOOLS, path=CHAT)
        first = await ask(gateway, headers=headers, **TOOLS)
        again = await ask(gateway, headers=headers, **TOOLS)
    assert [(said.status, said.error["code"], said.nexus("Attempts")) for said in (first, again)] == [
        (400, "capability_mismatch", "1"),
        (400, "capability_mismatch", "0"),
    ]


async def test_what_a_rule_keeps_away_is_still_the_reason_where_it_alone_could(nexus_gateway):
    """Nobody permitted says a word, or one of them only is down."""
    async with llamacpp_server([FakeModel("tiny", context=64)]) as home, openai_server() as down, openai_server() as far:
        backends = [a_backend("home", home, "llamacpp"), a_backend("down", down, zone="restricted"), a_backend("far", far)]
        config = fleet(*backends, policies=[{"models": ["tiny"], "zone": "restricted"}], health={"failure_threshold": 1})
        gateway = await settled(await nexus_gateway(config))
        down.kill()
        gateway.gateway.fleet.doubted("down")
        await gateway.until(lambda: gateway.gateway.fleet.standings["down"].pulse.health == "unhealthy")
        one_is_down = await ask(gateway, **LONG)
        gateway.gateway.fleet.leave("down")
        gateway.gateway.fleet.leave("home")
        nobody = await ask(gateway, **LONG)
    assert [(said.status, said.error["code"]) for said in (one_is_down, nobody)] == [(503, "privacy_zone")] * 2


# ---------------------------------------------------------------- what asking again cannot change


def retried(said) -> str | None:
    return said.headers.get("X-Should-Retry")


@pytest.mark.parametrize("rule", ["zone", "tier", "both"])
async def test_a_refusal_that_lasts_says_that_asking_again_is_in_vain(nexus_gateway, rule):
    policy = {"zone": {"zone": "restricted"}, "tier": {"min_tier": 4}, "both": {"zone": "restricted", "min_tier": 4}}[rule]
    async with openai_server() as far:
        gateway = await settled(await nexus_gateway(fleet(a_backend("far", far), policies=[{"models": ["tiny"], **policy}])))
        said = await ask(gateway)
        streamed = await ask(gateway, stream=True)
    code = {"zone": "privacy_zone", "tier": "tier", "both": "no_backend_available"}[rule]
    for one in said, streamed:
        assert (one.status, one.error["code"], retried(one), one.headers.get("Retry-After")) == (503, code, "false", None)
    assert said.error["context"]["required_tier"] == (4 if rule == "tier" else None), "its zone alone would have kept it away"


async def test_what_time_may_mend_does_not_say_so(nexus_gateway):
    """A permitted one is down, or has not said what it serves; whether or not others are refused for good."""
    async with openai_server() as home, openai_server() as far, openai_server() as silent:
        silent.stop_listening()
        backends = [a_backend("home", home, zone="restricted"), a_backend("far", far), a_backend("silent", silent)]
        config = fleet(*backends, policies=[{"models": ["tiny"], "zone": "restricted"}], health={"failure_threshold": 1})
        gateway = await settled(await nexus_gateway(config))
        home.kill()
        gateway.gateway.fleet.doubted("home")
        await gateway.until(lambda: gateway.gateway.fleet.standings["home"].pulse.health == "unhealthy")
        both = await ask(gateway)
        gateway.gateway.fleet.leave("silent")
        down = await ask(gateway)
        gateway.gateway.fleet.leave("home")
        neither = await ask(gateway)
    assert [(said.status, said.error["code"]) for said in (both, down, neither)] == [(503, "privacy_zone")] * 3
    assert [retried(said) for said in (both, down, neither)] == [None, None, "false"]


async def test_the_tier_that_is_named_is_that_of_the_pair_that_was_refused_for_it(nexus_gateway):
    """Of a fallback's own policy here: the model that was asked for needs no more than it has itself."""
    async with openai_server() as home, openai_server(["spare"]) as weak:
        backends = a_backend("home", home, tier=2), a_backend("weak", weak, tier=3)
        tables = {"routing": {"fallbacks": {"tiny": ["spare"]}}, "policies": [{"models": ["spare"], "min_tier": 5}]}
        gateway = await settled(await nexus_gateway(fleet(*backends, health={"failure_threshold": 1}, **tables)))
        home.kill()
        gateway.gateway.fleet.doubted("home")
        await gateway.until(lambda: gateway.gateway.fleet.standings["home"].pulse.health == "unhealthy")
        said = await ask(gateway)
    assert (said.status, said.error["code"], said.error["context"]["required_tier"], retried(said)) == (503, "tier", 5, None)


async def with_openai(url, **chat):
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
        await client.chat.completions.create(**chat)


async def with_anthropic(url, **chat):
    async with anthropic.AsyncAnthropic(base_url=url, api_key="none") as client:
        await client.messages.create(max_tokens=9, **chat)


@pytest.mark.parametrize("chatted", [with_openai, with_anthropic])
async def test_the_clients_of_openai_and_anthropic_do_not_ask_again(nexus_gateway, chatted):
    """They retry any other 503, twice where nobody has said otherwise."""
    async with openai_server() as far:
        policies = [{"models": ["tiny"], "zone": "restricted"}]
        gateway = await settled(await nexus_gateway(fleet(a_backend("far", far), policies=policies)))
        with pytest.raises((openai.APIStatusError, anthropic.APIStatusError), match="503"):
            await chatted(gateway.url, model="tiny", messages=[{"role": "user", "content": "hi"}])
        asked = json.loads((await page(gateway, "/nexus/requests")).body)["requests"]
    assert [request["code"] for request in asked] == ["privacy_zone"]
