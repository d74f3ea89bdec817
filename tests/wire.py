"""A gateway with witnesses, for the tests of the wire.  No test and no scenario lives here; the client is in `wire_client`.

`open_house` serves, and when it is left it insists that nothing leaked: every claim ended once, every request was told once,
nobody is in flight, no body is held, nothing was logged as an error, and no backend got what no client may send.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import attrs
from aiohttp import web

import nexus.front
import nexus.server
from nexus.api import Observer, ObserverKind, hookimpl, opens
from nexus.config import load
from nexus.model import Answered, Claimed, Event, Finished, Health
from nexus.server import GATEWAY, attach, listen
from nexus.testing import ScriptedUpstream, openai_server, until

from .wire_client import CHAT, GOOD, Answer, Line

# One gateway serves hundreds of failures here: no backend may be sent to rest for them.
ENDLESS_PATIENCE = {"min_samples": 1_000_000, "timeout_threshold": 1_000_000, "failure_threshold": 1_000_000}


class Ledger(Observer):
    """Every claim and every answered request, counted."""

    def __init__(self) -> None:
        self.claimed: list[Claimed] = []
        self.finished: list[Finished] = []
        self.answered: list[Answered] = []

    def see(self, event: Event) -> None:
        for kind, kept in ((Claimed, self.claimed), (Finished, self.finished), (Answered, self.answered)):
            if isinstance(event, kind):
                kept.append(event)

    @hookimpl
    def nexus_observers(self) -> Iterable[ObserverKind]:
        yield ObserverKind(name="ledger", open=opens(lambda options, scope: self))

    @property
    def outcomes(self) -> list[str]:
        """How the claims ended, in the order in which they did."""
        return [event.outcome for event in self.finished]

    def balanced(self) -> bool:
        return Counter(e.claim for e in self.claimed) == Counter(e.claim for e in self.finished)

    def check(self) -> None:
        assert Counter(e.claim for e in self.claimed) == Counter(e.claim for e in self.finished)
        assert set(Counter(e.claim for e in self.finished).values()) <= {1}
        twice = {id: n for id, n in Counter(e.request.id for e in self.answered).items() if n > 1}
        assert not twice, "some request was told more than once"


class Errors(logging.Handler):
    """Everything that was logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(logging.Formatter().format(record))


@attrs.define
class House:
    """A gateway that serves on `url` (with its prefix), and all who watch it."""

    url: str
    gateway: Any
    client: aiohttp.ClientSession
    ledger: Ledger
    errors: Errors
    watches: list[Any]
    bodies: list[Any]
    listeners: list[Any]

    async def post(self, body: bytes = GOOD, path: str = CHAT, **headers: str) -> Answer:
        """One request through an ordinary client."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.post(self.url + path, data=body, headers={"Content-Type": "application/json", **named}) as got:
            return Answer(got.status, {k.lower(): v for k, v in got.headers.items()}, await got.read())

    async def get(self, path: str) -> Any:
        async with self.client.get(self.url + path) as got:
            assert got.status == 200, await got.text()
            return await got.json()

    @contextlib.asynccontextmanager
    async def line(self) -> AsyncIterator[Line]:
        async with Line.to(self.url) as line:
            yield line

    @property
    def in_flight(self) -> int:
        return sum(standing.in_flight for standing in self.gateway.fleet.standings.values())

    def state(self) -> dict[str, int]:
        """All that must be zero when nobody asks anything."""
        return {
            "in flight": self.in_flight,
            "pairs claimed": sum(p.claimed for s in self.gateway.fleet.standings.values() for p in s.pairs.values()),
            "waiting": len(self.gateway.waiting),
            "bytes waiting": self.gateway.waiting.bytes,
            "watched": sum(map(len, self.watches)),
            "bytes held": sum(bodies.held for bodies in self.bodies),
            "answered here": sum(listener.outbox.company for listener in self.listeners),
            "asked upstream": self.gateway.upstream.under_way,
            "claims open": len(self.ledger.claimed) - len(self.ledger.finished),
        }

    async def settled(self) -> None:
        """Wait until nothing is under way.  Raises AssertionError that names what is left over."""
        with contextlib.suppress(TimeoutError):
            await until(lambda: not any(self.state().values()))
        left_over = {what: n for what, n in self.state().items() if n}
        assert not left_over


@contextlib.contextmanager
def keeping(module: Any, name: str) -> Iterator[list[Any]]:
    """Every instance of a class that is made through this module."""
    kept: list[Any] = []
    made = getattr(module, name)

    def make(*args: Any, **kw: Any) -> Any:
        kept.append(made(*args, **kw))
        return kept[-1]

    with mock.patch.object(module, name, make):
        yield kept


def tables_for(upstreams: Iterable[ScriptedUpstream], state: Path, tables: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration: backends `a`, `b`, … and whatever else the test is about."""
    backends = [
        {"name": name, "type": "openai-compatible", "url": up.url, "priority": 10 * place, **tables.get(name, {})}
        for place, (name, up) in enumerate(zip("abcdef", upstreams, strict=False), start=1)
    ]
    rest = {name: table for name, table in tables.items() if len(name) > 1}
    server = {"state_dir": str(state), "host": "127.0.0.1", "port": 0, "shutdown_grace_seconds": 1, **rest.pop("server", {})}
    return {"discovery": {"sources": []}, "health": ENDLESS_PATIENCE, "backends": backends, **rest, "server": server}


