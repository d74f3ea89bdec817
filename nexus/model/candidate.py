"""Where a request may go, as a photograph: one model on one backend.  How it is taken is the fleet's."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from nexus.model.tokens import Price
from nexus.model.words import EMPTY, Health, State, Zone

FAILING = 0.6  # share of recent exchanges: three failures in a row, or one answer that no later request will get past


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """One (backend, model) pair as routing sees it: a photograph.

    `name` is the public name, `model` the id the server knows, `aliases` are further ids by which it knows the same model.
    `offers` says yes or no; what is absent is unknown.
    `context` is what is served now, `context_max` the most the server would serve, `max_output_tokens` the
    most it writes in one answer, in tokens.  `eta` is in seconds until
    `state` becomes ready.  `load` is what the server itself says is running plus waiting there, ours included.
    `in_flight` are the pair's own requests, `backend_in_flight` those of all models of its server, which takes at most `capacity`
    (None: no bound).  `domain` is whose slots it takes: the server's name, or `backend/model` where its models have slots of their
    own besides; `domain_capacity` is how many (None: no other bound than the server's), `domain_in_flight` how many are taken.  `waits_for` says what the server must be
    done with before this model may have a turn: `load` (it is loading another), `answers` (it would have to load this one, and
    others answer), or nothing ("").
    `speed` is measured output tokens per second, `first_byte` the measured seconds to the first byte of real requests.
    `failures` is the share of recent exchanges that failed.  `paused_until` (it is busy, and answered `paused_status`), `ejected_until`
    (its traffic kept failing, or with `ejected_backend` connections with its server did) and `suspended_until` (its account or key was
    refused) are in seconds of the gateway's clock, 0 where they do not hold.
    `speaks` are the (dialect, task) pairs the server takes, `missing` those that it has shown not to take, whatever it says;
    `takes_usage` whether it takes `stream_options`.
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
    max_output_tokens: int | None = None
    price: Price | None = None
    health: Health = Health.UNKNOWN
    state: State = State.UNKNOWN
    eta: float | None = None
    resident: frozenset[str] = frozenset()
    in_flight: int = 0
    backend_in_flight: int = 0
    capacity: int | None = None
    domain: str = ""
    domain_in_flight: int = 0
    domain_capacity: int | None = None
    waits_for: str = ""
    load: int | None = None
    speed: float | None = None
    first_byte: float | None = None
    seconds: float | None = None
    failures: float = 0.0
    paused_until: float = 0.0
    paused_status: int = 429
    ejected_until: float = 0.0
    ejected_backend: bool = False
    suspended_until: float = 0.0
    speaks: frozenset[tuple[str, str]] = frozenset()
    missing: frozenset[tuple[str, str]] = frozenset()
    takes_usage: bool = False
    aliases: tuple[str, ...] = ()

    def takes(self, dialect: str, task: str) -> bool:
        """Whether the server takes the task in the dialect.  One that does not say what it speaks is taken to speak what it is asked in,
        until it shows that it does not."""
        asked = (dialect, task)
        return (not self.speaks or asked in self.speaks) and asked not in self.missing

    @property
    def full(self) -> bool:
        """Whether every slot is taken: of its domain, or of the whole server."""
        return (self.capacity is not None and self.backend_in_flight >= self.capacity) or (
            self.domain_capacity is not None and self.domain_in_flight >= self.domain_capacity
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Everything this model is called: a rule for one of its names is a rule for it."""
        return (self.name, *self.aliases) if self.name == self.model else (self.name, self.model, *self.aliases)
