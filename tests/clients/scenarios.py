"""What every client is put through, and what must come of it.  How a client is started is its own: `sdks`, `agents`."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Any, ClassVar

import attrs

from .processes import Ended, Running, until
from .slow import SlowWorld
from .world import DOOMED, ENDLESS, MISSING, MODEL, NATIVE, SECRET, World

PLAIN, STREAM, TOOLS, ERROR, ABORT = "plain", "stream", "tools", "error", "abort"
WAITING, LOST, INTERACTIVE = "waiting", "lost", "interactive"
SCENARIOS = (PLAIN, STREAM, TOOLS, ERROR, ABORT, WAITING, LOST, INTERACTIVE)
SLOW = frozenset({WAITING, LOST, INTERACTIVE})
"""Those that are played in a SlowWorld."""
LEAVING_SECONDS = 15
SIGNS = 3
"""How many keep-alives a client hears before its answer."""
NOBODY = "no backend answered"
"""What the gateway says where all have failed."""
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
    has_terminal: ClassVar[bool] = False
    """Whether there is an `interactive` one."""
    asks_again: bool = False
    """Whether it asks again, by itself and without a word, when a stream ends in an error."""

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

    @abc.abstractmethod
    def says(self, ended: Ended) -> None:
        """Raises AssertionError where it did not show the streamed answer, or showed more than that."""

    @abc.abstractmethod
    def gave_up(self, ended: Ended) -> None:
        """Raises AssertionError where it does not show that a stream ended in an error."""

    def interactive(self, world: SlowWorld) -> None:
        """A person at a terminal, who waits, too; asked of those only that `has_terminal`."""
        raise NotImplementedError

    def waiting(self, world: SlowWorld) -> None:
        """The first server dies after a wait, the second answers."""
        with self._waits(world, WAITING, SIGNS) as (program, before):
            world.holding.die()
            self.says(program.ended())
        assert any(heard.signs >= SIGNS and heard.began for heard in world.answers()[before:]), "no stream began early"
        assert "failover" in {story["reason"] for story in world.stories()}, "no other server was asked"

    def lost(self, world: SlowWorld) -> None:
        """The only server dies after a wait.  Who asks again gets an answer, once the server is back."""
        with self._waits(world, LOST, 1) as (program, _):
            asked = len(world.answers())
            world.holding.die()
            if self.asks_again:
                until(lambda: program.over or len(world.answers()) > asked, "it asks again")
                world.holding.recover()
            (self.says if self.asks_again else self.gave_up)(program.ended())
        assert "broken" in {story["outcome"] for story in world.stories()}, "no stream was broken off"

    @contextmanager
    def _waits(self, world: SlowWorld, scenario: str, signs: int) -> Iterator[tuple[Running, int]]:
        """The program, once all that it has asked for waits and has heard `signs` keep-alives, and how much had been asked before."""
        world.holding.hold()
        before = len(world.answers())
        with self.start(world, scenario) as program:
            world.waited(program, before, signs)
            yield program, before

    def run(self, world: World, scenario: str) -> None:
        """Raises AssertionError with a sentence that says what went wrong."""
        asked, ended = len(world.tap.posted), len(world.stories())
        acts: dict[str, Callable[[Any], None]] = {
            PLAIN: self.plain,
            STREAM: self.stream,
            TOOLS: self.tools,
            ERROR: self.error,
            ABORT: self.abort,
            WAITING: self.waiting,
            LOST: self.lost,
            INTERACTIVE: self.interactive,
        }
        acts[scenario](world)
        stories = world.stories()[ended:]
        if scenario not in (ERROR, ABORT, LOST):
            self._judge(world, scenario, world.tap.posted[asked:], stories)

    def _judge(self, world: World, scenario: str, asked: list[str], stories: list[Any]) -> None:
        """What the gateway and the server have seen of it."""
        spoken = self.dialect if world.way == NATIVE else "openai"
        generations = [path for path in asked if path in GENERATION.values()]
        assert set(generations) == {GENERATION[spoken]}, f"the server was asked for {sorted(set(generations))}"
        failed = [story["outcome"] for story in stories if story["outcome"] != "ok"]
        assert not failed, f"the gateway says of its requests: {failed}"
        assert all(story["request"]["dialect"] == self.dialect for story in stories)
        if scenario in (STREAM, WAITING):
            assert any(story["request"]["stream"] for story in stories), "nothing was streamed"
        if scenario in (TOOLS, INTERACTIVE):
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
    return {ERROR: MISSING, ABORT: ENDLESS, LOST: DOOMED}.get(scenario, MODEL)
