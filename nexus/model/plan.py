"""What routing decides: objections and choices.  How it decides is in `nexus.routing`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from nexus.model.candidate import Candidate
from nexus.model.request import NO_DEMAND, Ask, Demand, Leg
from nexus.model.words import EMPTY, RefusalKind


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An objection to one candidate, as data.  The sentence is made when somebody reads it (`nexus.sentences`).

    `retry_at` is in seconds of the gateway's clock: when asking again may help.
    """

    kind: RefusalKind
    code: str
    data: Mapping[str, Any] = EMPTY
    retry_at: float | None = None


class Objection(msgspec.Struct, frozen=True, kw_only=True):
    """A refusal, by whom, against which pair of which leg."""

    stage: str
    candidate: Candidate
    leg: int
    refusal: Refusal


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """A pair that may have the request.  `parts` are the seconds each stage adds to the score (negative: gained)."""

    ask: Ask
    candidate: Candidate
    score: float = 0.0
    parts: tuple[tuple[str, float], ...] = ()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Choices, best first, and every objection.  It is the whole answer to "why not there?".  `demand` is leg 0's."""

    demand: Demand = NO_DEMAND
    choices: tuple[Choice, ...] = ()
    objections: tuple[Objection, ...] = ()
    legs: tuple[Leg, ...] = ()
