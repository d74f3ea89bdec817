"""What a pipeline asks of its stages before it is used."""

import pytest

from nexus.api import Finished, Left, Stage
from nexus.errors import StageError, StartupError
from nexus.model import Claimed, Demand, Leg, Payload
from nexus.routing import Circumstances, Pipeline, route
from nexus.testing import a_request


class Hearing(Stage):
    def learn(self, event):
        """Hears it."""


@pytest.mark.parametrize("hears", [(Finished, Left), [Finished, Left], Finished])
def test_who_learns_of_what(hears):
    stage = Hearing()
    stage.hears = hears
    pipeline = Pipeline([("ears", stage)])
    assert [name for name, _ in pipeline.learners(Finished)] == ["ears"]
    assert pipeline.learners(Claimed) == ()


@pytest.mark.parametrize("hears", [5, ("Finished",), (int,)])
def test_ears_for_what_is_no_event_are_told_at_startup(hears):
    stage = Hearing()
    stage.hears = hears
    with pytest.raises(StartupError, match="'ears': `hears` must be a tuple of event types"):
        Pipeline([("ears", stage)])


@pytest.mark.parametrize("demand", [None, {}, Demand])
def test_a_stage_that_asks_for_what_is_no_demand_is_named(demand):
    class Odd(Stage):
        def describe(self, request, leg, payload, known):
            return demand

    legs = (Leg(index=0, name="tiny", ids=("tiny",), trail=()),)
    at = Circumstances(candidates=lambda leg: (), now=0.0)
    with pytest.raises(StageError, match=r"'odd'.*describe"):
        route(Pipeline([("odd", Odd())]), a_request(), Payload(b""), legs, at)
