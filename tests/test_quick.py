"""Frozen values that are made quickly are the values that attrs would have made."""

import attrs
import pytest

from nexus.api import Facts
from nexus.model import Answered, Ask, Attempt, Call, Candidate, Choice, Claimed, Demand, Finished, Plan, Request, Usage
from nexus.model.quick import changer, maker, quick

QUICK = (Answered, Ask, Attempt, Call, Candidate, Choice, Claimed, Demand, Facts, Finished, Plan, Request, Usage)


@pytest.mark.parametrize("cls", QUICK, ids=lambda cls: cls.__name__)
def test_a_maker_makes_what_its_class_makes(cls):
    every = {field.name: f"a {field.name}" for field in attrs.fields(cls)}
    needed = {field.name: 1 for field in attrs.fields(cls) if field.default is attrs.NOTHING}
    for given in (every, needed):
        made = maker(cls)(**given)
        assert type(made) is cls
        assert made == cls(**given)
        assert repr(made) == repr(cls(**given))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, next(iter(every)), "other")


def test_a_changer_changes_what_it_was_made_for():
    before = Candidate(backend="b", kind="k", model="m", name="n", tier=3)
    after = changer(Candidate, "in_flight", "speed")(before, in_flight=2, speed=9.5)
    assert type(after) is Candidate
    assert after == attrs.evolve(before, in_flight=2, speed=9.5)
    assert before.in_flight == 0


def test_what_is_no_value_cannot_be_made_quickly():
    class Plain:
        pass

    @attrs.frozen(kw_only=True)
    class Watched:
        name: str

    @attrs.frozen(kw_only=True, weakref_slot=False)
    class Listed:
        names: list[str] = attrs.Factory(list)

    for cls in (Plain, Watched, Listed):
        with pytest.raises(TypeError, match=cls.__name__):
            quick(cls)
        with pytest.raises(TypeError, match=cls.__name__):
            maker(cls)
