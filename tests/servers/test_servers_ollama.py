"""The real Ollama behind the gateway: models side by side, those that are not loaded, long conversations, a full queue."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from nexus.testing.async_fixtures import StartGateway
from nexus.testing.gateway import RunningGateway

from ..asking import CHAT, a_backend, ask, settled  # noqa: TID252 - the tests are no package that could be named
from .programs import Running

pytestmark = pytest.mark.servers
PATIENCE = 30.0


@pytest.fixture
async def gateway(ollama: Running, nexus_gateway: StartGateway) -> RunningGateway:
    tables = {"backends": [a_backend("home", ollama.url, "ollama")], "health": {"interval_seconds": 1}}
    gateway = await settled(await nexus_gateway(tables))
    await gateway.until(lambda: gateway.gateway.fleet.find("tiny-a:latest"), timeout=PATIENCE)
    return gateway


@asynccontextmanager
async def streaming(gateway: RunningGateway, model: str) -> AsyncIterator[aiohttp.ClientResponse]:
    """A stream that has begun, and goes on for longer than the test."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100_000, "stream": True}
    async with gateway.client.post(CHAT, json=body) as answer:
        assert answer.status == 200, await answer.text()
        await answer.content.readany()
        yield answer


def ready(gateway: RunningGateway, *models: str) -> bool:
    """Whether Ollama has said that it has them in memory: after each load it is asked whom that has driven out."""
    return {f"{model}:latest" for model in models} <= gateway.gateway.fleet.standings["home"].resident


async def test_it_is_recognised_and_its_models_are_known(ollama: Running, nexus_gateway: StartGateway):
    gateway = await nexus_gateway({"backends": [{"name": "home", "url": ollama.url}]})
    await gateway.until(lambda: gateway.gateway.fleet.find("tiny-a:latest"), timeout=PATIENCE)
    member = gateway.gateway.fleet.standings["home"].member
    assert (member.kind, member.zone) == ("ollama", "restricted")
    said = await ask(gateway, "tiny-b", max_tokens=4)
    assert said.status == 200, said.body
    assert said.json["choices"][0]["message"]["content"]


async def test_two_models_that_are_loaded_answer_side_by_side(gateway: RunningGateway):
    for model in ("tiny-a", "tiny-b"):
        assert (await ask(gateway, model, max_tokens=2)).status == 200
    await gateway.until(lambda: ready(gateway, "tiny-a", "tiny-b"), timeout=PATIENCE)
    async with streaming(gateway, "tiny-a"), asyncio.timeout(PATIENCE):
        said = await ask(gateway, "tiny-b", max_tokens=2)
        assert said.status == 200, said.body
        assert "X-Nexus-Queue-Ms" not in said.headers
        assert gateway.gateway.under_way == 1


async def test_one_that_would_have_to_be_loaded_waits_until_the_other_has_answered(gateway: RunningGateway):
    async with asyncio.timeout(2 * PATIENCE), asyncio.TaskGroup() as group:
        async with streaming(gateway, "tiny-a"):
            asked = group.create_task(ask(gateway, "tiny-b", max_tokens=2))
            await gateway.until(lambda: len(gateway.gateway.waiting) == 1, timeout=PATIENCE)
        said = await asked
    assert said.status == 200, said.body
    assert int(said.headers["X-Nexus-Queue-Ms"]) >= 0


async def test_a_conversation_that_would_be_cut_is_refused_with_the_figures_loaded_or_not(ollama: Running, gateway: RunningGateway):
    words = "hello from the tiny model that our tests have made " * 1500
    turns = [{"role": "user", "content": words}, {"role": "assistant", "content": "yes"}, {"role": "user", "content": "go on"}]
    assert (await ask(gateway, "tiny-a", max_tokens=2)).status == 200
    await gateway.until(lambda: ready(gateway, "tiny-a"), timeout=PATIENCE)
    loaded = await ask(gateway, "tiny-a", messages=turns, max_tokens=2)
    await _unload(ollama, "tiny-a")
    await gateway.until(lambda: not ready(gateway, "tiny-a"), timeout=PATIENCE)
    unloaded = await ask(gateway, "tiny-a", messages=turns, max_tokens=2)
    for said in (loaded, unloaded):
        assert said.status == 400, said.body
        assert "prompt is too long" in said.error["message"]
        assert "> 4096 maximum" in said.error["message"]


async def test_a_model_that_is_removed_is_unknown_from_then_on(ollama: Running, gateway: RunningGateway):
    async with aiohttp.ClientSession(ollama.url) as session, session.delete("/api/delete", json={"model": "tiny-b"}) as answer:
        assert answer.status == 200, await answer.text()
    said = await ask(gateway, "tiny-b", max_tokens=2)
    assert said.status == 404, said.body
    assert (await ask(gateway, "tiny-a", max_tokens=2)).status == 200


async def _unload(ollama: Running, model: str) -> None:
    body: Any = {"model": model, "keep_alive": 0}
    async with aiohttp.ClientSession(ollama.url) as session, session.post("/api/generate", json=body) as answer:
        assert answer.status == 200, await answer.text()
        json.loads(await answer.text())
