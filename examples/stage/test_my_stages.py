"""The promises of a stage, for `quiet`, and the hours themselves."""

import time

import pytest
from my_stages import Quiet, QuietOptions, nexus_stages

from nexus.testing import FakeClock, a_candidate, a_scope, an_ask
from nexus.testing.contracts import StageContract

(KIND,) = nexus_stages()


class TestQuiet(StageContract):
    kind = KIND
    options = QuietOptions(backends=("home",), from_hour=0, to_hour=23)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("begin", "end", "quiet"),
    [(22, 7, {22, 23, *range(7)}), (13, 15, {13, 14}), (0, 23, set(range(23))), (9, 9, set())],
)
async def test_the_hours(begin: int, end: int, quiet: set[int]) -> None:
    options = QuietOptions(backends=("bedroom",), from_hour=begin, to_hour=end)
    clock = FakeClock()
    refused = set()
    async with a_scope("quiet", clock=clock) as scope:
        stage = Quiet(options, scope)
        for _ in range(24):
            hour = time.localtime(clock.time()).tm_hour
            assert stage.refuse(an_ask(), a_candidate(backend="cellar")) is None
            if stage.refuse(an_ask(), a_candidate(backend="bedroom")):
                refused.add(hour)
            clock.advance(3600)
    assert refused == quiet


def test_an_hour_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match="to_hour must be an hour from 0 to 23, not 24"):
        QuietOptions(to_hour=24)
