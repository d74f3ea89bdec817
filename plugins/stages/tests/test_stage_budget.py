"""Budget: a name that does nothing, and says "not yet" to whoever sets a limit."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.api import Stage

VERBS = ("describe", "refuse", "rank", "prepare", "admit", "tell", "learn")


def test_without_a_limit_it_opens_and_no_verb_is_ever_called(make: Any) -> None:
    stage = make.stage("budget")
    assert [verb for verb in VERBS if getattr(type(stage), verb) is not getattr(Stage, verb)] == []


@pytest.mark.parametrize("limit", [20.0, 0, 0.0, -1])
def test_a_limit_stops_startup_and_the_sentence_says_what_to_do(make: Any, limit: float) -> None:
    with pytest.raises(ValueError, match=r"not available yet.*remove the \[budget\] table"):
        make.stage("budget", limit_usd=limit)
