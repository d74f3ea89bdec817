"""A verb of a component that is misspelt is never called: that is said when the component's class is first seen, with the verb meant."""

import contextlib
import logging

import pytest

from nexus.api import Observer, ObserverKind, Stage, StageKind, hookimpl, opens
from nexus.catalog import Catalog
from nexus.components import Components, Ground
from nexus.overriding import misspelt
from nexus.testing import FakeClock


class Refuzing(Stage):
    def refuze(self, ask, candidate):
        return None


class Grown(Refuzing):
    def ranks(self, ask, candidate):
        return 1.0

    def learn(self, event):
        return None

    def learns(self):
        """A helper of `learn`, which is there."""

    def _prepare(self):
        """A helper."""

    def price_of(self, model):
        """Nothing like any verb."""


class Capital(Stage):
    async def Admit(self, call):
        return None


class Seeing(Observer):
    def seen(self, event):
        return None


class Alone:
    def refuze(self):
        return None


@pytest.mark.parametrize(
    ("cls", "said"),
    [
        (Refuzing, ["Refuzing.refuze is called by nobody: did you mean 'refuse'?"]),
        (Grown, ["Grown.ranks is called by nobody: did you mean 'rank'?", "Refuzing.refuze is called by nobody: did you mean 'refuse'?"]),
        (Capital, ["Capital.Admit is called by nobody: did you mean 'admit'?"]),
        (Seeing, ["Seeing.seen is called by nobody: did you mean 'see'?"]),
        (Alone, []),
        (Stage, []),
        (None, []),
        (len, []),
    ],
)  # fmt: skip
def test_a_misspelt_verb(cls, said):
    assert list(misspelt(cls)) == said


def test_the_catalog_tells_it_without_opening():
    class Plugin:
        @hookimpl
        def nexus_stages(self):
            yield StageKind(name="strict", open=opens(Refuzing))

        @hookimpl
        def nexus_observers(self):
            yield ObserverKind(name="seeing", open=opens(Seeing))

    (package,) = [p for p in Catalog.load(extra=[Plugin()]).packages if p.origin == "embedded"]
    assert package.problem is None
    assert set(package.warnings) == {
        "Refuzing.refuze is called by nobody: did you mean 'refuse'?",
        "Seeing.seen is called by nobody: did you mean 'see'?",
    }


def test_nothing_that_the_project_publishes_misspells_a_verb():
    assert [p.warnings for p in Catalog.load().packages if p.warnings] == []


async def test_a_component_that_its_own_function_opens_is_looked_at_when_it_is_open(caplog):
    class Strict(Stage):
        def refuze(self, ask, candidate):
            return None

    @contextlib.asynccontextmanager
    async def open_(options, scope):
        yield Strict()

    ground = Ground(
        clock=FakeClock(), upstream=None, guard=None, session=None, changed=lambda: None, state_dir=lambda: None, problems={}
    )
    with caplog.at_level(logging.WARNING, "nexus"):
        async with contextlib.AsyncExitStack() as stack:
            components = Components(ground, {}, stack)
            await components.open(StageKind(name="strict", open=open_))
    assert [r.message for r in caplog.records] == ["Strict.refuze is called by nobody: did you mean 'refuse'?"]
