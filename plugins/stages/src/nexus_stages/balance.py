"""The balance stage: which of the pairs that may have a request should have it.  It only ranks; it never refuses.

That home pairs come before cloud pairs is the core's doing, not a matter of scores.  `smart`, the default, has a file of its
own; here are the options and the four plain strategies, which do what their names say and look at nothing else.  All of them
rank in seconds, because the core adds the other stages' seconds up with theirs.
"""

from __future__ import annotations

import random
from typing import Literal, get_args

import attrs

from nexus.api import Ask, Candidate, Scope, Stage
from nexus_stages.fairness import Turns, fill
from nexus_stages.smart import Smart


class RoundRobin(Turns):
    """The pair whose last turn is longest ago."""

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """From 0, never had a turn, to 1, had the last one."""
        return self.turn(candidate)


class Priority(Turns):
    """The lowest `priority`; among equals the least busy."""

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """A second for each step of priority.  Load can never outweigh a step."""
        busy = fill(candidate)
        return candidate.priority + busy / (1.0 + busy) * 0.99 + self.turn(candidate) * 0.001


class LeastBusy(Turns):
    """The pair whose backend has the smallest share of its capacity in use."""

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """A second for a backend that is exactly full."""
        return fill(candidate) + self.turn(candidate) * 0.001


class Random(Stage):
    """Any pair, each as likely as the others."""

    def __init__(self, scope: Scope) -> None:
        self._random = random.Random()

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """From 0 to 1."""
        return self._random.random()


Strategy = Literal["smart", "round_robin", "priority", "random", "least_busy"]

STRATEGIES: dict[Strategy, type[Turns] | type[Random]] = {
    "smart": Smart,
    "round_robin": RoundRobin,
    "priority": Priority,
    "random": Random,
    "least_busy": LeastBusy,
}


def _check_strategy(options: object, attribute: attrs.Attribute[Strategy], value: str) -> None:
    if value not in STRATEGIES:
        raise ValueError(f"must be one of {', '.join(get_args(Strategy))}, not {value!r}")


@attrs.frozen(kw_only=True)
class BalanceOptions:
    """The `[balance]` table.  Raises ValueError for a strategy that there is not."""

    strategy: Strategy = attrs.field(
        default="smart", validator=_check_strategy, metadata={"meaning": "how to choose among the pairs that may have a request"}
    )


def make_balance(options: BalanceOptions, scope: Scope) -> Stage:
    """The stage for the configured strategy.  Each strategy is a class, so that nothing is looked up per candidate."""
    return STRATEGIES[options.strategy](scope)
