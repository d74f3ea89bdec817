"""What a plugin author imports: the contracts, the descriptors and `Scope`.  No behaviour of the gateway lives here.

A plugin module defines hooks (`nexus.hookspecs`) that yield descriptors; a descriptor's `open(options, scope)` is one
async context manager that yields the component.  The gateway opens each once and closes them in reverse order.
"""

from __future__ import annotations

import abc
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import attrs

from nexus.errors import BackendError, Problem, Refused
from nexus.hookspecs import hookimpl
from nexus.model import (
    EMPTY,
    NO_DEMAND,
    Answered,
    Ask,
    Attempt,
    Call,
    Candidate,
    Choice,
    Claimed,
    Demand,
    Event,
    Finished,
    Health,
    Joined,
    Lane,
    Left,
    Leg,
    Model,
    Objection,
    Payload,
    Plan,
    Price,
    Probed,
    Queued,
    Refusal,
    RefusalKind,
    Report,
    Request,
    Sighting,
    State,
    Usage,
    Zone,
)

if TYPE_CHECKING:
    import aiohttp

    from nexus.dialects.canonical import (
        Answer,
        Conversation,
        Losses,
        ReplyContext,
        StreamDecoder,
        StreamEncoder,
        Target,
    )

__all__ = [
    "EMPTY",
    "NO_DEMAND",
    "Answered",
    "Ask",
    "Attempt",
    "Backend",
    "BackendError",
    "BackendKind",
    "Call",
    "Candidate",
    "Check",
    "Choice",
    "Claimed",
    "Clock",
    "Demand",
    "Dialect",
    "DialectKind",
    "Endpoint",
    "Event",
    "Exchange",
    "Facts",
    "Fingerprint",
    "Finished",
    "Health",
    "Joined",
    "Lane",
    "Left",
    "Leg",
    "Model",
    "ModelEntry",
    "NoOptions",
    "Objection",
    "Observer",
    "ObserverKind",
    "Payload",
    "Plan",
    "Price",
    "Probed",
    "Problem",
    "Queued",
    "Reader",
    "Refusal",
    "RefusalKind",
    "Refused",
    "Reply",
    "Report",
    "Request",
    "Route",
    "Routes",
    "RoutesKind",
    "Scope",
    "Secret",
    "Server",
    "Sighting",
    "Source",
    "SourceKind",
    "Splice",
    "Stage",
    "StageKind",
    "State",
    "Upstream",
    "Usage",
    "Zone",
    "hookimpl",
    "opens",
]


# ---------------------------------------------------------------- what a component is given


