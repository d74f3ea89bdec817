"""The values that flow through Nexus.  No I/O, no clock, no logging and no third-party types live here.

Everything is frozen, slotted and keyword-only, so a value can be kept in a history, put into an event or handed to a
plugin without anybody being able to change it.  Only `Payload` and `Call` reach the body of a request.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

EMPTY: Mapping[str, Any] = MappingProxyType({})


class Zone(enum.StrEnum):
    """How far a prompt may travel: `restricted` stays with machines the operator vouches for, `open` may go anywhere."""

    OPEN = "open"
    RESTRICTED = "restricted"


class Lane(enum.StrEnum):
    """The lanes of the queue, and the priority a request may ask for."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class State(enum.StrEnum):
    """What a model on a backend is doing.  `unknown` passes every filter and ranks after `ready`."""

    OFF = "off"
    ASLEEP = "asleep"
    LOADING = "loading"
    READY = "ready"
    UNKNOWN = "unknown"


class Health(enum.StrEnum):
    """What the probes and the traffic say of a backend."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class RefusalKind(enum.StrEnum):
    """Why a candidate cannot have a request, by what would have to change.

    never   the request can never be served there (a picture for a text model)
    denied  this client may not
    policy  the operator's rules forbid it, or the backend is down: now, and until somebody acts
    wait    busy or loading; waiting helps
    rate    paused until a known time; waiting helps
    """

    NEVER = "never"
    DENIED = "denied"
    POLICY = "policy"
    WAIT = "wait"
    RATE = "rate"


# What a request can need beyond its task, and what a model can offer.  Tasks are needs too.
CHAT, COMPLETION, EMBEDDING, COUNT = "chat", "completion", "embedding", "count"
VISION, TOOLS, JSON_SCHEMA = "vision", "tools", "json_schema"


@attrs.frozen(kw_only=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached: float | None = None


@attrs.frozen(kw_only=True)
class Usage:
    """Tokens of one exchange.  `source` is `reported` (the backend said so), `counted` (Nexus counted what it relayed) or `unknown`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: str = "unknown"


NO_USAGE = Usage()


@attrs.frozen(kw_only=True)
class Request:
    """The facts of one request, without its body and without credentials.

    `tokens_low` and `tokens_high` bound the tokens of the prompt from below and above (estimates, see the dialect).
    `headers` are lower case, and emptied once the request is answered.  `zone` is what the client tightened to.  `accepted` is in seconds of the gateway's clock.
    """

    id: str
    dialect: str
    task: str
    model: str
    stream: bool = False
    needs: frozenset[str] = frozenset()
    tokens_low: int = 0
    tokens_high: int = 0
    max_output_tokens: int | None = None
    n: int = 1
    headers: Mapping[str, str] = EMPTY
    peer: str = ""
    key: str | None = None
    priority: Lane = Lane.NORMAL
    session: str | None = None
    strict: bool = False
    flexible: bool = False
    zone: Zone = Zone.OPEN
    accepted: float = 0.0


class Payload:
    """The bytes of a request's body; parsed as JSON at most once, on first use."""

    __slots__ = ("_parsed", "body")

    def __init__(self, body: bytes) -> None:
        self.body = body

    @property
    def parsed(self) -> Any:
        """The whole body as plain Python values.  Raises ValueError or RecursionError where the body is no JSON."""
        try:
            return self._parsed
        except AttributeError:
            self._parsed: Any = json.loads(self.body)
            return self._parsed


@attrs.frozen(kw_only=True)
class Demand:
    """What a candidate must satisfy.  `a & b` is never looser than `a` or `b`, whatever the order."""

    zone: Zone = Zone.OPEN
    min_tier: int = 0
    needs: frozenset[str] = frozenset()
    context: int = 0

    def __and__(self, other: Demand) -> Demand:
        if other is NO_DEMAND or other is self:
            return self
        if self is NO_DEMAND:
            return other
        return Demand(
            zone=Zone.RESTRICTED if Zone.RESTRICTED in (self.zone, other.zone) else Zone.OPEN,
            min_tier=max(self.min_tier, other.min_tier),
            needs=self.needs | other.needs if self.needs and other.needs else self.needs or other.needs,
            context=max(self.context, other.context),
        )


NO_DEMAND = Demand()


