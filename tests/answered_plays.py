"""How requests come to their ends: a scene with a client and two servers, and what is played there.  What is true of it, the judge says."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import attrs

from nexus.api import Stage, StageKind, hookimpl, opens
from nexus.model import Answered
from nexus.testing import Act, Hang, Held, Stream, until

from .answered_speech import JSON, Speech
from .wire import House
from .wire_client import Answer, Line, post

LARGE = 17 * 1024 * 1024  # an answer that is not held until it is complete


class Fragile:
    """A plugin with one stage, that crashes in `verb` for a request that says so."""

    verb = ""

    @hookimpl
    def nexus_stages(self) -> Iterable[StageKind]:
        plugin = self

        class Crashing(Stage):
            async def admit(self, call: Any) -> None:
                plugin.at("admit")

        def crash(verb: str) -> Callable[..., Any]:
            def crashing(self: Stage, *args: Any) -> Any:
                plugin.at(verb)
                return getattr(Stage, verb)(self, *args)

            return crashing

        for verb in ("refuse", "prepare", "tell"):
            setattr(Crashing, verb, crash(verb))
        yield StageKind(name="crashing", open=opens(lambda options, scope: Crashing()))

    def at(self, verb: str) -> None:
        if verb == self.verb:
            raise OSError(28, "no space left on device")


# ---------------------------------------------------------------- the scene


@attrs.define
class Scene:
    """One request of a client that speaks `client`, for a model whose two servers speak `server`.  `left` says that it did not wait for
    the end."""

    house: House
    line: Line
    client: Speech
    server: Speech
    servers: tuple[Any, Any]
    fragile: Fragile
    stream: bool
    left: bool = False

    @property
    def id(self) -> str:
        return f"{self.client.name}-of-{self.server.name}-{'streamed' if self.stream else 'whole'}"

    def script(self, *acts: Act) -> None:
        """What the next requests get, whichever server has them; the last one is said again and again."""
        rest = list(acts)
        for up in self.servers:
            up.on(self.server.path, lambda received: rest.pop(0) if len(rest) > 1 else rest[0], method="POST")

    @property
    def good(self) -> Act:
        return self.server.good(self.stream)

    def body(self, model: str = "", **fields: Any) -> bytes:
        messages = [{"role": "user", "content": "hello"}]
        body = {"model": model or self.server.model, "max_tokens": 100, "messages": messages, "stream": self.stream}
        return json.dumps(body | (self.client.fields if self.stream else {}) | fields).encode()

    async def ask(self, body: bytes | None = None, path: str = "", *headers: str) -> None:
        told = (f"X-Request-Id: {self.id}", "Anthropic-Version: 2023-06-01", *headers)
        await self.line.ask(self.body() if body is None else body, path or self.client.path, *told)

    async def asked(self) -> None:
        """Once a server has the request."""
        await self.ask()
        await until(lambda: self.house.in_flight == 1 and any(up.in_flight for up in self.servers))

    async def early(self) -> None:
        """Once the stream has begun before its answer."""
        await self.ask()
        await until(lambda: any(visit.early for watch in self.house.watches for visit in watch._visits))

    async def begun(self) -> Answer:
        """Leave, or be cut, once some of the answer is there."""
        head = await self.line.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")[:-2]
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        await self.line.reader.readexactly(1)
        return Answer(int(status.split()[1]), headers, b"", whole=False)

    async def leave(self, got: Answer | None = None) -> Answer | None:
        self.line.writer.transport.abort()
        self.left = True
        await self.told()
        return got

    def stop(self) -> None:
        """What a gateway does at the end of its time to stop."""
        for watch in self.house.watches:
            watch.cut()

    @contextlib.asynccontextmanager
    async def full(self) -> AsyncIterator[asyncio.Event]:
        """Both servers are busy, until the event that comes is set."""
        gate = asyncio.Event()
        self.script(Held(gate, self.server.good(False)), Held(gate, self.server.good(False)), self.good)
        async with self.house.line() as one, self.house.line() as two:
            for line in (one, two):
                await line.ask(self.body(stream=False, stream_options=None), self.client.path, "Anthropic-Version: 2023-06-01")
            await until(lambda: all(up.in_flight for up in self.servers))
            yield gate
            gate.set()
            for line in (one, two):
                assert (await line.hear()).status in (200, 503)  # where all are stopped

    async def told(self) -> Answered:
        """The event of this request, as soon as it is told."""
        mine = (event for event in self.house.ledger.answered if event.request.id == self.id)
        await until(lambda: any(event.request.id == self.id for event in self.house.ledger.answered))
        return next(mine)


Play = Callable[[Scene], Awaitable[Answer | None]]


# ---------------------------------------------------------------- the ways to end


def answers(*acts: Callable[[Scene], Act]) -> Play:
    """The servers say this, one after another."""

    async def play(scene: Scene) -> Answer:
        scene.script(*(act(scene) for act in acts))
        await scene.ask()
        return await scene.line.hear()

    return play


def asks(body: Callable[[Scene], bytes] = Scene.body, *headers: str, path: str = "") -> Play:
    """The client asks for something else."""

    async def play(scene: Scene) -> Answer:
        scene.script(scene.good)
        await scene.ask(body(scene), path, *headers)
        return await scene.line.hear()

    return play


def late(act: Callable[[Scene], Act]) -> Play:
    """The same after signs of life."""

    async def play(scene: Scene) -> Answer:
        gate = asyncio.Event()
        scene.script(Held(gate, act(scene)), act(scene))
        await scene.early()
        gate.set()
        return await scene.line.hear()

    return play


def crashes(verb: str, play: Play) -> Play:
    async def played(scene: Scene) -> Answer | None:
        scene.fragile.verb = verb
        got = await play(scene)
        scene.fragile.verb = ""
        assert any("OSError" in said for said in scene.house.errors.said)
        scene.house.errors.said.clear()
        return got

    return played


def good(scene: Scene) -> Act:
    return scene.good


def fails(scene: Scene) -> Act:
    return scene.server.problem(500, "out of memory")


def rejects(scene: Scene) -> Act:
    return scene.server.problem(400, "no such tool")


def too_long(scene: Scene) -> Act:
    return scene.server.problem(400, "request (90 tokens) exceeds the available context size (80 tokens)")


def breaks(scene: Scene) -> Act:
    return scene.server.breaks(scene.stream)


def breaks_with_an_error(scene: Scene) -> Act:
    return scene.server.breaks(scene.stream, scene.server.odd)


def hangs(scene: Scene) -> Act:
    return Hang()


def hangs_in_the_middle(scene: Scene) -> Act:
    return Stream(scene.server.first, done=False, end="hang")


async def waits(scene: Scene) -> Answer:
    async with scene.full() as gate:
        await scene.ask()
        await until(lambda: len(scene.house.gateway.waiting) == 1)
        gate.set()
        return await scene.line.hear()


async def waits_for_long(scene: Scene) -> Answer:
    async with scene.full() as gate:
        await scene.early()
        gate.set()
        return await scene.line.hear()


async def finds_all_busy(scene: Scene) -> Answer:
    async with scene.full():
        await scene.ask()
        return await scene.line.hear()


async def leaves_the_queue(scene: Scene) -> Answer | None:
    async with scene.full():
        await scene.ask()
        await until(lambda: len(scene.house.gateway.waiting) == 1)
        return await scene.leave()


async def stopped_in_the_queue(scene: Scene) -> Answer:
    async with scene.full():
        await scene.ask()
        await until(lambda: len(scene.house.gateway.waiting) == 1)
        scene.stop()
        return await scene.line.hear()


async def leaves_before_a_byte(scene: Scene) -> Answer | None:
    scene.script(Hang())
    await scene.asked()
    return await scene.leave()


async def leaves_in_its_body(scene: Scene) -> Answer | None:
    headers = (f"X-Request-Id: {scene.id}", "Content-Length: 1000")
    await scene.line.say(post(b"{", scene.line.prefix + scene.client.path, *headers))
    await until(lambda: scene.house.state()["bytes held"] == 1)
    return await scene.leave()


async def leaves_in_the_middle(scene: Scene) -> Answer | None:
    scene.script(hangs_in_the_middle(scene))
    await scene.ask()
    return await scene.leave(await scene.begun())


async def leaves_after_all(scene: Scene) -> Answer | None:
    scene.script(scene.good)
    await scene.ask()
    got = await scene.line.hear()
    await scene.leave()
    scene.left = False
    return got


async def leaves_early(scene: Scene) -> Answer | None:
    scene.script(Hang())
    await scene.early()
    return await scene.leave(await scene.begun())


async def stopped_before_a_byte(scene: Scene) -> Answer:
    scene.script(Hang())
    await scene.asked()
    scene.stop()
    return await scene.line.hear()


async def stopped_in_the_middle(scene: Scene) -> Answer:
    scene.script(hangs_in_the_middle(scene))
    await scene.ask()
    await until(lambda: any(visit.early for watch in scene.house.watches for visit in watch._visits))
    scene.stop()
    return await scene.line.hear()


async def stopped_early(scene: Scene) -> Answer:
    scene.script(Hang())
    await scene.early()
    scene.stop()
    return await scene.line.hear()


def large(*rest: Any, end: str) -> Callable[[Scene], Act]:
    """A JSON document that is sent on before all of it is there."""
    piece = b"x" * (LARGE // 16)
    return lambda scene: Stream([b'{"text": "', *[piece] * 16, *rest], done=False, end=end, headers=JSON)


async def stopped_in_a_large_one(scene: Scene) -> Answer:
    scene.script(large(end="hang")(scene))
    await scene.ask()
    await until(lambda: any(visit.early for watch in scene.house.watches for visit in watch._visits))
    scene.stop()
    return await scene.line.hear()


ASKED = "/v1/messages/count_tokens"


def counts(act: Act | None, model: str) -> Play:
    async def play(scene: Scene) -> Answer:
        for up in scene.servers if act else ():
            up.on(ASKED, act, method="POST")
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        await scene.ask(json.dumps(body).encode(), ASKED)
        got = await scene.line.hear()
        assert got.json["input_tokens"] > 0
        return got

    return play
