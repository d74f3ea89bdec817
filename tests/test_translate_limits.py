"""What a probe or the operator says of a model decides how a translated request is written: how much it writes, how it thinks."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.model import Candidate
from nexus.testing import FakeModel, anthropic_server, ollama_server, openai_server

from .asking import CHAT, a_backend, fleet, settled

MESSAGES = "/v1/messages"
KEY = "sk-ant-of-the-backend"
THINKER = FakeModel("thinker", thinking=True)


async def sent(gateway: Any, server: Any, path: str, body: dict[str, Any], there: str) -> tuple[dict[str, Any], str]:
    """The body that reaches the server, and what the client is told was lost."""
    async with gateway.client.post(path, json=body) as answer:
        assert answer.status == 200, await answer.text()
        return server.calls(there)[-1].json, answer.headers.get("X-Nexus-Translation-Loss", "")


def message(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 3000, "messages": [{"role": "user", "content": "hello"}], **fields}


def chat(model: str, **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}


# ---------------------------------------------------------------- the longest answer


async def test_the_clouds_list_says_how_much_a_model_writes(nexus_gateway, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_KEY", KEY)
    async with anthropic_server(["claude-unheard-of"], api_key=KEY) as cloud:
        config = fleet(a_backend("cloud", cloud, "anthropic", api_key_env="ANTHROPIC_KEY"))
        gateway = await settled(await nexus_gateway(config))
        body, _ = await sent(gateway, cloud, CHAT, chat("claude-unheard-of"), MESSAGES)
        assert body["max_tokens"] == 4096
        body, lost = await sent(gateway, cloud, CHAT, chat("claude-unheard-of", max_tokens=100_000), MESSAGES)
        assert (body["max_tokens"], lost) == (4096, "max_tokens")
        body, lost = await sent(gateway, cloud, CHAT, chat("claude-unheard-of", max_tokens=7), MESSAGES)
        assert (body["max_tokens"], lost) == (7, "")


async def test_the_operators_word_goes_before_the_lists(nexus_gateway, monkeypatch):
    monkeypatch.setenv("ANTHROPIC_KEY", KEY)
    async with anthropic_server(["claude-unheard-of"], api_key=KEY) as cloud:
        table = {"id": "claude-unheard-of", "max_output_tokens": 512}
        config = fleet(a_backend("cloud", cloud, "anthropic", api_key_env="ANTHROPIC_KEY", models=[table]))
        gateway = await settled(await nexus_gateway(config))
        body, _ = await sent(gateway, cloud, CHAT, chat("claude-unheard-of"), MESSAGES)
        assert body["max_tokens"] == 512


async def test_an_openai_server_is_asked_for_no_more_than_the_operator_says(nexus_gateway):
    async with openai_server(["tiny"]) as server:
        table = {"id": "tiny", "max_output_tokens": 1000}
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", server, models=[table]))))
        body, _ = await sent(gateway, server, MESSAGES, message("tiny"), CHAT)
        assert body["max_tokens"] == 1000


@pytest.mark.parametrize("asked", [128_000, 100])
async def test_room_shrinks_with_the_prompt_to_an_eighth_of_the_context_and_no_further(nexus_gateway, asked):
    async with openai_server(["tiny"]) as server:
        table = {"id": "tiny", "context": 32_768}
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", server, models=[table]))))
        given = []
        for kilobytes in (1, 40, 60, 64, 66, 90, 115, 131, 150):
            words = [{"role": "user", "content": "word " * (kilobytes * 200)}]
            body, lost = await sent(gateway, server, MESSAGES, message("tiny", max_tokens=asked, messages=words), CHAT)
            assert lost == ("max_tokens" if body["max_tokens"] < asked else "")
            given.append(body["max_tokens"])
        assert given == sorted(given, reverse=True)
        assert given[-1] == min(asked, 4096)
        assert given[0] > 32_000 or asked == 100
        assert asked == 100 or given[3] == pytest.approx(32_768 - 16_000, abs=100)


def test_a_candidate_without_a_word_has_no_limit():
    assert Candidate(backend="b", kind="k", model="m", name="m").max_output_tokens is None


# ---------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    ("fields", "effort", "lost"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 1500}}, "low", "thinking_budget"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "medium"}}, "medium", ""),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high", "thinking_budget"),
        ({"thinking": {"type": "disabled"}}, "none", ""),
        ({"thinking": {"type": "adaptive"}}, None, ""),
        ({}, None, ""),
    ],
)
async def test_ollama_is_told_how_to_think_where_the_model_thinks(nexus_gateway, fields, effort, lost):
    async with ollama_server([THINKER, "tiny"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", server, "ollama"))))
        body, told = await sent(gateway, server, MESSAGES, message("thinker", **fields), CHAT)
        assert (body.get("reasoning_effort"), told) == (effort, lost)
        body, _ = await sent(gateway, server, MESSAGES, message("tiny", **fields), CHAT)
        assert "reasoning_effort" not in body


async def test_the_operator_says_that_a_model_thinks_where_its_server_does_not(nexus_gateway):
    async with openai_server(["tiny"]) as server:
        table = {"id": "tiny", "capabilities": ["chat", "thinking"]}
        gateway = await settled(await nexus_gateway(fleet(a_backend("home", server, models=[table]))))
        fields = {"thinking": {"type": "enabled", "budget_tokens": 1500}}
        body, _ = await sent(gateway, server, MESSAGES, message("tiny", **fields), CHAT)
        assert body["reasoning_effort"] == "low"
