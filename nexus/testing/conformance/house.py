"""Where cells are run: a gateway between clients and one scripted server of a dialect.  What must come of it is in `cells`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs

from nexus.testing.conformance.backend import Speakers, kind_of
from nexus.testing.conformance.golden import GoldenTable
from nexus.testing.gateway import RunningGateway, running_gateway
from nexus.testing.upstream import ScriptedUpstream
from nexus.testing.waits import POLL_SECONDS

LOSS_HEADER = "X-Nexus-Translation-Loss"
PATIENCE_SECONDS = 5.0


@attrs.frozen(kw_only=True)
class Heard:
    """What a client got; `id` is the request's, `lost` are the words of `X-Nexus-Translation-Loss`, `kind` is the content type."""

    status: int
    id: str
    lost: frozenset[str]
    kind: str
    body: bytes


@attrs.frozen(kw_only=True)
class House:
    """A gateway whose one backend is `upstream`: what that answers is its script."""

    gateway: RunningGateway
    upstream: ScriptedUpstream

    async def ask(self, client: GoldenTable, body: bytes) -> Heard:
        """Ask as a client of the table's dialect does.  Raises TimeoutError where the answer does not end."""
        async with asyncio.timeout(PATIENCE_SECONDS * 2), self.post(client, body) as answer:
            return heard(answer, await answer.read())

    def post(self, client: GoldenTable, body: bytes) -> Any:
        """The same, as a request of aiohttp that is not sent yet."""
        headers = {"Content-Type": "application/json", **client.headers, **client.credentials}
        path = f"{client.path}?{client.query}" if client.query else client.path
        return self.gateway.client.post(path, data=body, headers=headers)

    async def outcome(self, told: Heard) -> str:
        """How the gateway remembers the request.  Raises TimeoutError where it does not."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                async with self.gateway.client.get(f"/nexus/requests/{told.id}") as answer:
                    if answer.status == 200:
                        return str((await answer.json())["outcome"])
                await asyncio.sleep(POLL_SECONDS)


def heard(answer: aiohttp.ClientResponse, body: bytes) -> Heard:
    """What a client got, once it has the body."""
    named = answer.headers.get(LOSS_HEADER, "")
    return Heard(
        status=answer.status,
        id=answer.headers.get("X-Nexus-Request-Id", ""),
        lost=frozenset(word for word in named.split(", ") if word),
        kind=answer.content_type,
        body=body,
    )


@asynccontextmanager
async def house(
    server: GoldenTable, state_dir: Path, *, plugins: Sequence[Any] = (), keepalive_seconds: float = 60.0
) -> AsyncIterator[House]:
    """A gateway in front of a server that speaks the table's dialect.  `plugins` bring dialects that are not installed."""
    async with ScriptedUpstream() as upstream:
        config = {
            "backends": [{"name": "golden", "type": kind_of(server), "url": upstream.url, "zone": "open"}],
            "routing": {"stages": []},
            "queue": {"max_wait_seconds": 1},
            "server": {"stream_keepalive_seconds": keepalive_seconds},
            "translation": {"user_ids": "pass"},  # a hash would have to be known to be compared
        }
        async with running_gateway(config, plugins=(Speakers([server]), *plugins), state_dir=state_dir) as gateway:
            await gateway.until(lambda: gateway.gateway.ready)
            yield House(gateway=gateway, upstream=upstream)
