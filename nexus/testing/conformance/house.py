"""Where cells are run: a gateway between clients and one scripted server of a dialect.  What must come of it is in `cells`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from nexus.testing.conformance.backend import Speakers, kind_of
from nexus.testing.conformance.golden import GoldenTable
from nexus.testing.gateway import RunningGateway, running_gateway
from nexus.testing.upstream import ScriptedUpstream

LOSS_HEADER = "X-Nexus-Translation-Loss"
PATIENCE_SECONDS = 5.0


@attrs.frozen(kw_only=True)
class Heard:
    """What a client got; `lost` are the words of `X-Nexus-Translation-Loss`, `kind` is the content type."""

    status: int
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
            named = answer.headers.get(LOSS_HEADER, "")
            return Heard(
                status=answer.status,
                lost=frozenset(word for word in named.split(", ") if word),
                kind=answer.content_type,
                body=await answer.read(),
            )

    def post(self, client: GoldenTable, body: bytes) -> Any:
        """The same, as a request of aiohttp that is not sent yet."""
        headers = {"Content-Type": "application/json", **client.headers}
        return self.gateway.client.post(client.path, data=body, headers=headers)


@asynccontextmanager
async def house(server: GoldenTable, state_dir: Path, *, plugins: Sequence[Any] = ()) -> AsyncIterator[House]:
    """A gateway in front of a server that speaks the table's dialect.  `plugins` bring dialects that are not installed."""
    async with ScriptedUpstream() as upstream:
        config = {
            "backends": [{"name": "golden", "type": kind_of(server), "url": upstream.url, "zone": "open"}],
            "routing": {"stages": []},
            "queue": {"max_wait_seconds": 1},
        }
        async with running_gateway(config, plugins=(Speakers([server]), *plugins), state_dir=state_dir) as gateway:
            await gateway.until(lambda: gateway.gateway.ready)
            yield House(gateway=gateway, upstream=upstream)
