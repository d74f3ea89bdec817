"""What every double of an inference server shares: its models, its slots, its speed and its key.  Wire shapes live beside it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import attrs

from nexus.testing.acts import Act, Respond, Wire
from nexus.testing.incoming import Received
from nexus.testing.upstream import ScriptedUpstream

CREATED = 1_760_000_000
TEXT = "The quick brown fox jumps over the lazy dog."

Handler = Callable[[Received], Act]
Text = str | Callable[[Mapping[str, Any]], str]


@attrs.frozen
class FakeModel:
    """A model of a double.  `context` is what is served, `context_max` what the model could do, both in tokens.

    `remote_host` marks one that the server forwards to somebody else.  One that is not `loaded` takes the pace's `load`
    seconds at its first request.  `num_ctx` is what an Ollama model's own file sets, where it sets a context.
    """

    name: str
    context: int = attrs.field(default=8192, kw_only=True)
    context_max: int = attrs.field(default=131072, kw_only=True)
    vision: bool = attrs.field(default=False, kw_only=True)
    tools: bool = attrs.field(default=True, kw_only=True)
    embedding: bool = attrs.field(default=False, kw_only=True)
    thinking: bool = attrs.field(default=False, kw_only=True)
    remote_host: str | None = attrs.field(default=None, kw_only=True)
    loaded: bool = attrs.field(default=True, kw_only=True)
    num_ctx: int | None = attrs.field(default=None, kw_only=True)


@attrs.frozen(kw_only=True)
class Pace:
    """How quick a double is: seconds to the first token, tokens per second (None: all at once), seconds to load a model."""

    first_token: float = 0.0
    tokens_per_second: float | None = None
    load: float = 0.0

    @property
    def interval(self) -> float:
        """Seconds between two tokens."""
        return 1 / self.tokens_per_second if self.tokens_per_second else 0.0


class Knobs(TypedDict, total=False):
    """What can be set on every double.

    `text` is what it says (a str, or a function of the request's body), cut into one token per word.  `tool` makes it
    call the first tool it is given.  `usage` false is an old server that ignores `stream_options`.  `capacity` is how
    many requests run at once, `queue_limit` how many may wait for that before a 503.  `any_model` answers whatever
    model is named.  `dimensions` is the length of embeddings.
    """

    text: Text
    tool: bool
    usage: bool
    pace: Pace
    capacity: int | None
    queue_limit: int | None
    api_key: str | None
    any_model: bool
    dimensions: int
    port: int


class FakeServer(ScriptedUpstream):
    """A double of an inference server.  `on()` and `next()` of the scripted server go before what it answers by itself.

    Before both goes what holds for the whole server: the key, and what else `act_for` of a double asks of every request.
    `models` may be changed while it runs; `loaded` are the names in memory, `loads` all that had to be loaded, in order; `running`
    and `waiting` count generations.
    """

    open_paths: frozenset[str] = frozenset()
    """Paths that need no key even where `api_key` is set."""

    def __init__(
        self,
        models: Iterable[str | FakeModel],
        *,
        text: Text = TEXT,
        tool: bool = False,
        usage: bool = True,
        pace: Pace = Pace(),
        capacity: int | None = None,
        queue_limit: int | None = None,
        api_key: str | None = None,
        any_model: bool = False,
        dimensions: int = 8,
        port: int = 0,
    ) -> None:
        super().__init__(self.fallback, port=port)
        known = [FakeModel(model) if isinstance(model, str) else model for model in models]
        self.models = {model.name: model for model in known}
        self.loaded = {model.name for model in known if model.loaded}
        self.loads: list[str] = []
        self.text = text
        self.tool = tool
        self.usage = usage
        self.pace = pace
        self.capacity = capacity
        self.queue_limit = queue_limit
        self.api_key = api_key
        self.any_model = any_model
        self.dimensions = dimensions
        self.running = 0
        self.waiting = 0
        self._free: dict[str, asyncio.Semaphore] = {}

    # ---- requests

    def act_for(self, received: Received) -> Act:
        if self.api_key and received.path not in self.open_paths and not self._has_key(received):
            return problem(401, "Incorrect API key provided.", "invalid_request_error", "invalid_api_key")
        return super().act_for(received)

    def _has_key(self, received: Received) -> bool:
        return f"Bearer {self.api_key}" == received.header("authorization")

    def fallback(self, received: Received) -> Act:
        """What is answered on a path that nothing was registered for."""
        return problem(404, f"Unknown request URL: {received.method} {received.path}", "invalid_request_error", "unknown_url")

    def find(self, name: object) -> FakeModel | None:
        """The model of this name, or with `any_model` the first one."""
        if isinstance(name, str) and name in self.models:
            return self.models[name]
        return next(iter(self.models.values()), None) if self.any_model else None

    # ---- slots

    def turn(self, model: FakeModel, then: Act) -> Act:
        """`then`, once the model is in memory and a slot is free; a 503 where too many wait already."""
        free = self._slots(model)
        if self.queue_limit is not None and free and free.locked() and self.waiting >= self.queue_limit:
            return problem(503, "server busy, please try again. maximum pending requests exceeded", "overloaded_error", None)
        return Turn(self, model, then)

    def domain(self, model: FakeModel) -> str:
        """Whose slots the model takes: the whole server's, which has one name for all of them."""
        return ""

    def _slots(self, model: FakeModel) -> asyncio.Semaphore | None:
        return self._free.setdefault(self.domain(model), asyncio.Semaphore(self.capacity)) if self.capacity else None

    @asynccontextmanager
    async def slot(self, model: FakeModel) -> AsyncIterator[None]:
        """One of the `capacity` slots of the model's domain."""
        free = self._slots(model)
        self.waiting += 1
        try:
            if free:
                await free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            if free:
                free.release()

    async def bring(self, model: FakeModel, wire: Wire) -> None:
        """Load the model where it is not in memory."""
        if model.name not in self.loaded:
            self.loads.append(model.name)
            await wire.pause(self.pace.load)
            self.loaded.add(model.name)


@attrs.frozen
class Turn(Act):
    """A generation that waits for its turn, and for its model."""

    server: FakeServer
    model: FakeModel
    then: Act

    async def play(self, wire: Wire) -> None:
        async with self.server.slot(self.model):
            await self.server.bring(self.model, wire)
            await self.then.play(wire)


def problem(status: int, message: str, type: str, code: str | int | None, **headers: str) -> Respond:
    """An error as OpenAI's API words it."""
    error = {"message": message, "type": type, "param": None, "code": code}
    return Respond(status, json={"error": error}, headers={name.replace("_", "-"): value for name, value in headers.items()})
