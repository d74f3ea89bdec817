"""What a kind of server takes is kept before real connections: Anthropic's clients to OpenAI's cloud, OpenAI's to Anthropic's, either to a
server at home that takes more, and what passes natively."""

from __future__ import annotations

import json
import logging
import re

import pytest

from nexus.state import Store
from nexus.testing import FakeModel, anthropic_server, ollama_server, openai_server

from .asking import CHAT, a_backend, fleet, settled
from .cases import case

LONG = "mcp__plugin_youtube-content-strategist_youtube-analytics__get_video_details"
VERY_LONG = "mcp.server/" + "tool_" * 30
USER = '{"device_id":"' + "d" * 64 + '","session_id":"00000000-0000-4000-8000-000000000000"}'
HI = {"role": "user", "content": "hello"}
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}}
KINDS = {"openai": "gpt-4o-mini", "anthropic": "claude-tiny", "openai-compatible": "tiny", "ollama": "llama"}


@pytest.fixture
async def house(nexus_gateway):
    model = {kind: FakeModel(name, vision=True) for kind, name in KINDS.items()}
    async with (
        openai_server([model["openai"]]) as openai,
        anthropic_server([model["anthropic"]]) as anthropic,
        openai_server([model["openai-compatible"]]) as compatible,
        ollama_server([model["ollama"]]) as ollama,
    ):
        servers = {"openai": openai, "anthropic": anthropic, "openai-compatible": compatible, "ollama": ollama}
        gateway = await nexus_gateway(fleet(*(a_backend(kind, server, kind) for kind, server in servers.items())))
        yield await settled(gateway), servers


def a_call(client, id, name):
    if client == "anthropic":
        call = {"type": "tool_use", "id": id, "name": name, "input": {}}
        result = {"type": "tool_result", "tool_use_id": id, "content": "7"}
        return [{"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    call = {"id": id, "type": "function", "function": {"name": name, "arguments": "{}"}}
    return [{"role": "assistant", "content": None, "tool_calls": [call]}, {"role": "tool", "tool_call_id": id, "content": "7"}]


def tool(client, name):
    if client == "anthropic":
        return {"name": name, "input_schema": SCHEMA}
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA}}


def forced(client, name):
    return {"type": "tool", "name": name} if client == "anthropic" else {"type": "function", "function": {"name": name}}


def user(client, said):
    return {"metadata": {"user_id": said}} if client == "anthropic" else {"user": said}


async def post(gateway, client, body):
    path = "/v1/messages" if client == "anthropic" else CHAT
    async with gateway.client.post(path, json={"max_tokens": 50, **body}) as answer:
        assert answer.status == 200, await answer.text()
        return answer.headers, await answer.text()


def sent_to(server):
    body = next(json.loads(r.body) for r in reversed(server.requests) if r.method == "POST" and b'"messages"' in r.body)
    if any("function" in each for each in body.get("tools", ())):
        calls = [call["function"]["name"] for m in body["messages"] for call in m.get("tool_calls") or ()]
        return [t["function"]["name"] for t in body["tools"]], calls, body["tool_choice"]["function"]["name"], body.get("user")
    calls = [b["name"] for m in body["messages"] if isinstance(m["content"], list) for b in m["content"] if "name" in b]
    return [t["name"] for t in body["tools"]], calls, body["tool_choice"]["name"], body.get("metadata", {}).get("user_id")


def called(client, stream, text):
    """The name in the call that the client got."""
    if not stream:
        said = json.loads(text)
        if client == "anthropic":
            return next(block["name"] for block in said["content"] if block["type"] == "tool_use")
        return said["choices"][0]["message"]["tool_calls"][0]["function"]["name"]
    return re.search(r'"name": ?"([^"]+)"', text)[1]


@pytest.mark.parametrize("client", ["anthropic", "openai"])
async def test_tools_have_names_that_the_server_takes_and_their_own_in_the_answer(house, client):
    for server in KINDS:
        for name in (LONG, VERY_LONG, "get"):
            for stream in (False, True):
                with case(server, name, stream):
                    await takes_names(*house, client, server, name, stream=stream)


