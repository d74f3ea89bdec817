"""Long prompts before an Ollama: whatever is in memory, what would be cut is refused with the numbers or goes elsewhere."""

import asyncio
import itertools

import nexus_ollama
import pytest
from nexus_ollama.contexts import KEPT_SECONDS, Contexts
from nexus_ollama.models import Shown

from nexus.testing import FakeModel, Held, Respond, ollama_server, openai_server

CHAT = "/v1/chat/completions"
SHORT, LONG = [{"role": "user", "content": "hello"}], [{"role": "user", "content": "word " * 2000}] * 16


async def ask(gateway, model: str = "a:1", messages=LONG, **fields):
    async with gateway.client.post(CHAT, json={"model": model, "messages": messages, **fields}) as answer:
        return answer.status, answer.headers.get("X-Nexus-Backend"), await answer.json()


async def house(nexus_gateway, server, *more):
    tables = [{"name": "home", "type": "ollama", "url": server.url}, *more]
    gateway = await nexus_gateway({"backends": tables})
    await gateway.until(lambda: gateway.gateway.fleet.settled, timeout=20)
    return gateway


async def probed(gateway) -> None:
    standing = gateway.gateway.fleet.standings["home"]
    report = standing.report
    gateway.gateway.fleet.doubted("home")
    await gateway.until(lambda: standing.report is not report, timeout=20)


def too_long(said, served: int = 4096) -> bool:
    status, _, body = said
    assert (status, body["error"]["code"]) == (400, "context_length_exceeded")
    assert body["error"]["message"].startswith("prompt is too long: at least ")
    return f"> {served} maximum" in body["error"]["message"]


@pytest.mark.parametrize("order", list(itertools.permutations(("probed", "expired", "loaded"))), ids=",".join)
async def test_the_same_long_chat_is_told_the_same_whatever_was_seen_last(nexus_gateway, order):
    async with ollama_server([FakeModel("a:1", context=4096)]) as server:
        gateway = await house(nexus_gateway, server)
        for step in order:
            if step == "probed":
                await probed(gateway)
            elif step == "expired":
                server.loaded.clear()
            else:
                assert (await ask(gateway, messages=SHORT))[0] == 200
            for stream in (False, True):
                assert too_long(await ask(gateway, stream=stream))
        assert (server.cut, len(server.calls("/api/generate"))) == (0, 0)


async def test_a_model_that_was_never_loaded_is_loaded_and_looked_at_first(nexus_gateway):
    async with ollama_server([FakeModel("a:1", context=4096, loaded=False)]) as server:
        gateway = await house(nexus_gateway, server)
        assert too_long(await ask(gateway))
        assert server.loads == ["a:1"]
        server.loaded.clear()
        assert too_long(await ask(gateway))
        await probed(gateway)
        assert too_long(await ask(gateway))
        assert (await ask(gateway, messages=SHORT))[0] == 200
        assert (server.cut, len(server.calls("/api/generate"))) == (0, 1)


async def test_what_fits_goes_on_after_the_look(nexus_gateway):
    async with ollama_server([FakeModel("a:1", context=65536, loaded=False)]) as server:
        gateway = await house(nexus_gateway, server)
        assert [(await ask(gateway))[0] for _ in range(2)] == [200, 200]
        assert (server.cut, server.loads, len(server.calls("/api/generate"))) == (0, ["a:1"], 1)


async def test_what_would_be_cut_at_home_goes_where_it_fits(nexus_gateway):
    models = [FakeModel("a:1", context=4096, loaded=False)]
    async with ollama_server(models) as server, openai_server(["a:1"]) as far:
        table = {"name": "far", "type": "openai", "url": far.url, "models": [{"id": "a:1", "context": 128000}]}
        gateway = await house(nexus_gateway, server, table)
        for _ in range(3):
            assert (await ask(gateway))[:2] == (200, "far")
            await probed(gateway)
        assert (server.cut, server.loads) == (0, ["a:1"])
        assert (await ask(gateway, messages=SHORT))[:2] == (200, "home")


