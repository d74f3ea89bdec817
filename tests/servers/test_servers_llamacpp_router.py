"""The real llama.cpp in router mode behind the gateway: models that are loaded on demand, one after the other, and one that cannot be."""

from __future__ import annotations

import asyncio

import pytest

from nexus.api import State
from nexus.testing.async_fixtures import StartGateway
from nexus.testing.gateway import RunningGateway

from ..asking import a_backend, ask, settled  # noqa: TID252 - the tests are no package that could be named
from .programs import Running

pytestmark = pytest.mark.servers
PATIENCE = 60.0


@pytest.fixture
async def gateway(llama_router: Running, nexus_gateway: StartGateway) -> RunningGateway:
    tables = {"backends": [a_backend("home", llama_router.url, "auto")], "health": {"interval_seconds": 1}}
    gateway = await settled(await nexus_gateway(tables))
    await gateway.until(lambda: gateway.gateway.fleet.find("tiny-a"), timeout=PATIENCE)
    return gateway


def state(gateway: RunningGateway, model: str) -> State:
    return gateway.gateway.fleet.standings["home"].pairs[model].model.state


async def test_what_is_not_loaded_is_asleep_and_served_when_it_is_asked_for(gateway: RunningGateway):
    assert gateway.gateway.fleet.standings["home"].member.kind == "llamacpp"
    assert state(gateway, "tiny-a") is State.ASLEEP
    for model in ("tiny-a", "tiny-b", "tiny-a"):
        said = await asyncio.wait_for(ask(gateway, model, max_tokens=2), PATIENCE)
        assert said.status == 200, said.body
    await gateway.until(lambda: state(gateway, "tiny-a") is State.READY, timeout=PATIENCE)


async def test_a_model_that_cannot_be_loaded_harms_no_other_and_is_not_off_for_good(gateway: RunningGateway):
    for _ in range(3):
        broken = await asyncio.wait_for(ask(gateway, "broken", max_tokens=2), PATIENCE)
        assert broken.status in (502, 503), broken.body
        assert "home" in broken.error["message"]
    await gateway.until(lambda: state(gateway, "broken") is not State.READY, timeout=PATIENCE)
    assert state(gateway, "broken") is not State.OFF
    standing = gateway.gateway.fleet.standings["home"]
    assert standing.pulse.health == "healthy"
    said = await asyncio.wait_for(ask(gateway, "tiny-a", max_tokens=2), PATIENCE)
    assert said.status == 200, said.body
    again = await asyncio.wait_for(ask(gateway, "broken", max_tokens=2), PATIENCE)
    assert "failed to load" in again.error["message"], "the server is asked again: only it can tell"


async def test_a_model_that_nobody_has_is_unknown(gateway: RunningGateway):
    said = await ask(gateway, "nosuch")
    assert said.status == 404, said.body
