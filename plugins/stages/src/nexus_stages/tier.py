"""The tier stage: overflow and fallback never land on a lesser model than the one asked for has at home.

How good a pair is (its tier, 1 to 5) is the operator's word and comes with the candidate; nothing here judges a model.
"""

from __future__ import annotations

from types import MappingProxyType

from nexus.api import NO_DEMAND, Ask, Candidate, Demand, Leg, NoOptions, Payload, Refusal, RefusalKind, Request, Scope, Stage


class Tier(Stage):
    """Refuses pairs below the demanded tier, with code `tier`."""

    def __init__(self, options: NoOptions, scope: Scope) -> None:
        """There is nothing to set: tiers belong to backends and policies."""

    def describe(self, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
        """The home tier of the request: the lowest tier of the first leg's home pairs, healthy or not, else of all its pairs.

        Later legs ask for nothing of their own: the core carries the first leg's demand to them.
        """
        if leg.index or not known:
            return NO_DEMAND
        home = [candidate.tier for candidate in known if not candidate.cloud]
        return Demand(min_tier=min(home or [candidate.tier for candidate in known]))

    def refuse(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        """An objection to a pair below the demanded tier."""
        if candidate.tier >= ask.demand.min_tier:
            return None
        data = MappingProxyType({"required": ask.demand.min_tier, "has": candidate.tier})
        return Refusal(kind=RefusalKind.POLICY, code="tier", data=data)
