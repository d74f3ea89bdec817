"""What has happened: the one way back from traffic to stages and observers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from nexus.model.attempt import Attempt
from nexus.model.candidate import Candidate
from nexus.model.plan import Plan
from nexus.model.request import Leg, Request
from nexus.model.tokens import NO_USAGE, Usage
from nexus.model.words import EMPTY, Health, Lane


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """A fact about something that has happened.  `at` is in seconds of the gateway's clock."""

    at: float


class Claimed(Event, frozen=True, kw_only=True):
    """An attempt holds a slot of its pair."""

    claim: int
    request: Request
    candidate: Candidate


class Finished(Event, frozen=True, kw_only=True):
    """The end of a claim; every claim gets exactly one.

    `sent` says whether a byte left for the backend.  `outcome` is one of ok, rejected (it will not: by what it said), rate (it is busy), failed, timeout,
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


class Answered(Event, frozen=True, kw_only=True):
    """The end of a request that was let in, by its host, origin and key; exactly one per request.

    `outcome` is ok, refused (an error without a served answer), client_left or broken (cut after the first byte).
    `status` is that of the head that the client got, 499 where it left before there was one: a stream that had to be opened early has
    a 200, however it ends.  `message` is the sentence of an error that the client was told.
    `seconds`, `queue_seconds`, `routing_seconds` and `first_byte` are durations.  `unsent` are the `X-Nexus-*` headers that came too late
    for a stream that had to be opened early.
    """

    request: Request
    status: int
    outcome: str
    code: str = ""
    message: str = ""
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
    unsent: Mapping[str, str] = EMPTY


class Queued(Event, frozen=True, kw_only=True):
    """A request began (`waiting` true) or stopped to wait; `depth` is the lane's new depth."""

    request: Request
    lane: Lane
    waiting: bool
    depth: int


class Joined(Event, frozen=True, kw_only=True):
    """A backend is part of the fleet."""

    backend: str
    kind: str
    url: str
    source: str


class Left(Event, frozen=True, kw_only=True):
    """A backend is no longer part of the fleet."""

    backend: str


class Probed(Event, frozen=True, kw_only=True):
    """A probe ended.  `changed` says whether health or models are other than before."""

    backend: str
    health: Health
    seconds: float
    models: int
    problem: str = ""
    changed: bool = False


Listener = Callable[[Event], None]