async def test_one_model_tells_what_the_others_get(nexus_gateway):
    models = [
        FakeModel("never:1", context=4096, loaded=False),
        FakeModel("seen:1", context=4096),
        FakeModel("own:1", context=65536, num_ctx=65536, loaded=False),
        FakeModel("small:1", context=2048, context_max=2048, loaded=False),
    ]
    async with ollama_server(models) as server:
        gateway = await house(nexus_gateway, server)
        contexts = {c.model: c.context for c in gateway.gateway.fleet.standings["home"].candidates()}
        assert contexts == {"never:1": 4096, "seen:1": 4096, "own:1": 65536, "small:1": 2048}
        assert too_long(await ask(gateway, "never:1"))
        assert too_long(await ask(gateway, "small:1"), 2048)
        assert (await ask(gateway, "own:1"))[0] == 200
        assert (server.cut, server.loads) == (0, ["own:1"])


async def test_a_server_that_was_started_anew_is_looked_at_anew(nexus_gateway):
    async with ollama_server([FakeModel("a:1", context=4096)]) as server:
        gateway = await house(nexus_gateway, server)
        assert too_long(await ask(gateway))
        standing = gateway.gateway.fleet.standings["home"]
        server.kill()
        gateway.gateway.fleet.doubted("home")
        await gateway.until(lambda: not standing.report.ok, timeout=20)
        server.models["a:1"] = FakeModel("a:1", context=65536)
        server.loaded.clear()
        await server.start_listening()
        await gateway.until(lambda: standing.report.ok, timeout=20)
        assert (await ask(gateway))[0] == 200
        assert server.cut == 0


@pytest.mark.parametrize("act", [Respond(500, json={"error": "no memory"}), Respond(404), Respond(body=b"junk")])
async def test_a_server_that_does_not_say_is_asked_as_it_is(nexus_gateway, act):
    """What is not known is no reason to refuse; the server's own answer is told."""
    async with ollama_server([FakeModel("a:1", context=65536, loaded=False)]) as server:
        server.on("/api/generate", act, method="POST")
        gateway = await house(nexus_gateway, server)
        assert (await ask(gateway))[0] == 200


async def test_a_client_that_leaves_while_its_model_is_loaded_leaves_nothing_behind(nexus_gateway):
    async with ollama_server([FakeModel("a:1", context=4096, loaded=False)]) as server:
        gate = asyncio.Event()
        server.on("/api/generate", Held(gate, Respond(json={})), method="POST")
        gateway = await house(nexus_gateway, server)
        asking = asyncio.get_running_loop().create_task(ask(gateway))
        await server.until(lambda: len(server.calls("/api/generate")) == 1)
        asking.cancel()
        await gateway.until(lambda: not gateway.gateway.fleet.standings["home"].in_flight)
        await server.until(lambda: server.in_flight == 0)
        assert not server.calls(CHAT)


def test_what_is_seen_is_believed_for_an_hour_and_forgotten_with_the_model():
    contexts, none = Contexts(), Shown(context_max=131072)
    contexts.see("a", none, 8192, 0.0)
    assert [contexts.of(key, none, KEPT_SECONDS - 1) for key in "ab"] == [8192, 8192]
    assert [contexts.of(key, none, KEPT_SECONDS) for key in "ab"] == [None, None]
    contexts.see("a", none, 8192, 0.0)
    contexts.keep(set())
    assert contexts.of("a", Shown(num_ctx=100), 1.0) == 100
    contexts.forget()
    assert contexts.of("b", none, 1.0) is None


@pytest.mark.parametrize(
    ("facts", "served", "others"),
    [
        (Shown(context_max=131072), 4096, 4096),
        (Shown(context_max=None), 4096, 4096),
        (Shown(context_max=4096), 4096, None),  # cut to what it was trained for: the default is at least that
        (Shown(context_max=131072, num_ctx=512), 512, None),
    ],
)
def test_only_a_default_says_what_others_get(facts, served, others):
    contexts = Contexts()
    contexts.see("a", facts, served, 0.0)
    assert contexts.of("b", Shown(context_max=131072), 1.0) == others
    assert contexts.of("b", Shown(context_max=1000), 1.0) == (others and 1000)
    assert contexts.of("b", Shown(context_max=1000, num_ctx=2000), 1.0) == 1000


def test_the_kind_says_that_its_models_go_side_by_side():
    assert nexus_ollama.KIND.slots == "resident"
