"""`/nexus/explain` foretells what the real path then says, and the command line says it in words.  Real gateways, real sockets."""

import asyncio

import pytest

from nexus.api import Refusal, RefusalKind, Refused, Stage, StageKind, hookimpl, opens
from nexus.keys import new_key
from nexus.testing import FakeModel, Held, Respond, ScriptedUpstream, anthropic_server, openai_server

from .asking import CHAT, a_backend, ask, fleet, settled
from .cli_process import nexus

REQUEST = {"request": {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}}


async def explain(gateway, **more):
    async with gateway.client.post("/nexus/explain", json=REQUEST | more) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


def told(error):
    return error["code"], error["message"]


async def test_no_backend(nexus_gateway):
    gateway = await nexus_gateway("")
    foreseen, real = await explain(gateway), await ask(gateway)
    assert (foreseen["outlook"], foreseen["error"]["status"], real.status) == ("refused", 503, 503)
    assert told(foreseen["error"]) == told(real.error)
    assert foreseen["error"]["code"] == "no_backends"


async def test_a_backend_that_is_silent(nexus_gateway, tmp_path):
    async with ScriptedUpstream() as gone:
        gone.stop_listening()
        gateway = await nexus_gateway(fleet({"name": "one", "type": "openai-compatible", "url": gone.url}))
        await gateway.until(lambda: gateway.gateway.fleet.settled)
        foreseen, real = await explain(gateway), await ask(gateway)
    assert (foreseen["outlook"], foreseen["error"]["status"], real.status) == ("refused", 503, 503)
    assert told(foreseen["error"]) == told(real.error)
    assert foreseen["error"]["code"] == "backends_unavailable"


async def test_a_wrong_name_gets_the_nearest(nexus_gateway):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        foreseen = await explain(gateway, request=REQUEST["request"] | {"model": "tinny"})
        real = await ask(gateway, model="tinny")
    assert (foreseen["outlook"], foreseen["error"]["status"], real.status) == ("refused", 404, 404)
    assert told(foreseen["error"]) == told(real.error)
    assert "did you mean 'tiny'?" in foreseen["error"]["message"]


async def test_a_busy_pair_is_waited_for(nexus_gateway, tmp_path):
    gate = asyncio.Event()
    async with openai_server() as server:
        queue = {"max_requests": 1, "max_wait_seconds": 25.0}
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, max_concurrent=1), queue=queue)))
        server.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
        first = asyncio.get_running_loop().create_task(ask(gateway))
        await server.until(lambda: server.in_flight == 1)
        foreseen = await explain(gateway)
        assert (foreseen["outlook"], foreseen["wait_seconds"], foreseen["error"]["code"]) == ("waits", 25.0, "queue_timeout")
        said = await nexus("explain", "tiny", "--url", gateway.url, cwd=tmp_path)
        assert "→ waits in the queue, up to 25 s, until a pair can take it\n" in said.out
        assert "in vain, the client would get 503 queue_timeout:" in said.out
        assert "nobody can take it" not in said.out
        second = asyncio.get_running_loop().create_task(ask(gateway))
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        foreseen, real = await explain(gateway), await ask(gateway)
        assert (foreseen["outlook"], told(foreseen["error"])) == ("refused", told(real.error))
        assert foreseen["error"]["code"] == "queue_full"
        gate.set()
        assert ((await first).status, (await second).status) == (200, 200)


@pytest.mark.parametrize(
    ("overflow_after", "outlook", "wait"), [(0, "goes", None), (20.0, "waits", pytest.approx(20.0, abs=1)), (90.0, "waits", 30.0)]
)
async def test_home_is_waited_for_before_the_cloud(nexus_gateway, tmp_path, overflow_after, outlook, wait):
    gate = asyncio.Event()
    async with openai_server() as home, openai_server([FakeModel("gpt")]) as away:
        cloud = {"name": "away", "type": "openai", "url": away.url, "models": ["gpt"]}
        tables = {"routing": {"aliases": {"both": ["tiny", "gpt"]}}, "queue": {"overflow_after_seconds": overflow_after}}
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", home, max_concurrent=1), cloud, **tables)))
        home.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
        first = asyncio.get_running_loop().create_task(ask(gateway))
        await home.until(lambda: home.in_flight == 1)
        foreseen = await explain(gateway, request=REQUEST["request"] | {"model": "both"})
        said = await nexus("explain", "both", "--url", gateway.url, cwd=tmp_path)
        gate.set()
        assert (await first).status == 200
    assert (foreseen["outlook"], foreseen["error"]) == (outlook, None)
    assert foreseen["wait_seconds"] == wait
    assert foreseen["choices"][0]["backend"] == "away"
    begun = "→ goes to away, model gpt" if outlook == "goes" else "s for home, then goes to away, model gpt"
    assert begun in said.out
    assert "because   capacity-overflow: " in said.out