@attrs.frozen(kw_only=True)
class Leg:
    """One name to try.  `ids` are the model names that count as it (several where an alias holds ids equal).

    `trail` is every name on the way from the name asked for to this one, both included.  `any_model` marks the leg of a
    flexible request: every pair of the fleet may serve it.  `demand` is what the policies on the way ask.
    """

    index: int
    name: str
    ids: tuple[str, ...]
    trail: tuple[str, ...]
    any_model: bool = False
    demand: Demand = NO_DEMAND


@attrs.frozen(kw_only=True)
class Ask:
    """What stages judge a candidate by."""

    request: Request
    leg: Leg
    demand: Demand


@attrs.frozen(kw_only=True)
class Candidate:
    """One (backend, model) pair as routing sees it: a photograph.

    `name` is the public name, `model` the id the server knows, `aliases` are further ids by which it knows the same model.
    `offers` says yes or no; what is absent is unknown.
    `context` is what is served now, `context_max` the most the server would serve, in tokens.  `eta` is in seconds until
    `state` becomes ready.  `load` is what the server itself says is running plus waiting there, ours included.
    `speed` is measured output tokens per second, `first_byte` the measured seconds to the first byte of real requests.
    `failures` is the share of recent exchanges that failed.  `paused_until` (a 429) and `ejected_until` (its traffic kept
    failing) are in seconds of the gateway's clock, 0 where they do not hold.
    `speaks` are the (dialect, task) pairs the server takes; `takes_usage` whether it takes `stream_options`.
    """

    backend: str
    kind: str
    model: str
    name: str
    zone: Zone = Zone.OPEN
    cloud: bool = False
    tier: int = 1
    priority: int = 50
    offers: Mapping[str, bool] = EMPTY
    context: int | None = None
    context_max: int | None = None
    price: Price | None = None
    health: Health = Health.UNKNOWN
    state: State = State.UNKNOWN
    eta: float | None = None
    resident: frozenset[str] = frozenset()
    in_flight: int = 0
    backend_in_flight: int = 0
    capacity: int | None = None
    load: int | None = None
    speed: float | None = None
    first_byte: float | None = None
    seconds: float | None = None
    failures: float = 0.0
    paused_until: float = 0.0
    ejected_until: float = 0.0
    speaks: frozenset[tuple[str, str]] = frozenset()
    takes_usage: bool = False
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Everything this model is called: a rule for one of its names is a rule for it."""
        return (self.name, *self.aliases) if self.name == self.model else (self.name, self.model, *self.aliases)


@attrs.frozen(kw_only=True)
class Refusal:
    """An objection to one candidate, as data.  The sentence is made when somebody reads it (`nexus.sentences`).

    `retry_at` is in seconds of the gateway's clock: when asking again may help.
    """

    kind: RefusalKind
    code: str
    data: Mapping[str, Any] = EMPTY
    retry_at: float | None = None


@attrs.frozen(kw_only=True)
class Objection:
    """A refusal, by whom, against which pair of which leg."""

    stage: str
    candidate: Candidate
    leg: int
    refusal: Refusal


@attrs.frozen(kw_only=True)
class Choice:
    """A pair that may have the request.  `parts` are the seconds each stage adds to the score (negative: gained)."""

    ask: Ask
    candidate: Candidate
    score: float = 0.0
    parts: tuple[tuple[str, float], ...] = ()


@attrs.frozen(kw_only=True)
class Plan:
    """Choices, best first, and every objection.  It is the whole answer to "why not there?".  `demand` is leg 0's."""

    demand: Demand = NO_DEMAND
    choices: tuple[Choice, ...] = ()
    objections: tuple[Objection, ...] = ()
    legs: tuple[Leg, ...] = ()


@attrs.frozen(kw_only=True)
class Call:
    """One attempt, exactly as it will leave: `body` is final once `prepare` has run.

    `path` is the dialect's own path (`/v1/chat/completions`), which a backend joins to its base URL.  `headers` are
    lower case and hold no credential.  `first_byte_by` and `answer_by` are in seconds of the gateway's clock,
    `idle_timeout` in seconds.
    """

    ask: Ask
    candidate: Candidate
    dialect: str
    task: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stream: bool
    first_byte_by: float
    answer_by: float | None
    idle_timeout: float
    method: str = "POST"


