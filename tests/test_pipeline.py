"""What a pipeline asks of its stages before it is used."""

import pytest

from nexus.api import Finished, Left, Stage
from nexus.errors import StartupError
from nexus.model import Claimed
from nexus.routing import Pipeline


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
