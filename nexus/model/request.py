"""What a client wants: a request's facts and body, what it demands, and the names it may be served under.  Where it may go is in
`candidate`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.model.words import EMPTY, Lane, Zone


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """The facts of one request, without its body and without credentials.

    `tokens_low` and `tokens_high` bound the tokens of the prompt from below and above (estimates, see the dialect).
    `headers` are lower case, and emptied once the request is answered.  `zone` is what the client tightened to.  `accepted` is in seconds of the gateway's clock.
    `takes_slot` as in `Endpoint`.
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
    takes_slot: bool = True


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


class Demand(msgspec.Struct, frozen=True, kw_only=True):
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
            zone=Zone.OPEN if self.zone == other.zone == Zone.OPEN else Zone.RESTRICTED,
            min_tier=max(self.min_tier, other.min_tier),
            needs=self.needs | other.needs,
            context=max(self.context, other.context),
        )


NO_DEMAND = Demand()


class Leg(msgspec.Struct, frozen=True, kw_only=True):
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


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """What stages judge a candidate by."""

    request: Request
    leg: Leg
    demand: Demand