async def takes_names(gateway, servers, client, server, name, *, stream):
    other = tool(client, name[:-1] + "X") if len(name) > 10 else tool(client, "other")
    body = {
        "model": KINDS[server],
        "messages": [HI, *a_call(client, "call_1", name), HI],
        "tools": [tool(client, name), other],
        "tool_choice": forced(client, name),
        "stream": stream,
        **user(client, USER),
    }
    headers, text = await post(gateway, client, body)
    tools, calls, choice, sent_user = sent_to(servers[server])
    assert tools[0] == choice == calls[0]
    assert tools[0] != tools[1]
    assert called(client, stream, text) == name
    native = client == server or (client == "openai" and server != "anthropic")
    most = {"openai": 64, "anthropic": 128}.get(server)
    fits = most is None or re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{most}}}", name)
    assert (tools[0] == name) is bool(native or fits)
    if most and not native:
        assert all(re.fullmatch(rf"[a-zA-Z0-9_-]{{1,{most}}}", each) for each in tools)
    assert (sent_user == USER) is native
    assert native or re.fullmatch("[0-9a-f]{32}", sent_user)
    assert ("user" in headers.get("X-Nexus-Translation-Loss", "").split(", ")) is not native


@pytest.mark.parametrize(("mode", "sent"), [("hash", r"[0-9a-f]{32}"), ("drop", None), ("pass", "u-7")])
async def test_the_operator_says_what_becomes_of_ids(nexus_gateway, mode, sent):
    async with anthropic_server(["claude-tiny"]) as server:
        config = fleet(a_backend("cloud", server, "anthropic"), translation={"user_ids": mode})
        gateway = await settled(await nexus_gateway(config))
        for said in ("u-7", "joe@example.org"):
            await post(gateway, "openai", {"model": "claude-tiny", "messages": [HI], "user": said})
            body = json.loads(server.requests[-1].body)
            found = body.get("metadata", {}).get("user_id")
            pattern = r"[0-9a-f]{32}" if mode == "pass" and "@" in said else sent
            assert (found is None) if pattern is None else re.fullmatch(pattern, found)


@pytest.mark.parametrize(("client", "server"), [("openai", "anthropic"), ("anthropic", "openai")])
async def test_what_cannot_fit_is_refused_with_its_name(house, client, server):
    gateway, servers = house
    tiff = {"type": "image", "source": {"type": "base64", "media_type": "image/tiff", "data": "QUE="}}
    if client == "openai":
        tiff = {"type": "image_url", "image_url": {"url": "data:image/tiff;base64,QUE="}}
    before = len(servers[server].requests)
    body = {"model": KINDS[server], "max_tokens": 9, "messages": [{"role": "user", "content": [tiff]}]}
    async with gateway.client.post("/v1/messages" if client == "anthropic" else CHAT, json=body) as answer:
        assert answer.status == 400
        assert "image_type" in await answer.text()
    assert not [r for r in servers[server].requests[before:] if r.method == "POST"]


def test_a_secret_stays_with_the_state(tmp_path):
    def of(directory, problems):
        store = Store(directory, problems, logging.getLogger())
        found = store.secret("user-ids"), store.secret("other")
        store.close()
        return found

    (first, other), fine = of(tmp_path / "a", {}), {}
    assert (of(tmp_path / "a", fine), len(first), fine) == ((first, other), 32, {})
    assert first != other
    (key,) = [path for path in (tmp_path / "a").iterdir() if path.name == "user-ids.key"]
    assert key.stat().st_mode & 0o077 == 0
    key.write_bytes(b"cut")
    assert len({of(tmp_path / "a", {})[0], of(tmp_path / "a", {})[0], first}) == 2, "what was cut short is made anew, once"
    assert of(None, {})[0] != of(None, {})[0]
    (tmp_path / "file").touch()
    assert len(of(tmp_path / "file", problems := {})[0]) == 32
    assert "cannot be used" in problems["state"]