@contextlib.asynccontextmanager
async def embedded(tables: Mapping[str, Any], *plugins: Any) -> AsyncIterator[tuple[Any, str]]:
    """Nexus in somebody's application, run as aiohttp's own runner does by default: without handler cancellation."""
    app = web.Application()
    attach(app, "/llm", tables, plugins=plugins)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield app[GATEWAY], f"http://127.0.0.1:{runner.addresses[0][1]}/llm"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def standalone(tables: Mapping[str, Any], *plugins: Any) -> AsyncIterator[tuple[Any, str]]:
    """Nexus on a server of its own."""
    keys = {name: value for name, value in os.environ.items() if name.endswith("_KEY")}
    config, catalog = load(tables, env=keys, extra=plugins)
    async with listen(config, catalog) as (gateway, url):
        yield gateway, url


WAYS = {"standalone": standalone, "embedded": embedded}


@contextlib.asynccontextmanager
async def open_house(
    tmp_path: Path,
    *upstreams: ScriptedUpstream,
    way: str = "standalone",
    quick: bool = False,
    plugins: Iterable[Any] = (),
    **tables: Any,
) -> AsyncIterator[House]:
    """A gateway in front of these servers.  Tables named `a`, `b`, … go to that backend, others to the configuration.

    `quick` looks at deadlines every 20 ms instead of once a second.
    """
    ledger, errors = Ledger(), Errors()
    logging.getLogger().addHandler(errors)
    try:
        with (
            keeping(nexus.server, "Watch") as watches,
            keeping(nexus.front, "Bodies") as bodies,
            keeping(nexus.server, "Listener") as listeners,
        ):
            async with WAYS[way](tables_for(upstreams, tmp_path / "state", tables), ledger, *plugins) as (gateway, url):
                async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
                    house = House(url, gateway, client, ledger, errors, watches, bodies, listeners)
                    await until(lambda: all(s.pulse.health is Health.HEALTHY for s in gateway.fleet.standings.values()))
                    async with sweeping(gateway) if quick else contextlib.nullcontext():
                        yield house
                        await house.settled()
        ledger.check()
        assert not errors.said, errors.said[0]
        for up in upstreams:
            assert not up.violations
    finally:
        logging.getLogger().removeHandler(errors)


@contextlib.asynccontextmanager
async def sweeping(gateway: Any) -> AsyncIterator[None]:
    """Deadlines are looked at every 20 ms: tests have no seconds to spare."""

    async def sweep() -> None:
        while True:
            await asyncio.sleep(0.02)
            gateway.upstream.sweep(gateway.clock.now())

    task = asyncio.get_running_loop().create_task(sweep())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


def tiny(**knobs: Any) -> ScriptedUpstream:
    """A server with one model, `tiny`."""
    return openai_server(("tiny",), **knobs)
