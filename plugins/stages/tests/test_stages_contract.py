"""Each of the five stages, and each strategy of balance, keeps what every stage promises."""

from __future__ import annotations

from nexus_stages import nexus_stages
from nexus_stages.balance import STRATEGIES, BalanceOptions

from nexus.testing.contracts import StageContract

KINDS = {kind.name: kind for kind in nexus_stages()}


class TestPrivacy(StageContract):
    kind = KINDS["privacy"]


class TestBudget(StageContract):
    kind = KINDS["budget"]


class TestTier(StageContract):
    kind = KINDS["tier"]


class TestCapability(StageContract):
    kind = KINDS["capability"]


class TestBalance(StageContract):
    kind = KINDS["balance"]


class TestRoundRobin(StageContract):
    kind = KINDS["balance"]
    options = BalanceOptions(strategy="round_robin")


class TestPriority(StageContract):
    kind = KINDS["balance"]
    options = BalanceOptions(strategy="priority")


class TestRandom(StageContract):
    kind = KINDS["balance"]
    options = BalanceOptions(strategy="random")


class TestLeastBusy(StageContract):
    kind = KINDS["balance"]
    options = BalanceOptions(strategy="least_busy")


def test_no_strategy_is_left_out() -> None:
    tested = {cls.options.strategy for cls in StageContract.__subclasses__() if isinstance(cls.options, BalanceOptions)}
    assert tested | {BalanceOptions().strategy} == set(STRATEGIES)
