"""The story of one request while it is under way.  Its one writer is the request's own task; nothing here acts."""

from __future__ import annotations

from collections.abc import Callable

from nexus.api import Dialect, Endpoint, Facts
from nexus.model import NO_DEMAND, Attempt, Choice, Leg, Payload, Plan, Request
from nexus.routing import NOTHING_TRIED, Refusals, Tried


class Journey:
    """What has been tried, how long it took, what the last plan was.

    `allowed` is the key's list of models, None where any may be used.  `opened` are the names that it
    opens by wildcards, where that has been looked for.  `tried` are the pairs that are left out from now on.  `demand` is what all plans so
    far have asked of a pair.
    `query` is what of the client's query a server of the same dialect is sent, with its question mark.
    """

    __slots__ = (
        "allowed",
        "attempts",
        "choice",
        "demand",
        "dialect",
        "endpoint",
        "facts",
        "first_byte_by",
        "legs",
        "opened",
        "payload",
        "plan",
        "query",
        "queue_seconds",
        "reason",
        "request",
        "retry_after",
        "routing_seconds",
        "tried",
    )

    def __init__(
        self,
        request: Request,
        payload: Payload,
        facts: Facts,
        dialect: Dialect,
        endpoint: Endpoint,
        legs: tuple[Leg, ...],
        allowed: Callable[[str], bool] | None = None,
        query: str = "",
    ) -> None:
        self.request = request
        self.payload = payload
        self.facts = facts
        self.dialect = dialect
        self.endpoint = endpoint
        self.legs = legs
        self.allowed = allowed
        self.query = query
        self.opened: tuple[str, ...] | None = None
        self.tried: Tried = NOTHING_TRIED
        self.demand = NO_DEMAND
        self.attempts: list[Attempt] = []
        self.plan: Plan | None = None
        self.choice: Choice | None = None
        self.reason = ""
        self.queue_seconds = 0.0
        self.routing_seconds = 0.0
        self.retry_after: float | None = None
        self.first_byte_by: float | None = None

    def leave_out(self, choice: Choice, why: Refusals) -> None:
        """The pair is not chosen again, in any leg."""
        self.tried = {**self.tried, (choice.candidate.backend, choice.candidate.model): why}
