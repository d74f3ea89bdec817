"""What may end the wait of a request: read from the plan that found nothing."""

from __future__ import annotations

from collections.abc import Hashable

from nexus.model import Plan, RefusalKind
from nexus.routing import CORE, held_back
from nexus.waiters import Condition


def condition_of(plan: Plan, now: float, mark: Hashable) -> Condition:
    """What the pairs that are held back for a while wait for.  `mark` tells this request from every other one.

    Where the core alone holds them back, all requests that wait for them would hear the same; a stage may judge each by itself.
    """
    slots, backends, staged, ejected = set(), set(), False, False
    for objections in held_back(plan.objections):
        candidate = objections[0].candidate
        backends.add(candidate.backend)
        if not any(o.refusal.kind is RefusalKind.RATE and (o.refusal.retry_at or 0.0) > now for o in objections):
            slots |= {candidate.backend, candidate.domain}  # else a slot helps nobody before that moment
        staged = staged or any(o.stage != CORE for o in objections)
        ejected = ejected or any(o.refusal.code == "ejected" for o in objections)
    moments = [o.refusal.retry_at for o in plan.objections if o.refusal.retry_at is not None and o.refusal.retry_at > now]
    anything = any(leg.any_model for leg in plan.legs)
    return Condition(
        slots=frozenset(slots),
        backends=frozenset(backends),
        names=None if anything else frozenset([name for leg in plan.legs for name in leg.ids]),
        unsure=ejected or not backends,  # the last one is not left out; and who is not known yet may turn out not to be there
        retry_at=min(moments, default=None),
        mark=mark if staged else None,
    )
