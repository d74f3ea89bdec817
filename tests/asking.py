"""What the routing tests share: a fleet of doubles in one configuration, a request, and what came back.  No tests here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from nexus.testing import FakeServer
from nexus.testing.gateway import RunningGateway

CHAT = "/v1/chat/completions"


@attrs.frozen
class Said:
    """An answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    def nexus(self, name: str) -> str | None:
        """The header `X-Nexus-<name>`."""
        return self.headers.get(f"X-Nexus-{name}")


def a_backend(name: str, server: FakeServer | str, type: str = "openai-compatible", **more: Any) -> dict[str, Any]:
    """A `[[backends]]` table."""
    return {"name": name, "type": type, "url": server if isinstance(server, str) else server.url, **more}


def fleet(*backends: Mapping[str, Any], **tables: Any) -> dict[str, Any]:
    """A configuration in which the first of equal pairs comes first, and nothing but its `priority` decides.

    A probe has all the time it needs: on a machine that is busy with other things a server is not down because it was slow.
    """
    listed = [{"priority": index, **backend} for index, backend in enumerate(backends)]
    health = {"timeout_seconds": 60, **tables.pop("health", {})}
    return {"backends": listed, "balance": {"strategy": "priority"}, "health": health, **tables}


async def settled(gateway: RunningGateway) -> RunningGateway:
    """The gateway, once every backend has been probed."""
    await gateway.until(lambda: gateway.gateway.fleet.settled, timeout=20)
    return gateway


async def ask(gateway: RunningGateway, model: str = "tiny", *, headers: Mapping[str, str] | None = None, **fields: Any) -> Said:
    """A chat, answered.  Further words are fields of the body."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], **fields}
    async with gateway.client.post(CHAT, json=body, headers=headers) as answer:
        return Said(answer.status, answer.headers.copy(), await answer.read())


async def page(gateway: RunningGateway, path: str, **kw: Any) -> Said:
    """A page of the gateway's own."""
    async with gateway.client.get(path, **kw) as answer:
        return Said(answer.status, answer.headers.copy(), await answer.read())


def chats(server: FakeServer) -> list[Any]:
    """The bodies of the chats that reached a server."""
    return [json.loads(received.body) for received in server.requests if received.path == CHAT]
