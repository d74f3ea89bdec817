"""A picture by its address goes to a server that fetches it, and is refused where none does: it is never left out in silence."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from nexus.api import Payload
from nexus.dialects.openai import OpenAI
from nexus.testing import FakeModel, Respond, ollama_server, openai_server
from nexus.testing.conformance import SCENARIOS, TABLES

from .asking import CHAT, a_backend, fleet, settled

PICTURE = next(scenario for scenario in SCENARIOS if scenario.name == "images")
SEEING = FakeModel("seeing", vision=True)
WRITTEN = [{"id": "seeing", "capabilities": ["chat", "vision"]}]
clients = pytest.mark.parametrize("client", TABLES, ids=lambda table: table.dialect)


def asked(client: Any, model: str = "seeing") -> Mapping[str, Any]:
    """Two pictures, of which one is elsewhere."""
    request = client.exchange(PICTURE).request
    assert "https://" in str(request)
    return {**request, "model": model}


async def ask(gateway: Any, client: Any) -> tuple[int, Mapping[str, str], Any]:
    async with gateway.client.post(client.path, json=asked(client), headers=client.headers) as got:
        return got.status, got.headers, await got.json()


@pytest.mark.parametrize(
    ("image", "needs"),
    [
        ({"url": "https://x.test/a.png"}, {"vision", "image_url"}),
        ("https://x.test/a.png", {"vision", "image_url"}),
        ({"url": "data:image/png;base64,QUJD"}, {"vision"}),
        ("DATA:image/png;base64,QUJD", {"vision"}),
        (7, {"vision"}),
        ({}, {"vision"}),
    ],
)
def test_what_a_picture_needs(image: Any, needs: set[str]) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": image}]}]}
    assert OpenAI().decode(OpenAI.endpoints[0], Payload(json.dumps(body).encode())).needs == needs


@clients
async def test_it_goes_to_a_server_that_takes_it(nexus_gateway, client):
    async with ollama_server([SEEING]) as base64_only, openai_server([SEEING]) as fetching:
        first = a_backend("first", base64_only, "ollama", priority=1)
        gateway = await settled(await nexus_gateway(fleet(first, a_backend("second", fetching, priority=90))))
        status, headers, _ = await ask(gateway, client)
        assert (status, headers["X-Nexus-Backend"], headers["X-Nexus-Attempts"]) == (200, "second", "1")
        assert base64_only.calls(CHAT) == []


@clients
@pytest.mark.parametrize("written", [None, WRITTEN], ids=["as the server says", "as the operator says"])
async def test_where_none_takes_it_it_is_refused_by_name(nexus_gateway, client, written):
    async with ollama_server([SEEING]) as server:
        backend = a_backend("home", server, "ollama", **({"models": written} if written else {}))
        gateway = await settled(await nexus_gateway(fleet(backend)))
        status, headers, body = await ask(gateway, client)
        assert status in range(400, 500), body
        assert headers["X-Nexus-Rejection-Reasons"] == "home/seeing=capability:no_image_url"
        assert server.calls(CHAT) == []


async def test_without_the_stage_it_is_a_loss_that_changes_the_meaning(nexus_gateway):
    async with ollama_server([SEEING]) as server:
        gateway = await settled(
            await nexus_gateway({**fleet(a_backend("home", server, "ollama")), "routing": {"stages": ["balance"]}})
        )
        status, _, body = await ask(gateway, TABLES[1])
        assert (status, body["error"]["code"]) == (400, "translation_loss")
        assert "image_url" in body["error"]["message"]
        assert server.calls(CHAT) == []


@clients
async def test_what_a_server_says_of_itself_is_believed(nexus_gateway, client):
    async with openai_server([SEEING]) as first, openai_server([SEEING]) as second:
        backends = a_backend("first", first, priority=1), a_backend("second", second, priority=90)
        gateway = await settled(await nexus_gateway(fleet(*backends)))
        first.next(Respond(400, json={"error": "'url' field must be a base64 encoded image."}), path=CHAT)
        status, headers, _ = await ask(gateway, client)
        assert (status, headers["X-Nexus-Backend"], headers["X-Nexus-Attempts"]) == (200, "second", "2")
        status, headers, _ = await ask(gateway, client)
        assert (status, headers["X-Nexus-Backend"], headers["X-Nexus-Attempts"]) == (200, "second", "1")
