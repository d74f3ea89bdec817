"""The stage through a running gateway: who gets the changed prompt, who is told, who is left alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nexus_prefix.header import without
from nexus_prefix.stage import REMEMBERED, Prefix, PrefixOptions, make_prefix

from nexus.api import Call, Stage
from nexus.config import load
from nexus.testing import openai_server
from nexus.testing.async_fixtures import StartGateway
from nexus.testing.builders import a_call, a_candidate, a_request, an_ask
from nexus.testing.scope import a_scope

NEW = "x-anthropic-billing-header: cc_version=2.1.330.440; cc_entrypoint=sdk-cli;"
CHAT = "/v1/chat/completions"
BODY = json.dumps(
    {"model": "tiny", "messages": [{"role": "system", "content": f"{NEW}\nYou"}, {"role": "user", "content": "hi"}]}
).encode()


def call(body: bytes = BODY, kind: str = "llamacpp", backend: str = "here", id: str = "one") -> Call:
    return a_call(ask=an_ask(request=a_request(id=id)), candidate=a_candidate(kind=kind, backend=backend), body=body)


def told(stage: Stage, of: Call) -> dict[str, str]:
    return dict(stage.tell(of.ask, of.candidate))


def test_what_is_sent_is_changed_and_told() -> None:
    stage, sent = Prefix(), call()
    assert stage.prepare(sent).body == without(BODY) != BODY
    assert told(stage, sent) == {"X-Nexus-Prefix": "stabilised"}


def test_anthropic_gets_what_the_client_sent() -> None:
    stage = Prefix()
    assert stage.prepare(call()).body != BODY
    cloud = call(kind="anthropic", backend="cloud")
    assert stage.prepare(cloud) is cloud
    assert told(stage, cloud) == {}, "another backend answered this request"


def test_other_clients_calls_pass_as_they_are() -> None:
    stage = Prefix()
    for body in (b'{"messages":[]}', json.dumps({"messages": [{"role": "user", "content": NEW}]}).encode()):
        plain = call(body)
        assert stage.prepare(plain) is plain
        assert told(stage, plain) == {}


def test_it_remembers_no_more_than_it_may() -> None:
    stage = Prefix()
    calls = [call(id=str(number)) for number in range(REMEMBERED + 1)]
    for one in calls:
        stage.prepare(one)
    assert told(stage, calls[0]) == {}
    assert told(stage, calls[1]) == told(stage, calls[-1]) != {}


async def test_a_disabled_stage_has_nothing_to_do() -> None:
    async with a_scope() as scope:
        assert type(make_prefix(PrefixOptions(enabled=False), scope)) is Stage


def test_it_is_on_where_it_is_installed() -> None:
    config, _ = load("", env={})
    assert config.routing.stages is not None
    assert config.routing.stages[-1] == "prefix"
    assert config.options["prefix"] == PrefixOptions()


@pytest.mark.parametrize(
    ("tables", "on"),
    [({}, True), ({"prefix": {"enabled": False}}, False), ({"routing": {"stages": ["capability"]}}, False)],
)
async def test_through_a_running_gateway(nexus_gateway: StartGateway, tables: dict[str, Any], on: bool) -> None:
    async with openai_server() as server:
        backend = {"name": "here", "type": "openai-compatible", "url": server.url}
        gateway = await nexus_gateway({"backends": [backend], **tables})
        async with gateway.client.post(CHAT, data=BODY, headers={"Content-Type": "application/json"}) as answer:
            assert answer.status == 200
            assert answer.headers.get("X-Nexus-Prefix") == ("stabilised" if on else None)
        async with gateway.client.post(CHAT, json={"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}) as other:
            assert other.status == 200
            assert "X-Nexus-Prefix" not in other.headers
        first, _ = server.calls(CHAT)
        assert first.json["messages"][0]["content"] == ("You" if on else f"{NEW}\nYou")
