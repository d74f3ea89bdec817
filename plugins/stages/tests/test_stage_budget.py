"""Budget: a name that does nothing, and says "not yet" to whoever configures it."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.api import Stage
from nexus.config import load
from nexus.errors import ConfigError

VERBS = ("describe", "refuse", "rank", "prepare", "admit", "tell", "learn")


def test_unconfigured_it_opens_and_no_verb_is_ever_called(make: Any) -> None:
    stage = make.stage("budget")
    assert [verb for verb in VERBS if getattr(type(stage), verb) is not getattr(Stage, verb)] == []


@pytest.mark.parametrize("stages", ["", '[routing]\nstages = ["tier"]\n', '[routing]\nstages = ["budget", "tier"]\n'])
@pytest.mark.parametrize("table", ["", "limit_usd = 20", "monthly_usd = 0", "anything = []"])
def test_its_table_stops_startup_and_the_one_sentence_says_what_to_do(table: str, stages: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(f"{stages}[budget]\n{table}\n", env={})
    (mistake,) = caught.value.mistakes
    assert mistake.place == "budget"
    assert "not available yet" in mistake.message
    assert "remove the [budget] table" in mistake.message