@attrs.frozen(kw_only=True)
class Model:
    """What a server says of one of its models.

    `aliases` are further ids by which the server itself knows it.  `remote` says that the server forwards the model to
    somebody else, `evidence` by what that was seen.
    """

    id: str
    aliases: tuple[str, ...] = ()
    offers: Mapping[str, bool] = EMPTY
    context: int | None = None
    context_max: int | None = None
    price: Price | None = None
    state: State = State.UNKNOWN
    eta: float | None = None
    remote: bool = False
    evidence: str = ""
    speaks: frozenset[tuple[str, str]] = frozenset()
    takes_usage: bool = False


@attrs.frozen(kw_only=True)
class Report:
    """What a probe saw.  `ok` false is a server that is down or refuses us: `code` and `problem` say how, for people.

    `models` None means "unchanged": the server answered, its list did not.  `capacity` is how many requests it serves at
    once, `load` how many it says are running or waiting, `eta` the seconds until it can serve.
    """

    ok: bool
    models: tuple[Model, ...] | None = None
    code: str = ""
    problem: str = ""
    version: str = ""
    capacity: int | None = None
    load: int | None = None
    eta: float | None = None


@attrs.frozen(kw_only=True)
class Sighting:
    """What a source found or lost.  `kind` None asks the gateway to fingerprint the server."""

    url: str
    found: bool = True
    kind: str | None = None
    name: str | None = None
    source: str = ""
    evidence: str = ""


@attrs.frozen(kw_only=True)
class Event:
    """A fact about something that has happened.  `at` is in seconds of the gateway's clock."""

    at: float


@attrs.frozen(kw_only=True)
class Claimed(Event):
    """An attempt holds a slot of its pair."""

    claim: int
    request: Request
    candidate: Candidate


@attrs.frozen(kw_only=True)
class Finished(Event):
    """The end of a claim; every claim gets exactly one.

    `sent` says whether a byte left for the backend.  `outcome` is one of ok, rejected (4xx), rate (429), failed, timeout,
    refused (by `admit`) and left (the client went).  `seconds` and `first_byte` count from the claim.  `cost` is in USD.
    """

    claim: int
    request: Request
    candidate: Candidate
    outcome: str
    sent: bool = False
    status: int | None = None
    code: str = ""
    usage: Usage = NO_USAGE
    cost: float | None = None
    seconds: float = 0.0
    first_byte: float | None = None


@attrs.frozen(kw_only=True)
class Attempt:
    """One line of a request's story: which pair was tried, and how it ended.  `message` is what the backend said, for the client."""

    backend: str
    model: str
    outcome: str
    status: int | None = None
    code: str = ""
    message: str = ""
    seconds: float = 0.0


@attrs.frozen(kw_only=True)
class Answered(Event):
    """The end of a request that reached the server; exactly one per request.

    `outcome` is ok, refused (an error without a served answer), client_left or broken (cut after the first byte).
    `seconds`, `queue_seconds`, `routing_seconds` and `first_byte` are durations.
    """

    request: Request
    status: int
    outcome: str
    code: str = ""
    candidate: Candidate | None = None
    leg: Leg | None = None
    reason: str = ""
    attempts: tuple[Attempt, ...] = ()
    plan: Plan | None = None
    usage: Usage = NO_USAGE
    cost: float | None = None
    seconds: float = 0.0
    queue_seconds: float = 0.0
    routing_seconds: float = 0.0
    first_byte: float | None = None


@attrs.frozen(kw_only=True)
class Queued(Event):
    """A request began (`waiting` true) or stopped to wait; `depth` is the lane's new depth."""

    request: Request
    lane: Lane
    waiting: bool
    depth: int


@attrs.frozen(kw_only=True)
class Joined(Event):
    """A backend is part of the fleet."""

    backend: str
    kind: str
    url: str
    source: str


@attrs.frozen(kw_only=True)
class Left(Event):
    """A backend is no longer part of the fleet."""

    backend: str


@attrs.frozen(kw_only=True)
class Probed(Event):
    """A probe ended.  `changed` says whether health or models are other than before."""

    backend: str
    health: Health
    seconds: float
    models: int
    problem: str = ""
    changed: bool = False


Listener = Callable[[Event], None]
