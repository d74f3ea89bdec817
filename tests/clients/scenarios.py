"""What every client is put through, and what must come of it.  How a client is started is its own: `sdks`, `agents`."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from .processes import Running, until
from .world import ENDLESS, MISSING, MODEL, NATIVE, SECRET, World

PLAIN, STREAM, TOOLS, ERROR, ABORT = "plain", "stream", "tools", "error", "abort"
SCENARIOS = (PLAIN, STREAM, TOOLS, ERROR, ABORT)
LEAVING_SECONDS = 15
GENERATION = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages"}


class Client(abc.ABC):
    """One client.  `page` is its name in `nexus clients`, `call` what it can be asked to call, with arguments that fit."""

    name: str
    page: str
    dialect: str
    ways: tuple[str, ...] = (NATIVE,)
    call: Mapping[str, Any]
    finds: str = SECRET
    """What the result of the call holds."""
    leaves_out: ClassVar[Mapping[str, str]] = MappingProxyType({})
    """Scenarios that it has not got, and why."""

    @abc.abstractmethod
    def install(self) -> None:
        """Raises NotInstalled."""

    @abc.abstractmethod
    def start(self, world: World, scenario: str) -> AbstractContextManager[Running]:
        """The program, started for this scenario."""

    @abc.abstractmethod
    def plain(self, world: World) -> None: ...

    @abc.abstractmethod
    def stream(self, world: World) -> None: ...

    @abc.abstractmethod
    def tools(self, world: World) -> None: ...

    @abc.abstractmethod
    def error(self, world: World) -> None: ...

    @abc.abstractmethod
    def abort(self, world: World) -> None: ...

    def run(self, world: World, scenario: str) -> None:
        """Raises AssertionError with a sentence that says what went wrong."""
        asked, ended = len(world.tap.posted), len(world.stories())
        acts: dict[str, Callable[[World], None]] = {
            PLAIN: self.plain,
            STREAM: self.stream,
            TOOLS: self.tools,
            ERROR: self.error,
            ABORT: self.abort,
        }
        acts[scenario](world)
        stories = world.stories()[ended:]
        if scenario in (PLAIN, STREAM, TOOLS):
            self._judge(world, scenario, world.tap.posted[asked:], stories)

    def _judge(self, world: World, scenario: str, asked: list[str], stories: list[Any]) -> None:
        """What the gateway and the server have seen of it."""
        spoken = self.dialect if world.way == NATIVE else "openai"
        generations = [path for path in asked if path in GENERATION.values()]
        assert set(generations) == {GENERATION[spoken]}, f"the server was asked for {sorted(set(generations))}"
        failed = [story["outcome"] for story in stories if story["outcome"] != "ok"]
        assert not failed, f"the gateway says of its requests: {failed}"
        assert all(story["request"]["dialect"] == self.dialect for story in stories)
        if scenario == STREAM:
            assert any(story["request"]["stream"] for story in stories), "nothing was streamed"
        if scenario == TOOLS:
            assert len(generations) >= 2, "the result of the call never came back"

    def left(self, world: World, ended: int) -> None:
        """The gateway has let go of a request whose client went away."""
        until(lambda: not world.in_flight, "the server is given up", LEAVING_SECONDS)
        until(lambda: len(world.stories()) > ended, "the request is told as ended", LEAVING_SECONDS)
        told = {story["outcome"] for story in world.stories()[ended:]}
        assert "client_left" in told, f"the gateway says of the request: {told}"


@attrs.frozen
class Row:
    """One client over one way, with what came of every scenario: "" for fine, a sentence for what failed."""

    client: Client
    way: str
    outcomes: Mapping[str, str]

    @property
    def failed(self) -> bool:
        return any(self.outcomes.values())


def model_of(scenario: str) -> str:
    """The model to ask in a scenario."""
    return {ERROR: MISSING, ABORT: ENDLESS}.get(scenario, MODEL)