async def test_what_the_explained_key_may_not_use_is_its_client_s_answer(nexus_gateway, tmp_path):
    (admin, admin_hash), (user, user_hash) = new_key(), new_key()
    keys = [{"name": "boss", "hash": admin_hash, "admin": True}, {"name": "laptop", "hash": user_hash, "models": ["other"]}]
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), keys=keys)))
        real = await ask(gateway, headers={"Authorization": f"Bearer {user}"})
        args = ("explain", "tiny", "--key", "laptop", "--url", gateway.url)
        said = await nexus(*args, cwd=tmp_path, env={"NEXUS_KEY": admin})
        as_json = await nexus(*args, "--json", cwd=tmp_path, env={"NEXUS_KEY": admin})
    assert (real.status, said.code, said.err) == (403, 0, "")
    assert "→ goes nowhere; the client would get 403 model_not_allowed:" in said.out
    assert real.error["message"] in said.out
    assert "admin key" not in said.out
    assert (as_json.json["outlook"], as_json.json["error"]["code"]) == ("refused", "model_not_allowed")


async def test_a_count_of_tokens_that_nobody_can_be_asked_for_is_estimated(nexus_gateway, tmp_path):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        said = await nexus("explain", "tiny", "--body", "-", "--path", "/v1/messages/count_tokens", "--url", gateway.url,
                           cwd=tmp_path, stdin='{"messages": [{"role": "user", "content": "hi"}]}')  # fmt: skip
    assert "→ Nexus answers itself, with an estimate" in said.out, said


MONEY = Respond(402, json={"error": {"message": "Insufficient credits"}})
BROKEN = Respond(500, json={"error": {"message": "no such layer"}})


@pytest.mark.parametrize(
    ("answer", "times", "though", "problem"),
    [
        (MONEY, 1, "is suspended, since its account or key was refused; this request tries it again.", "(it answered 402)"),
        (Respond(403), 2, "keeps failing, or has said what it would say to the next request too", "forbids requests"),
        (BROKEN, 1, "has failed now and then, which counts as seconds lost.", None),
        (BROKEN, 5, "keeps failing, or has said what it would say to the next request too", None),
        (BROKEN, 12, "is left out since it kept failing", "requests failed, the last of them so: it answered 500"),
    ],
    ids=["suspended", "blocked", "failed once", "failing", "left out"],
)
async def test_what_speaks_against_the_only_one_is_said(nexus_gateway, tmp_path, answer, times, though, problem):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        for _ in range(times):
            server.next(answer, path=CHAT)
            await ask(gateway)
        foreseen = await explain(gateway)
        said = await nexus("explain", "tiny", "--url", gateway.url, cwd=tmp_path)
    (choice,) = foreseen["choices"]
    (sentence,) = choice["in_spite_of"]
    assert sentence.startswith(f"one (tiny) {though}")
    assert (choice["problem"] is None) is (problem is None)
    assert (problem or "") in (choice["problem"] or "")
    assert f"  though    {sentence}\n" in said.out


async def test_nothing_speaks_against_one_that_serves(nexus_gateway, tmp_path):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        (choice,) = (await explain(gateway))["choices"]
        said = await nexus("explain", "tiny", "--url", gateway.url, cwd=tmp_path)
    assert (choice["in_spite_of"], choice["problem"]) == ([], None)
    assert "though" not in said.out


async def told_of(gateway, id):
    async with gateway.client.get(f"/nexus/requests/{id}") as answer:
        return await answer.json()


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_rejected_request_has_its_sentence(nexus_gateway, tmp_path, stream):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        server.next(Respond(400, json={"error": {"message": "temperature must be below 2"}}), path=CHAT)
        await ask(gateway, headers={"X-Request-Id": "hot"}, stream=stream)
        story = await told_of(gateway, "hot")
        said = await nexus("explain", "--request", "hot", "--url", gateway.url, cwd=tmp_path)
    assert story["message"] == story["attempts"][0]["message"] == "temperature must be below 2"
    assert said.out.count("temperature must be below 2") == 1


async def test_a_request_that_reached_no_server_has_what_the_client_was_told(nexus_gateway, tmp_path):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        real = await ask(gateway, model="tinny", headers={"X-Request-Id": "typo"})
        broken = {"X-Request-Id": "odd", "X-Nexus-Priority": "soon"}
        malformed = await ask(gateway, headers=broken)
        served = await ask(gateway, headers={"X-Request-Id": "fine"})
        stories = [await told_of(gateway, id) for id in ("typo", "odd", "fine")]
        said = await nexus("explain", "--request", "typo", "--url", gateway.url, cwd=tmp_path)
    assert [story["message"] for story in stories] == [real.error["message"], malformed.error["message"], None]
    assert served.status == 200
    assert f"  told      {real.error['message']}\n" in said.out


