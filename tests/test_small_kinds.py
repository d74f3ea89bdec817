"""transformers serve and mlx_lm.server behind a gateway: what is peculiar about their answers reaches nobody."""

import json

import pytest

from nexus.testing import mlx_server, openai_server, transformers_server, until
from nexus.testing.gateway import running_gateway

from .asking import CHAT, a_backend, ask, fleet, page, settled

SERVERS = {"transformers": transformers_server, "mlx": mlx_server}


async def streamed(gateway, path=CHAT, model="org/tiny", **fields):
    """The data of the events, and whether the stream ended well."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 50, **fields}
    async with gateway.client.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        lines = (await answer.text()).splitlines()
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


def text_of(events) -> str:
    frames = [json.loads(event) for event in events if event != "[DONE]"]
    return "".join(choice["delta"].get("content") or "" for frame in frames for choice in frame.get("choices", ()))


@pytest.mark.parametrize("kind", SERVERS)
@pytest.mark.parametrize("type", ["auto", "named"])
async def test_it_is_recognised_listed_and_chats(nexus_gateway, kind, type):
    async with SERVERS[kind](["org/tiny"]) as server:
        tables = fleet(a_backend("one", server, kind if type == "named" else "auto"))
        gateway = await nexus_gateway(tables)
        await gateway.until(lambda: gateway.gateway.fleet.find("org/tiny"))
        standing = gateway.gateway.fleet.standings["one"]
        assert (standing.member.kind, standing.member.zone) == (kind, "restricted")
        said = await ask(gateway, "org/tiny", headers={"X-Nexus-Zone": "restricted"})
        assert said.status == 200
        assert said.json["choices"][0]["message"]["content"] == server.text
        events = await streamed(gateway)
        assert text_of(events) == server.text
        assert server.violations == []


@pytest.mark.parametrize("kind", SERVERS)
async def test_a_stream_ends_well_and_is_counted(nexus_gateway, kind):
    async with SERVERS[kind](["org/tiny"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, kind))))
        events = await streamed(gateway)
        assert not [event for event in events if event != "[DONE]" and "error" in json.loads(event)]
        await until(lambda: gateway.gateway.components["history"].latest(1))
        story = (await page(gateway, "/nexus/requests?limit=1")).json["requests"][0]
        assert (story["outcome"], story["usage"]["source"]) == ("ok", "reported")
        assert story["usage"]["output_tokens"] > 0


@pytest.mark.parametrize("kind", SERVERS)
async def test_clients_of_the_other_api_are_served(nexus_gateway, kind):
    async with SERVERS[kind](["org/tiny"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, kind))))
        events = [json.loads(event) for event in await streamed(gateway, "/v1/messages")]
        assert events[-1]["type"] == "message_stop"
        assert "".join(e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta") == server.text


@pytest.mark.parametrize(
    ("kind", "path", "body"),
    [
        ("transformers", "/v1/embeddings", {"input": "x"}),
        ("transformers", "/v1/completions", {"prompt": "x"}),
        ("mlx", "/v1/embeddings", {"input": "x"}),
    ],
)
async def test_what_it_cannot_is_refused_before_it_is_asked(nexus_gateway, kind, path, body):
    async with SERVERS[kind](["org/tiny"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, kind))))
        async with gateway.client.post(path, json={"model": "org/tiny", **body}) as answer:
            assert answer.status == 400
        assert not [r for r in server.requests if r.path == path]


async def test_a_model_may_be_asked_for_with_its_revision(nexus_gateway):
    async with transformers_server(["org/tiny"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, "transformers"))))
        assert (await ask(gateway, "org/tiny@main")).status == 200


async def test_a_server_that_lists_nothing_yet_is_recognised(tmp_path):
    for double, kind in ((transformers_server, "transformers"), (mlx_server, "mlx"), (openai_server, "openai-compatible")):
        async with double([]) as server, running_gateway(fleet(a_backend("one", server, "auto")), state_dir=tmp_path) as gateway:
            await gateway.until(lambda gateway=gateway: gateway.gateway.fleet.standings["one"].pulse.health == "healthy")
            assert gateway.gateway.fleet.standings["one"].member.kind == kind
