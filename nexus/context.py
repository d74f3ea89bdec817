"""One request while it is under way: what came, where it may go, what was tried, and what its client was told.

Its one writer is the request's own task; nothing here acts.  Its end is frozen into `Answered`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from nexus.api import Dialect, Endpoint, Facts
from nexus.model import EMPTY, NO_DEMAND, NO_USAGE, Answered, Attempt, Choice, Demand, Finished, Leg, Payload, Plan, Request
from nexus.routing import NOTHING_TRIED, Refusals, Tried

if TYPE_CHECKING:
    from nexus.reply import OpenReply

UNREAD = Facts(model="")
UNKNOWN = Request(id="", dialect="", task="", model="")


class RequestContext(msgspec.Struct, eq=False):
    """The record of one request.

    Attributes:
        id, dialect, endpoint: what was asked for; `accepted` is when, in seconds of the gateway's clock.
        common: the headers of every answer.
        request, payload, facts, legs: what the body and the headers mean; a request without a model until they are read.
        allowed: says which models the key opens, None for all; `opened` are the names that it opens by wildcards, where that has
            been looked for.
        query: what of the client's query a server of the same dialect is sent, with its question mark.
        tried: the pairs that are left out from now on, and why; `attempts` are those that were asked.
        demand: what all plans so far have asked of a pair; `plan` is the last of them, `reason` why its choice is that.
        queue_seconds, routing_seconds: how long it waited, and what choosing took.
        first_byte_by: the moment by which all attempts together must have begun to answer.
        retry_after: the shortest pause, in seconds, of the pairs that were busy.
        stopping: the gateway stops and cannot wait for the end.
        streaming: the client is to get a stream, and has not got another answer.
        reply: the answer of a pair, open; `choice` is that pair, once the client is to get the answer.
        status, outcome, code, message: what the client is told, as in `Answered`.
        unsent: headers that came too late for an answer whose head had to be sent early.
        attempt_outcome: how the exchange with that pair ends, as in `Finished`.
    """

    id: str
    dialect: Dialect
    endpoint: Endpoint
    accepted: float
    common: Mapping[str, str] = EMPTY
    request: Request = UNKNOWN
    payload: Payload = msgspec.field(default_factory=lambda: Payload(b""))
    facts: Facts = UNREAD
    legs: tuple[Leg, ...] = ()
    allowed: Callable[[str], bool] | None = None
    opened: tuple[str, ...] | None = None
    query: str = ""
    tried: Tried = NOTHING_TRIED
    attempts: list[Attempt] = []
    demand: Demand = NO_DEMAND
    plan: Plan | None = None
    reason: str = ""
    queue_seconds: float = 0.0
    routing_seconds: float = 0.0
    first_byte_by: float | None = None
    retry_after: float | None = None
    stopping: bool = False
    streaming: bool = False
    reply: OpenReply | None = None
    choice: Choice | None = None
    status: int = 0
    outcome: str = "ok"
    code: str = ""
    message: str = ""
    unsent: Mapping[str, str] = EMPTY
    attempt_outcome: str = "ok"

    def __post_init__(self) -> None:
        self.common = {"X-Nexus-Request-Id": self.id, **self.common}
        self.request = Request(id=self.id, dialect=self.dialect.name, task=self.endpoint.task, model="", accepted=self.accepted)

    def leave_out(self, choice: Choice, why: Refusals) -> None:
        """The pair is not chosen again, in any leg."""
        self.tried = {**self.tried, (choice.candidate.backend, choice.candidate.model): why}

    def left(self) -> None:
        """The client went before its answer was complete."""
        self.outcome = self.code = "client_left"
        self.status = self.status or 499

    def answered(self, now: float) -> Answered:
        """All of it, frozen, for stages and observers."""
        choice, reply = self.choice, self.reply
        finished = reply.finished if reply else None
        return Answered(
            at=now,
            request=self.request,
            status=self.status,
            outcome=self.outcome,
            code=self.code,
            message=self.message,
            candidate=choice.candidate if choice else None,
            leg=choice.ask.leg if choice else None,
            reason=self.reason if choice else "",
            attempts=(*self.attempts, self.attempt_of(reply)) if reply and choice else tuple(self.attempts),
            plan=self.plan,
            usage=finished.usage if finished else NO_USAGE,
            cost=finished.cost if finished else None,
            seconds=now - self.accepted,
            queue_seconds=self.queue_seconds,
            routing_seconds=self.routing_seconds,
            first_byte=_first_byte(finished, self.accepted),
            unsent=self.unsent,
        )

    def attempt_of(self, reply: OpenReply) -> Attempt:
        """The attempt whose answer this is, for the story."""
        candidate, finished = reply.choice.candidate, reply.finished
        return Attempt(
            backend=candidate.backend,
            model=candidate.model,
            outcome=finished.outcome if finished else self.attempt_outcome,
            status=reply.status,
            code=self.code,
            message=self.message,
            seconds=finished.seconds if finished else 0.0,
        )


def _first_byte(finished: Finished | None, accepted: float) -> float | None:
    """Seconds from the request to the first byte of its answer; an exchange counts from its claim."""
    if finished is None or finished.first_byte is None:
        return None
    return finished.at - finished.seconds + finished.first_byte - accepted
