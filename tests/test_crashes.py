"""Whatever a plugin raises, and wherever: it harms the request or the server that it is about, and nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from nexus.api import (
    Backend,
    BackendKind,
    Model,
    Observer,
    ObserverKind,
    Report,
    Source,
    SourceKind,
    Stage,
    StageKind,
    hookimpl,
    opens,
)
from nexus.errors import CRASHES_OF_A_CALL, is_cancelled
from nexus.tasks import Tasks
from nexus.testing import openai_server, until

from .asking import a_backend, ask, fleet, page

CRASHES = (
    OSError(28, "no space left on device"),
    MemoryError(),
    SystemExit(3),
    asyncio.CancelledError(),
    BaseExceptionGroup("several", [SystemExit(1)]),
    ConnectionResetError("lost"),
    StopIteration(),
)
VERBS = ("describe", "refuse", "rank", "prepare", "admit", "tell")
OWN = frozenset({("openai", "chat")})


class Fragile:
    """A plugin that has one of everything, and raises `crash` at `where` as long as it is armed."""

    def __init__(self, where: str) -> None:
        self.where, self.crashes = where, 0
        self.crash: BaseException | None = None

    @contextlib.contextmanager
    def armed(self, crash: BaseException) -> Iterator[None]:
        self.crash, self.crashes = crash, 0
        yield
        self.crash = None

    def at(self, where: str) -> None:
        if self.crash is not None and where == self.where:
            self.crashes += 1
            raise self.crash

    @hookimpl
    def nexus_stages(self):
        plugin = self

        class Crashing(Stage):
            async def admit(self, call):
                plugin.at("admit")

        for verb in VERBS:
            if verb != "admit":

                def crash(self, *args, verb=verb):
                    plugin.at(verb)
                    return getattr(Stage, verb)(self, *args)

                setattr(Crashing, verb, crash)
        yield StageKind(name="crashing", open=opens(lambda options, scope: Crashing()))

    @hookimpl
    def nexus_observers(self):
        plugin = self

        class Seeing(Observer):
            def see(self, event):
                plugin.at("see")

        yield ObserverKind(name="seeing", open=opens(lambda options, scope: Seeing()))

    @hookimpl
    def nexus_sources(self):
        plugin = self

        class Looking(Source):
            async def watch(self):
                while True:
                    await asyncio.sleep(0.01)
                    plugin.at("watch")
                    if plugin is None:
                        yield

        yield SourceKind(name="looking", open=opens(lambda options, scope: Looking()))

    @hookimpl
    def nexus_backends(self):
        plugin = self

        class Odd(Backend):
            async def probe(self):
                plugin.at("probe")
                return Report(ok=True, models=(Model(id="odd", speaks=OWN),))

            async def send(self, call):
                plugin.at("send")
                raise AssertionError("nobody sends here but to crash")

        @contextlib.asynccontextmanager
        async def opened(server, options, scope):
            yield Odd()

        yield BackendKind(name="odd", open=opened, speaks=OWN)


@pytest.mark.parametrize("where", [*VERBS, "see", "watch", "probe", "send"])
async def test_a_crash_harms_nobody_else(nexus_gateway, where, caplog, monkeypatch):
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("nexus.tasks.FIRST_PAUSE_SECONDS", 0.2)
    plugin = Fragile(where)
    async with openai_server() as up, openai_server() as other:
        config = fleet(
            a_backend("home", up),
            a_backend("odd", other, "odd"),
            routing={"stages": ["privacy", "balance", *(["crashing"] if where in VERBS else [])]},
            discovery={"sources": ["looking"]},
            health={"interval_seconds": 0.5},
        )
        gateway = await nexus_gateway(config, plugins=(plugin,))
        standings = gateway.gateway.fleet.standings
        await gateway.until(lambda: all(name in standings and standings[name].pairs for name in ("home", "odd")), timeout=20)
        for crash in CRASHES:
            with plugin.armed(crash):
                if where == "send":
                    said = await ask(gateway, "odd")
                    assert (said.status, said.error["code"]) == (500, "internal_error")
                elif where in VERBS:
                    said = await ask(gateway)
                    assert said.status == 500
                    assert "crashing" in said.error["message"]
                else:
                    assert (await ask(gateway)).status == 200
                gateway.gateway.fleet.doubted("odd")
                await gateway.until(lambda: plugin.crashes > 0, timeout=20)
                if where == "watch":
                    assert "source looking" in (await page(gateway, "/health")).json["problems"]
            assert (await ask(gateway)).status == 200
            await gateway.until(lambda: not any(standing.in_flight for standing in standings.values()))
        assert "client_left" not in (await page(gateway, "/nexus/requests")).body.decode()


@pytest.mark.parametrize("crash", CRASHES, ids=repr)
async def test_background_work_begins_again_after_any_crash(crash, monkeypatch):
    monkeypatch.setattr("nexus.tasks.FIRST_PAUSE_SECONDS", 0.01)
    log, problems, runs = logging.getLogger("test.crashes"), dict[str, str](), list[int]()
    log.disabled = True

    async def work(crash: Any) -> None:
        runs.append(1)
        if len(runs) < 3:
            raise crash
        await asyncio.Event().wait()

    async with Tasks(log, problems) as tasks:
        tasks.spawn(partial(work, crash), "work")
        await until(lambda: len(runs) == 3)
        assert type(crash).__name__ in problems["work"] or isinstance(crash, StopIteration)  # which Python makes a RuntimeError
    assert not problems


async def test_who_is_to_stop_is_told_apart_from_who_has_met_a_cancelled_future():
    seen = []

    async def waits():
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        for wait in (future, asyncio.Event().wait()):
            try:
                await wait
            except CRASHES_OF_A_CALL:
                seen.append(is_cancelled())

    task = asyncio.get_running_loop().create_task(waits())
    await until(lambda: seen == [False])
    task.cancel()
    await task
    assert seen == [False, True]
