"""A dispatcher over a fleet without sockets: as many backends, models and waiting requests as one likes.  Nothing here is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from nexus_stages import nexus_stages

from nexus.api import Backend, Model, Report, Stage, State, Zone
from nexus.attempt import Turn
from nexus.context import RequestContext
from nexus.decision import Decider, Limits
from nexus.dialects.openai import OpenAI
from nexus.dialects.ways import Ways
from nexus.dispatch import Dispatcher
from nexus.fleet import Claim, Fleet, Member
from nexus.model import CHAT, Choice, Event
from nexus.names import Names
from nexus.patience import USUAL, Patience
from nexus.policies import Policy
from nexus.routing import Pipeline
from nexus.testing import a_body, a_request, a_scope
from nexus.waiting import Bounds, Waiting

SPEAKS = frozenset({("openai", CHAT)})
DOWN = Report(ok=False, code="connect", problem="refused")


class Nobody(Backend):
    """A backend that is never sent anything."""

    async def probe(self) -> Report:
        return Report(ok=True)

    async def send(self, call: object) -> Any:
        raise NotImplementedError("nothing is sent here")


class Counting(Stage):
    """How often a candidate was looked at, and of which backends."""

    def __init__(self) -> None:
        self.looks = 0

    def refuse(self, ask: object, candidate: object) -> None:
        self.looks += 1


class Handed:
    """In the place of attempts: whoever gets a turn has got what it wanted."""

    def patience_for(self, claim: Claim) -> Patience:
        return USUAL

    async def has_way(self, context: RequestContext, choice: Choice) -> bool:
        return True

    async def make(self, context: RequestContext, turn: Turn) -> Turn:
        return turn


class Loop:
    """The clock of the running loop."""

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    time = now


def a_model(name: str, **more: Any) -> Model:
    return Model(**{"id": name, "offers": {CHAT: True}, "context": 32768, "speaks": SPEAKS, "state": State.READY} | more)


def joined(fleet: Fleet, name: str, *models: str | Model, zone: Zone = Zone.RESTRICTED, **more: Any) -> None:
    """A backend that is well and serves these comes into a fleet."""
    fleet.join(Member(name=name, kind="crowd", url=f"http://{name}.invalid", backend=Nobody(), zone=zone, **more))
    fleet.report(name, Report(ok=True, models=tuple(m if isinstance(m, Model) else a_model(m) for m in models)), 0.001)


class Crowd:
    """The fleet, who dispatches over it, and who waits.  `counting` has seen every candidate that was looked at."""

    def __init__(
        self,
        stages: Iterable[tuple[str, Stage]] = (),
        *,
        aliases: Mapping[str, list[str]] | None = None,
        fallbacks: Mapping[str, list[str]] | None = None,
        policies: Iterable[Policy] = (),
        limits: Limits | None = None,
    ) -> None:
        loop = asyncio.get_running_loop()
        self.counting = Counting()
        self.pipeline = Pipeline([("counting", self.counting), *stages])
        self.fleet = Fleet(loop.time, self._tell)
        self.waiting: Waiting[Turn] = Waiting(
            Bounds(max_requests=100_000, max_bytes=1 << 34, max_wait_seconds=600.0), loop.time, self._tell, self.fleet
        )
        self.fleet.freed, self.fleet.changed = self.waiting.freed, self.waiting.changed
        self.names = Names(aliases or {}, fallbacks or {}, policies)
        self.fleet.named = self.names.policies.same
        self.dialect = OpenAI()
        self.endpoint = next(e for e in self.dialect.endpoints if e.task == CHAT)
        ways = Ways({"openai": self.dialect})
        limits = limits or Limits(max_wait=600.0)
        self.decider = Decider(self.fleet, self.pipeline, self.names, ways, self.waiting, Loop(), limits)
        self.dispatcher = Dispatcher(self.decider, Handed())  # type: ignore[arg-type]

    def _tell(self, event: Event) -> None:
        for _, learn in self.pipeline.learners(type(event)):
            learn(event)

    def join(self, name: str, *models: str | Model, zone: Zone = Zone.RESTRICTED, **more: Any) -> None:
        """A backend that is well and serves these."""
        joined(self.fleet, name, *models, zone=zone, **more)

    def fail(self, name: str) -> None:
        """It is down."""
        for _ in range(3):
            self.fleet.report(name, DOWN, 0.001)

    def recover(self, name: str, *models: str) -> None:
        """It is well again."""
        for _ in range(2):
            self.fleet.report(name, Report(ok=True, models=tuple(map(a_model, models))), 0.001)

    def occupy(self, name: str, model: str | None = None) -> Any:
        """A claim on it."""
        standing = self.fleet.standings[name]
        pair = standing.pairs[model] if model else next(iter(standing.pairs.values()))
        return self.fleet.claim(standing.photo(pair), a_request())

    def pause(self, name: str, model: str, seconds: float) -> None:
        """The pair asks for a pause."""
        self.occupy(name, model).finish("rate", sent=True, status=429, retry_after=seconds)

    def context(self, model: str, **more: Any) -> RequestContext:
        """A chat as it comes in."""
        context = RequestContext("r", self.dialect, self.endpoint, self.fleet.now())
        context.payload.body = a_body(model)
        context.facts = self.dialect.decode(self.endpoint, context.payload)
        context.request = a_request(model=model, accepted=context.accepted, **more)
        context.legs = self.names.legs(model, strict=context.request.strict, flexible=context.request.flexible)
        return context

    def ask(self, model: str, **more: Any) -> asyncio.Task[Turn]:
        """A chat that is served or waits as a client's would."""
        return asyncio.get_running_loop().create_task(self.dispatcher.open(self.context(model, **more)))  # type: ignore[arg-type]

    async def asks(self, count: int, model: str, **more: Any) -> list[asyncio.Task[Turn]]:
        """So many that wait, in order."""
        tasks, before = [], len(self.waiting)
        for _ in range(count):
            tasks.append(self.ask(model, **more))
            await asyncio.sleep(0)
        while len(self.waiting) < before + count:
            await asyncio.sleep(0)
        return tasks

    async def calm(self) -> None:
        """All that is to be done for those who wait has been done."""
        await asyncio.sleep(0)
        while self.waiting.busy:
            await asyncio.sleep(0)
        await asyncio.sleep(0)  # those who got a turn have it now


async def standard_stages(stack: AsyncExitStack) -> list[tuple[str, Stage]]:
    """The stages of a configuration that says nothing of them."""
    scope = await stack.enter_async_context(a_scope("bench"))
    return [(kind.name, await stack.enter_async_context(kind.open(kind.options(), scope))) for kind in nexus_stages()]