async def test_how_long_a_pause_lasts_is_said_where_it_is_longer_than_a_retry_after_may_be(nexus_gateway, tmp_path):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        server.next(Respond(429, headers={"Retry-After": "900"}, json={"error": {"message": "slow down"}}), path=CHAT)
        first, second = await ask(gateway), await ask(gateway)
        foreseen = await explain(gateway)
        told = await nexus("backends", "--url", gateway.url, cwd=tmp_path)
    assert [said.status for said in (first, second)] == [429, 429]
    assert [said.headers["Retry-After"] for said in (first, second)] == ["59", "59"]
    assert first.error["message"].endswith("; asked again in 900 s")
    assert "  models  tiny: paused, suspended or left out for a while; `nexus models` says why\n" in told.out
    for message in (second.error["message"], foreseen["error"]["message"], foreseen["refusals"][0]["sentence"]):
        assert " asked again in 9" in message or " asked again in 89" in message


async def test_a_flexible_request_lists_each_pair_once(nexus_gateway, tmp_path):
    """In explain, on the command line, and in the error of the request itself."""
    async with openai_server(["tiny", "spare"]) as home, openai_server(["tiny", "other"]) as far:
        backends = a_backend("home", home, zone="restricted"), a_backend("far", far)
        gateway = await settled(await nexus_gateway(fleet(*backends)))
        headers = {"X-Nexus-Flexible": "true", "X-Nexus-Zone": "restricted"}
        foreseen = await explain(gateway, headers=headers)
        shown = await nexus("explain", "tiny", "--flexible", "--url", gateway.url, cwd=tmp_path)
        gateway.gateway.fleet.leave("home")
        real = await ask(gateway, headers=headers)
    pairs = [(choice["backend"], choice["model"]) for choice in foreseen["choices"]]
    assert pairs == [("home", "tiny"), ("home", "spare")]
    assert [(r["backend"], r["model"]) for r in foreseen["refusals"]] == [("far", "tiny"), ("far", "other")]
    assert [(r["backend"], r["model"]) for r in real.error["context"]["refusals"]] == [("far", "tiny"), ("far", "other")]
    assert "fallback  any model" in shown.out
    assert shown.out.count("home (tiny)") == 1


# ---------------------------------------------------------------- what turns out on the way

SEARCH = {"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
SEARCH["tools"] = [{"type": "web_search_20250305", "name": "web_search"}]


async def searched(gateway, **headers):
    async with gateway.client.post("/v1/messages", json=SEARCH, headers=headers) as answer:
        return answer.status, answer.headers, (await answer.json())


@pytest.mark.parametrize("flexible", ["true", "false"])
async def test_what_a_translation_would_lose_is_foreseen_in_the_words_of_the_answer(nexus_gateway, flexible):
    """In each leg that the pair is part of; and nothing is said to have been tried where nothing was."""
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        headers = {"X-Nexus-Flexible": flexible}
        foreseen = await explain(gateway, request=SEARCH, path="/v1/messages", headers=headers)
        status, sent, real = await searched(gateway, **headers)
        assert server.calls(CHAT) == []
    assert (foreseen["outlook"], foreseen["choices"], foreseen["route_reason"]) == ("refused", [], None)
    assert (foreseen["error"]["status"], status, sent["X-Nexus-Attempts"]) == (400, 400, "0")
    assert told(foreseen["error"]) == told(real["error"])
    assert foreseen["error"]["code"] == "translation_loss"
    for refusals in foreseen["refusals"], real["error"]["context"]["refusals"]:
        assert {refusal["reason"] for refusal in refusals} == {"translation_loss"}


async def test_where_another_can_say_it_the_request_goes_there(nexus_gateway, monkeypatch):
    monkeypatch.setenv("KEY", "sk")
    async with openai_server() as home, anthropic_server(["tiny"], api_key="sk") as cloud:
        config = fleet(a_backend("home", home), a_backend("cloud", cloud, "anthropic", api_key_env="KEY"))
        gateway = await settled(await nexus_gateway(config))
        foreseen = await explain(gateway, request=SEARCH, path="/v1/messages")
        _, sent, _ = await searched(gateway)
    assert (foreseen["outlook"], [choice["backend"] for choice in foreseen["choices"]]) == ("goes", ["cloud"])
    assert [(r["backend"], r["reason"]) for r in foreseen["refusals"]] == [("home", "translation_loss")]
    assert (sent["X-Nexus-Backend"], sent["X-Nexus-Attempts"]) == ("cloud", "1")
    assert foreseen["route_reason"] == sent["X-Nexus-Route-Reason"]


class NotYet(Stage):
    """Finds out late that it has to wait."""

    async def admit(self, call):
        raise Refused(Refusal(kind=RefusalKind.WAIT, code="not_yet", data={"sentence": "not yet"}))


class Plugin:
    @hookimpl
    def nexus_stages(self):
        yield StageKind(name="not_yet", open=opens(lambda options, scope: NotYet()))


async def test_what_is_refused_late_is_not_waited_for(nexus_gateway):
    """The pair is left out for this request, whatever time may do."""
    async with openai_server() as server:
        config = fleet(a_backend("one", server), routing={"stages": ["not_yet"]})
        del config["balance"]
        gateway = await settled(await nexus_gateway(config, plugins=[Plugin()]))
        said = await asyncio.wait_for(ask(gateway), 10)
    assert said.status == 503
    assert [refusal["reason"] for refusal in said.error["context"]["refusals"]] == ["not_yet", "tried"]
