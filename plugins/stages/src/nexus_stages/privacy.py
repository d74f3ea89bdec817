"""The privacy stage: a request that is `restricted` never reaches an `open` pair.  How a pair gets its zone is the core's.

The zone a request needs comes from its header and from `[[policies]]`; both only ever tighten.  The stage reads nothing but
the demand, so aliases, fallbacks and failover cannot get around it: the demand of the first name holds for all later ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from nexus.api import NO_DEMAND, Ask, Candidate, Demand, Leg, NoOptions, Payload, Refusal, RefusalKind, Request, Scope, Stage, Zone

HEADER = "X-Nexus-Privacy-Zone"

_DEMAND = Demand(zone=Zone.RESTRICTED)
_TELL: Mapping[str, Mapping[str, str]] = {zone: MappingProxyType({HEADER: zone.value}) for zone in Zone}
_DATA: Mapping[str, Any] = MappingProxyType({"required": Zone.RESTRICTED.value, "has": Zone.OPEN.value})
_REFUSAL = Refusal(kind=RefusalKind.POLICY, code="zone", data=_DATA)


class Privacy(Stage):
    """Refuses open pairs to restricted requests, with code `zone`."""

    def __init__(self, options: NoOptions, scope: Scope) -> None:
        """There is nothing to set: zones belong to backends and policies."""

    def describe(self, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
        """The zone that the client asked for."""
        return NO_DEMAND if request.zone == Zone.OPEN else _DEMAND

    def refuse(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        """An objection unless the pair is restricted or nothing was demanded.  What is not known to be restricted is open."""
        if ask.demand.zone == Zone.OPEN or candidate.zone == Zone.RESTRICTED:
            return None
        return _REFUSAL

    def tell(self, ask: Ask, candidate: Candidate) -> Mapping[str, str]:
        """The zone of the pair that answered."""
        return _TELL[candidate.zone]
