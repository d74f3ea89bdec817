"""The five standard stages of Nexus, as descriptors.  What each of them does is in the file of its name, not here.

The names are those of `[routing] stages`, whose default is privacy, budget, tier, capability, balance.
"""

from __future__ import annotations

from collections.abc import Iterable

from nexus.api import StageKind, hookimpl, opens
from nexus_stages.balance import BalanceOptions, make_balance
from nexus_stages.budget import Budget, BudgetOptions
from nexus_stages.capability import Capability, CapabilityOptions
from nexus_stages.privacy import Privacy
from nexus_stages.tier import Tier


@hookimpl
def nexus_stages() -> Iterable[StageKind]:
    """The standard stages."""
    return (
        StageKind(name="privacy", open=opens(Privacy), policy_words=("zone",)),
        StageKind(name="budget", open=opens(Budget), options=BudgetOptions),
        StageKind(name="tier", open=opens(Tier), policy_words=("min_tier",)),
        StageKind(name="capability", open=opens(Capability), options=CapabilityOptions),
        StageKind(name="balance", open=opens(make_balance), options=BalanceOptions),
    )
