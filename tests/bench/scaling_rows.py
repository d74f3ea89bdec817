"""The rows of `scaling.py`: one thing that a gateway does, in a house of a given size.  Nothing is measured here."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
from crowd import Crowd, a_model, joined, standard_stages

from nexus.api import Report, Zone
from nexus.errors import Problem
from nexus.model import Demand
from nexus.names import matcher
from nexus.policies import Policy
from nexus.served import EVERYTHING, Served
from nexus.testing import openai_server
from nexus.testing.gateway import RunningGateway, running_gateway

Work = Callable[[], Awaitable[object]]
House = dict[str, Any]
AXES = {
    "backends": (10, 100, 1000),
    "models": (10, 100, 1000, 10_000),
    "waiters": (10, 100, 1000, 10_000),
    "policies": (10, 100, 1000),
    "keys": (10, 100, 1000, 10_000),
    "subscribers": (1, 10, 100, 1000),
}


@attrs.frozen
class Row:
    """One thing to do, at sizes of one kind.  `build` gives the doing of it in a house of one size."""

    name: str
    axis: str
    build: Callable[[int], AbstractAsyncContextManager[Work]]


ROWS: list[Row] = []
Fill = Callable[[Crowd, int], Awaitable[Work]]


def row(name: str, axis: str, house: Callable[[int], House] = lambda size: {}) -> Callable[[Fill], Fill]:
    """A thing to do in a house without sockets: what is decorated fills it, and gives what is done there."""

    def listed(fill: Fill) -> Fill:
        @asynccontextmanager
        async def build(size: int) -> AsyncIterator[Work]:
            async with AsyncExitStack() as stack:
                yield await fill(Crowd(await standard_stages(stack), **house(size)), size)

        ROWS.append(Row(name, axis, build))
        return fill

    return listed


def page(path: str, axis: str, config: Callable[[int], House], *, models: Callable[[int], list[str]], key: str = "") -> None:
    """A page of a real gateway over one real server, which serves these models; `count` in `config` adds backends without one."""

    @asynccontextmanager
    async def build(size: int) -> AsyncIterator[Work]:
        async with a_gateway(config(size), models(size)) as gateway:

            async def once() -> None:
                async with gateway.client.get(path, headers={"Authorization": f"Bearer {key}"} if key else {}) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()

            yield once

    ROWS.append(Row(f"GET {path}", axis, build))


@asynccontextmanager
async def a_gateway(config: House, models: list[str]) -> AsyncIterator[RunningGateway]:
    with tempfile.TemporaryDirectory() as state:
        async with openai_server(models) as server:
            others = range(1, config.pop("count", 1))
            config["backends"] = [{"name": "gpu0", "type": "openai-compatible", "url": server.url}]
            config["health"] = {"interval_seconds": 3600, "timeout_seconds": 60}
            async with running_gateway(config, state_dir=Path(state)) as gateway:
                await gateway.until(lambda: gateway.gateway.fleet.settled, timeout=120)
                for number in others:  # that nobody probes: what is measured is the page alone
                    joined(gateway.gateway.fleet, f"gpu{number}", "tiny")
                yield gateway


# ---------------------------------------------------------------- what is done


def chat(crowd: Crowd, model: str, *, globs: list[str] | None = None, **more: object) -> Work:
    async def once() -> None:
        context = crowd.context(model, **more)
        context.allowed = matcher(globs) if globs is not None else None
        turn = await crowd.dispatcher.open(context)
        turn.claim.finish("ok", sent=True, status=200, first_byte=0.05)  # type: ignore[attr-defined]

    return once


def refusal(crowd: Crowd, model: str, **more: object) -> Work:
    async def once() -> None:
        try:
            await crowd.dispatcher.open(crowd.context(model, **more))
        except Problem:
            return
        raise AssertionError("it was served")

    return once


def many(crowd: Crowd, size: int, model: str = "tiny", *, busy: bool = False, **more: Any) -> None:
    """So many backends that serve one model, or a model each (`{}`)."""
    for number in range(size):
        crowd.join(f"gpu{number}", model.format(number), **more)
        if busy:
            crowd.occupy(f"gpu{number}")


def names(size: int) -> list[str]:
    return [f"org/model-{number}-instruct" for number in range(size)]


# ---------------------------------------------------------------- many backends


@row("a chat that one backend can have", "backends")
async def one_of_many(crowd: Crowd, size: int) -> Work:
    many(crowd, size, "model-{}")
    return chat(crowd, "model-1")


@row("a chat that all backends can have", "backends")
async def all_can(crowd: Crowd, size: int) -> Work:
    many(crowd, size)
    return chat(crowd, "tiny")


@row("a chat of a session that stays where it was", "backends")
async def sticky(crowd: Crowd, size: int) -> Work:
    many(crowd, size)
    return chat(crowd, "tiny", session="s")


@row("an alias of so many models, each on one", "backends", lambda size: {"aliases": {"all": [f"model-{n}" for n in range(size)]}})
async def alias(crowd: Crowd, size: int) -> Work:
    many(crowd, size, "model-{}")
    return chat(crowd, "all")


@row("the last of so many fallbacks", "backends", lambda size: {"fallbacks": {"gone": [f"model-{n}" for n in range(size)]}})
async def fallback(crowd: Crowd, size: int) -> Work:
    crowd.join("last", f"model-{size - 1}")
    return chat(crowd, "gone")


@row("restricted, all but one are open", "backends")
async def restricted(crowd: Crowd, size: int) -> Work:
    many(crowd, size - 1, zone=Zone.OPEN)
    crowd.join("home", "tiny")
    return chat(crowd, "tiny", zone=Zone.RESTRICTED)


@row("503: all are busy, and the queue is full", "backends")
async def all_busy(crowd: Crowd, size: int) -> Work:
    many(crowd, size, busy=True, capacity=1)
    crowd.waiting.has_room = lambda size: False  # type: ignore[method-assign]
    return refusal(crowd, "tiny")


@row("503: all are down", "backends")
async def all_down(crowd: Crowd, size: int) -> Work:
    many(crowd, size)
    for number in range(size):
        crowd.fail(f"gpu{number}")
    return refusal(crowd, "tiny")


@row("all have failed lately and are left out", "backends")
async def all_ejected(crowd: Crowd, size: int) -> Work:
    many(crowd, size)
    for number in range(size):
        for _ in range(10):
            crowd.occupy(f"gpu{number}").finish("failed", sent=True, code="connect")
    return chat(crowd, "tiny")


@row("a backend joins and leaves", "backends")
async def joins(crowd: Crowd, size: int) -> Work:
    many(crowd, size)

    async def once() -> None:
        crowd.join("new", "model-new", "tiny")
        crowd.fleet.leave("new")

    return once


@row("so many are found, each in its turn, and lost again", "backends")
async def found_and_lost(crowd: Crowd, size: int) -> Work:
    async def once() -> None:
        for number in range(size):
            crowd.join(f"gpu{number}", f"model-{number}", "tiny")
            await asyncio.sleep(0)
        for number in range(size):
            crowd.fleet.leave(f"gpu{number}")
            await asyncio.sleep(0)

    return once


for path in ("/nexus/backends", "/nexus/stats", "/metrics"):
    page(path, "backends", lambda size: {"count": size}, models=lambda size: ["tiny"])


# ---------------------------------------------------------------- many models


@row("404 for a mistyped name", "models")
async def mistyped(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    return refusal(crowd, "org/mdel-7-instruct")


@row("any model (flexible)", "models")
async def flexible(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    return chat(crowd, "unknown", flexible=True)


@row("any model that a key opens, which names two", "models")
async def opened(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    return chat(crowd, "unknown", flexible=True, globs=["unknown", *names(size)[-2:]])


@row("any model that a key opens, by a pattern of two", "models")
async def opened_by_pattern(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    crowd.join("other", "org/a-mini", "org/b-mini")
    return chat(crowd, "unknown", flexible=True, globs=["unknown", "*-mini"])


@row("all of a server's models are other ones", "models")
async def replaced(crowd: Crowd, size: int) -> Work:
    lists = [Report(ok=True, models=tuple([a_model(f"{name}-{turn}") for name in names(size)])) for turn in range(2)]
    crowd.join("many")

    async def once() -> None:
        for report in lists:
            await crowd.fleet.take_in("many", report, 0.001)

    return once


@row("a server is found whose models are remembered, and lost", "models")
async def remembered(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    member = crowd.fleet.standings["many"].member
    models = [pair.model for pair in crowd.fleet.standings["many"].pairs.values()]

    async def once() -> None:
        crowd.fleet.leave("many")
        crowd.fleet.join(member)
        await crowd.fleet.remember("many", models)

    return once


@row("the list of models after a change", "models")
async def listed_anew(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    served = Served(crowd.fleet, crowd.names, 0)

    async def once() -> None:
        crowd.join("other", "tiny")
        await served.written(crowd.dialect, EVERYTHING, {})

    return once


@row("the list of models that a key opens, of thousands of keys", "models")
async def listed_for_a_key(crowd: Crowd, size: int) -> Work:
    crowd.join("many", *names(size))
    served, turn = Served(crowd.fleet, crowd.names, 0), 0

    async def once() -> None:
        nonlocal turn
        turn += 1
        await served.written(crowd.dialect, (f"*-{turn}-*",), {})

    return once


for path in (
    "/health",
    "/health/ready",
    "/v1/models",
    "/v1/models?limit=9",
    "/v1/models/org/model-1-instruct",
    "/nexus/models",
    "/metrics",
):
    page(path, "models", lambda size: {}, models=names)


# ---------------------------------------------------------------- many that wait


@row("come into the queue, and get a turn", "waiters")
async def through_the_queue(crowd: Crowd, size: int) -> Work:
    many(crowd, 10, capacity=1)

    async def once() -> None:
        claims = [crowd.occupy(f"gpu{number}") for number in range(10)]
        tasks = await crowd.asks(size, "tiny")
        for claim in claims:
            claim.finish("ok", sent=True, status=200)
        for task in tasks:
            turn = await task
            turn.claim.finish("ok", sent=True, status=200)

    return once


@row("a slot becomes free among waiters", "waiters")
async def a_slot(crowd: Crowd, size: int) -> Work:
    many(crowd, 10, busy=True, capacity=1)
    crowd.join("one", "tiny", capacity=1)
    claim = crowd.occupy("one")
    await crowd.asks(size, "tiny")

    async def once() -> None:
        nonlocal claim
        claim.finish("ok", sent=True, status=200)
        await crowd.calm()
        claim = crowd.occupy("one")

    return once


@row("half of 100 backends go down and come back, among waiters", "waiters")
async def a_change(crowd: Crowd, size: int) -> Work:
    many(crowd, 100, busy=True, capacity=1)
    await crowd.asks(size, "tiny")

    async def once() -> None:
        for number in range(50):
            crowd.fail(f"gpu{number}")
        await crowd.calm()
        for number in range(50):
            crowd.recover(f"gpu{number}", "tiny")
        await crowd.calm()

    return once


@row("a stage says that something changed, among waiters", "waiters")
async def anything(crowd: Crowd, size: int) -> Work:
    many(crowd, 10, busy=True, capacity=1)
    await crowd.asks(size, "tiny")

    async def once() -> None:
        crowd.waiting.pump()
        await crowd.calm()

    return once


@row("a chat beside those who wait for a paused model", "waiters")
async def neighbours(crowd: Crowd, size: int) -> Work:
    crowd.join("one", "paused", "well", capacity=4)
    crowd.pause("one", "paused", 500.0)
    await crowd.asks(size, "paused")
    return chat(crowd, "well")


# ---------------------------------------------------------------- many rules, many keys, many who watch


@row(
    "a chat that none of so many policies binds",
    "policies",
    lambda size: {"policies": [Policy(models=(f"secret-{n}",), demand=Demand(zone=Zone.RESTRICTED)) for n in range(size)]},
)
async def policies(crowd: Crowd, size: int) -> Work:
    crowd.join("one", "tiny")
    return chat(crowd, "tiny")


page(
    "/v1/models",
    "keys",
    lambda size: {"keys": [a_key(n) for n in range(size)]},
    models=lambda size: ["tiny"],
    key="key-1",
)


def a_key(number: int) -> House:
    from nexus.keys import hash_key

    return {"name": f"k{number}", "hash": hash_key(f"key-{number}"), "models": ["tiny"]}


def subscribed(name: str, *, reading: bool) -> None:
    @asynccontextmanager
    async def build(size: int) -> AsyncIterator[Work]:
        async with a_gateway({}, ["tiny"]) as gateway, AsyncExitStack() as stack:
            for _ in range(size):
                response = await stack.enter_async_context(gateway.client.get("/nexus/events"))
                if not reading and response.connection is not None and response.connection.transport is not None:
                    response.connection.transport.pause_reading()  # type: ignore[attr-defined]

            async def once() -> None:
                body = {"model": "tiny", "messages": [{"role": "user", "content": "hello"}]}
                async with gateway.client.post("/v1/chat/completions", json=body) as answer:
                    assert answer.status == 200, await answer.text()
                    await answer.read()
                await asyncio.sleep(0.005)

            yield once

    ROWS.append(Row(name, "subscribers", build))


subscribed("a chat, and all who subscribed to events hear of it", reading=True)
subscribed("a chat, and those who subscribed read nothing", reading=False)