class Secret:
    """A key.  It prints as `***`; `reveal()` is the one way to its text."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "***"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


class Clock(Protocol):
    """`now()` is monotonic seconds (the event loop's), for durations; `time()` is seconds since the epoch, for people."""

    def now(self) -> float: ...
    def time(self) -> float: ...


class Exchange(Protocol):
    """The answer to one HTTP exchange, its body still arriving.  Header names are lower case; repeated ones stay repeated."""

    @property
    def status(self) -> int: ...
    @property
    def headers(self) -> tuple[tuple[str, str], ...]: ...

    def read(self) -> Awaitable[bytes]:
        """The next bytes, as many as have arrived; b"" at the proper end of the body.  Raises BackendError on any other end."""
        ...


class Upstream(Protocol):
    """HTTP/1.1 to backends: pooled, streamed, with back-pressure.  Redirects are answers, not followed."""

    def exchange(
        self,
        method: str,
        url: str,
        *,
        headers: Iterable[tuple[str, str]] = (),
        body: bytes = b"",
        first_byte_by: float | None = None,
        answer_by: float | None = None,
        idle_timeout: float | None = None,
    ) -> AbstractAsyncContextManager[Exchange]:
        """Send one request and wait for the head of its answer.

        `first_byte_by` (the first byte of the body: servers send a head long before a token) and `answer_by` are moments of
        the clock, `idle_timeout` is seconds between two pieces of the body.
        `Host`, `Content-Length` and the framing are added here.  Leaving the context before the end of the body closes
        the connection: that is how an exchange is given up.  Raises BackendError; ValueError for a header that HTTP
        does not allow.
        """
        ...


@attrs.frozen(kw_only=True)
class Check:
    """One observation that a fingerprint rests on: GET `path` answers `status`, and where given its JSON body has the dotted
    key `json` (`data.0.max_model_len`), its body contains `text`, its header `header` exists."""

    path: str
    status: int = 200
    json: str | None = None
    text: str | None = None
    header: str | None = None


@attrs.frozen(kw_only=True)
class Fingerprint:
    """How to recognise a kind of server by what it says, never by its port.

    `ports` are where to knock.  All `checks` must hold.  Fingerprints are tried in the order of `rank`, lower first: a
    server that also speaks another one's API must be asked about before that other one.
    """

    ports: tuple[int, ...]
    checks: tuple[Check, ...]
    rank: int = 100


@attrs.frozen(kw_only=True)
class Scope:
    """All that a component may touch.

    `upstream` is the hot path's HTTP client; `session()` gives an `aiohttp.ClientSession` for everything else (made on
    first use, shared, closed by the gateway).  `spawn` runs a coroutine until the component closes; its crash is logged.
    `changed()` wakes waiting requests: a stage calls it when something it refused for may now pass.  `state_dir()` is a
    directory of the component's own that survives restarts (StartupError where it cannot be had).  `fingerprints` are
    those of all installed backend kinds.
    """

    name: str
    log: logging.Logger
    clock: Clock
    upstream: Upstream
    session: Callable[[], aiohttp.ClientSession]
    spawn: Callable[[Coroutine[Any, Any, None], str], None]
    changed: Callable[[], None]
    state_dir: Callable[[], Path]
    fingerprints: tuple[Fingerprint, ...] = ()


@attrs.frozen(kw_only=True)
class Server:
    """The server a backend component talks to.  `url` has no trailing slash and may carry a path."""

    name: str
    url: str
    key: Secret | None = None


# ---------------------------------------------------------------- backends


@attrs.define(kw_only=True)
class Reply:
    """A backend's answer.  `body` yields bytes as they come and raises BackendError where it breaks off.

    `headers` are lower case.  A backend that counts tokens itself sets `usage`, read once the body has ended; otherwise
    the dialect reads them from the body.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    read: Callable[[], Awaitable[bytes]]
    usage: Callable[[], Usage] | None = None


class Backend(abc.ABC):
    """One inference server."""

    @abc.abstractmethod
    async def probe(self) -> Report:
        """What the server says of itself now.  Cheap, without side effects, free of charge.

        A server that is down is a Report with `ok=False`, not an exception.
        """

    @abc.abstractmethod
    def send(self, call: Call) -> AbstractAsyncContextManager[Reply]:
        """Send `call.body` as it is and yield the reply once its head is there.  Leaving the context gives the exchange up.

        Raises BackendError where no reply came.
        """

    def secrets(self) -> Iterable[Secret]:
        """What must not be repeated where the server says it (its key, in an error): it is replaced by `***`."""
        return ()

    async def load(self, model: str) -> None:
        """Make the model resident.  Raises BackendError("unsupported") where the server cannot."""
        raise BackendError("unsupported", "this server cannot load a model on request")

    async def unload(self, model: str) -> None:
        """Free the model.  Raises BackendError("unsupported") where the server cannot."""
        raise BackendError("unsupported", "this server cannot unload a model on request")

    async def count(self, call: Call) -> int:
        """The exact number of prompt tokens.  Raises BackendError("unsupported") where the server cannot tell."""
        raise BackendError("unsupported", "this server cannot count tokens")


# ---------------------------------------------------------------- stages


class Stage:
    """A policy.  Every verb has a default that does nothing, and only verbs that are overridden are ever called.

    A stage sees one candidate at a time and can only object, so no stage can bring back what another refused.  All verbs
    but `admit` are synchronous and must not block.  A verb that raises ends the request with a 500 that names the stage.
    `hears` are the kinds of event that `learn` is called for.
    """

    hears: tuple[type[Event], ...] = (Event,)

    def describe(self, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
        """What does this request ask for?  `known` is every pair of the leg, healthy or not.  It only ever adds: the demand of
        leg 0 holds for all later legs too."""
        return NO_DEMAND

    def refuse(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        """An objection to this pair, or None."""
        return None

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """Expected seconds lost by choosing this pair; negative for seconds gained.  The core adds up all stages."""
        return 0.0

    def prepare(self, call: Call) -> Call:
        """Change what is sent (`body`, `headers`); never the pair, the path or the ask."""
        return call

    async def admit(self, call: Call) -> None:
        """The last word before a byte leaves, on the exact bytes.  Raises Refused to forbid this attempt."""

    def tell(self, ask: Ask, candidate: Candidate) -> Mapping[str, str]:
        """`X-Nexus-*` headers for the answer."""
        return EMPTY

    def learn(self, event: Event) -> None:
        """Something has happened.  A stage that fails to learn a `Finished` refuses everything from then on."""


# ---------------------------------------------------------------- dialects


@attrs.frozen(kw_only=True)
class Endpoint:
    """One way in: HTTP method, path under the gateway's prefix, and the task it asks for."""

    path: str
    task: str
    method: str = "POST"


@attrs.frozen(kw_only=True)
class Facts:
    """What routing needs of a body.  Token figures are estimates that bound the prompt from below and above."""

    model: str
    stream: bool = False
    needs: frozenset[str] = frozenset()
    tokens_low: int = 0
    tokens_high: int = 0
    max_output_tokens: int | None = None
    n: int = 1
    wants_usage: bool = False


@attrs.frozen(kw_only=True)
class Splice:
    """What must change in a body: the model's name, whether to ask for usage at the end of the stream."""

    model: str | None = None
    ask_usage: bool = False


@attrs.frozen(kw_only=True)
class ModelEntry:
    """One name a client may ask for, for the model list.  `context` is in tokens and served now."""

    name: str
    context: int | None = None
    capabilities: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    created: int = 0


class Reader(abc.ABC):
    """Reads one reply as it passes: finds event boundaries, usage and a first event that is an error.

    `begun` turns true with the first complete event that carries data.  `error` is then set where that event is an error.
    """

    begun: bool = False
    error: str | None = None

    @abc.abstractmethod
    def feed(self, data: bytes) -> bytes:
        """The bytes that may go to the client now: complete events only, less those that Nexus itself caused."""

    @abc.abstractmethod
    def finish(self) -> bytes:
        """What is left at the proper end of the body.  Raises BackendError("cut") where the dialect's last event is missing."""

    @abc.abstractmethod
    def usage(self) -> Usage:
        """The tokens so far."""


class Dialect(abc.ABC):
    """One wire format.  Everything here is synchronous and pure.

    `stream_type` is the content type of its streams; a server that answers a stream with another is at fault.  `keepalive` is a
    piece of stream that every client of the dialect skips (empty: the dialect has none).  `forward` and `backward` are
    prefixes of the headers that pass to the backend and to the client, `query` the names of the parameters that pass to the
    backend.  `translates` says that the dialect can be read into the canonical form and written from it; a translated request
    carries `own_headers` to its servers.
    """

    name: str
    endpoints: tuple[Endpoint, ...]
    stream_type: str = "text/event-stream"
    keepalive: bytes = b""
    forward: tuple[str, ...] = ()
    backward: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    translates: bool = False
    own_headers: tuple[tuple[str, str], ...] = ()

    @abc.abstractmethod
    def decode(self, endpoint: Endpoint, payload: Payload) -> Facts:
        """The facts of a body.  Raises Problem (400) that says what is wrong and where."""

    @abc.abstractmethod
    def splice(self, endpoint: Endpoint, body: bytes, splice: Splice) -> bytes:
        """The body with exactly these values changed, every other byte as it was."""

    @abc.abstractmethod
    def reader(self, endpoint: Endpoint, facts: Facts, *, hide_usage: bool) -> Reader:
        """A reader for one reply; `hide_usage` takes out the usage event that Nexus asked for."""

    @abc.abstractmethod
    def error(self, problem: Problem, request_id: str) -> bytes:
        """The problem as a whole body."""

    @abc.abstractmethod
    def error_event(self, problem: Problem, request_id: str) -> bytes:
        """The problem as the last event of a stream that has begun."""

    @abc.abstractmethod
    def read_error(self, body: bytes) -> str:
        """The sentence in a backend's error body, for logs and for what is told of failed attempts."""

    def lacks(self, said: str) -> str:
        """What a backend's sentence admits it cannot do, as a refusal code (`no_vision`, `no_tools`, …); "" for anything else."""
        return ""

    @abc.abstractmethod
    def models(self, entries: Iterable[ModelEntry]) -> bytes:
        """The model list."""

    @abc.abstractmethod
    def model(self, entry: ModelEntry) -> bytes:
        """One model."""

    def local_answer(self, endpoint: Endpoint, facts: Facts) -> bytes | None:
        """An estimate as a whole answer, for a task that Nexus can answer itself where no server can (counting tokens); None for
        every other task."""
        return None

    def claims(self, headers: Mapping[str, str]) -> bool:
        """Whether these headers on a path that several dialects share (`/v1/models`) are this dialect's."""
        return False

    # ---- translation, to and from the canonical form (`nexus.dialects.canonical`); for dialects with `translates`

    def endpoint_for(self, task: str) -> Endpoint | None:
        """Where a server that speaks this dialect takes the task; None where the dialect has no such task."""
        return next((endpoint for endpoint in self.endpoints if endpoint.task == task), None)

    def read_request(self, endpoint: Endpoint, payload: Payload) -> tuple[Conversation, Losses]:
        """A client's request, and what of it the canonical form cannot carry.  Raises Problem (400) that says what is wrong."""
        raise self._untranslatable()

    def write_request(self, endpoint: Endpoint, conversation: Conversation, target: Target) -> tuple[bytes, Losses]:
        """The request as this dialect's servers take it, and what of it this dialect cannot say.  A stream is always asked for
        its usage."""
        raise self._untranslatable()

    def read_answer(self, body: bytes) -> Answer:
        """A server's whole reply.  Raises BackendError: "malformed", or "error_event" for an error that came with a 200."""
        raise self._untranslatable()

    def write_answer(self, answer: Answer, context: ReplyContext) -> bytes:
        """A whole reply as this dialect's clients read it."""
        raise self._untranslatable()

    def stream_decoder(self) -> StreamDecoder:
        """Reads one stream of a server."""
        raise self._untranslatable()

    def stream_encoder(self, context: ReplyContext) -> StreamEncoder:
        """Writes one stream for a client."""
        raise self._untranslatable()

    def _untranslatable(self) -> NotImplementedError:
        return NotImplementedError(f"the dialect {self.name!r} passes through only: it has no translation")


# ---------------------------------------------------------------- sources, observers, routes


class Source(abc.ABC):
    """A way to find servers."""

    @abc.abstractmethod
    def watch(self) -> AsyncIterator[Sighting]:
        """Yields what is found and lost, for as long as it is iterated.  An exception ends the source and is logged."""


class Observer(abc.ABC):
    """A witness.  What it raises is logged and changes nothing.  `sees` are the kinds of event that `see` is called for."""

    sees: tuple[type[Event], ...] = (Event,)

    @abc.abstractmethod
    def see(self, event: Event) -> None:
        """Count it, log it.  Must not block."""


@attrs.frozen(kw_only=True)
class Route:
    """An extra endpoint.  `handler` takes an `aiohttp.web.Request` and returns a response.  `admin` ones need an admin key."""

    path: str
    handler: Callable[[Any], Awaitable[Any]]
    method: str = "GET"
    admin: bool = True


class Routes(abc.ABC):
    """A component that answers extra endpoints."""

    @abc.abstractmethod
    def routes(self) -> Iterable[Route]: ...


# ---------------------------------------------------------------- descriptors


@attrs.frozen
class NoOptions:
    """The options of a component that has none."""


T = TypeVar("T")
Open = Callable[[Any, Scope], AbstractAsyncContextManager[T]]


def opens(factory: Callable[[Any, Scope], T]) -> Open[T]:
    """An `open` for a component that needs nothing closed: `open=opens(MyStage)` calls `MyStage(options, scope)`."""

    @contextlib.asynccontextmanager
    async def open_(options: Any, scope: Scope) -> AsyncIterator[T]:
        yield factory(options, scope)

    return open_


@attrs.frozen(kw_only=True)
class BackendKind:
    """A kind of server.  `open(server, options, scope)` yields a Backend.

    `options` is a frozen attrs class with the keys that this kind adds to a `[[backends]]` table.  `capacity` is how many
    requests such a server serves at once where it does not say (None: unlimited).  `runs_models` says that it runs models
    itself and forwards nothing: only such a kind can be `restricted` without the operator's word.  `cloud` marks kinds
    that are somebody else's computer.  `default_url` is used where the operator gives none.
    """

    name: str
    open: Callable[[Server, Any, Scope], AbstractAsyncContextManager[Backend]]
    options: type = NoOptions
    fingerprints: tuple[Fingerprint, ...] = ()
    service_types: tuple[str, ...] = ()
    capacity: int | None = None
    runs_models: bool = False
    cloud: bool = False
    default_url: str | None = None


@attrs.frozen(kw_only=True)
class StageKind:
    """A stage.  `policy_words` are the keys of `[[policies]]` that it enforces.

    `default` makes it active where `[routing] stages` is not written, after the five standard ones.  It is for stages that
    refuse nothing: one that can refuse waits until the operator names it.
    """

    name: str
    open: Open[Stage]
    options: type = NoOptions
    policy_words: tuple[str, ...] = ()
    default: bool = False


@attrs.frozen(kw_only=True)
class DialectKind:
    """A dialect."""

    name: str
    open: Open[Dialect]
    options: type = NoOptions


@attrs.frozen(kw_only=True)
class SourceKind:
    """A source."""

    name: str
    open: Open[Source]
    options: type = NoOptions


@attrs.frozen(kw_only=True)
class ObserverKind:
    """An observer.  Descriptors that share one `open` are opened once and play every part they were yielded for."""

    name: str
    open: Open[Observer]
    options: type = NoOptions


@attrs.frozen(kw_only=True)
class RoutesKind:
    """Extra endpoints."""

    name: str
    open: Open[Routes]
    options: type = NoOptions
