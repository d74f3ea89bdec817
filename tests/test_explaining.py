"""`/nexus/explain` foretells what the real path then says, and the command line says it in words.  Real gateways, real sockets."""

import asyncio

import pytest

from nexus.keys import new_key
from nexus.testing import FakeModel, Held, Respond, ScriptedUpstream, openai_server

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
