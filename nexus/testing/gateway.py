"""A whole gateway on a free loopback port, for tests and examples.  No pytest here; the fixture is in `async_fixtures`."""

from __future__ import annotations

import tomllib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import attrs
from aiohttp import web

from nexus.testing.waits import Predicate, until


@attrs.frozen(kw_only=True)
class RunningGateway:
    """A gateway that serves.  `client` sends to it (`await it.client.get("/v1/models")`); `gateway` is its inside."""

    url: str
    app: web.Application
    client: aiohttp.ClientSession
    gateway: Any

    async def until(self, predicate: Predicate, timeout: float = 5.0) -> None:
        """Return as soon as `predicate()` is true.  Raises TimeoutError after `timeout` seconds."""
        await until(predicate, timeout)


@asynccontextmanager
async def running_gateway(
    config: str | Mapping[str, Any] = "", *, plugins: Sequence[Any] = (), state_dir: Path
) -> AsyncIterator[RunningGateway]:
    """The gateway that `config` (TOML text, or the same as a mapping) describes, its state in `state_dir`.

    Nothing is discovered unless the configuration says what to look for.  Raises ConfigError as starting for real does.
    """
    from nexus.server import GATEWAY, create_app

    app = create_app(completed(config, state_dir), plugins=tuple(plugins))
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as client:
            yield RunningGateway(url=url, app=app, client=client, gateway=app[GATEWAY])
    finally:
        await runner.cleanup()


def completed(config: str | Mapping[str, Any], state_dir: Path) -> Mapping[str, Any] | str:
    """The configuration with a state directory of its own and, where it does not say otherwise, without discovery.

    Text that is no TOML comes back as it is: the gateway says what is wrong with it.
    """
    try:
        tables = tomllib.loads(config) if isinstance(config, str) else dict(config)
    except tomllib.TOMLDecodeError:
        return str(config)
    tables["server"] = {"state_dir": str(state_dir), **tables.get("server", {})}
    return {"discovery": {"sources": []}, **tables}
