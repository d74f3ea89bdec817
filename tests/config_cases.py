"""A catalog of nothing but names, and what a wrong configuration is told by it."""

import contextlib

import attrs
import pytest

from nexus.api import BackendKind, NoOptions, SourceKind, StageKind, opens
from nexus.catalog import Catalog
from nexus.config import load
from nexus.errors import ConfigError


@contextlib.asynccontextmanager
async def unopened(*_):
    raise AssertionError("a configuration opens nothing")
    yield


@attrs.frozen
class Limits:
    usd: float = attrs.field(default=1.0, validator=attrs.validators.ge(0))
    mode: str = attrs.field(default="soft", validator=attrs.validators.in_(["soft", "hard"]))

    def __attrs_post_init__(self):
        if self.usd > 100 and self.mode == "soft":
            raise ValueError("above 100 the mode must be hard")


def stage(name, options=NoOptions, words=()):
    return StageKind(name=name, open=opens(lambda o, s: None), options=options, policy_words=words)


CATALOG = Catalog(
    backends={"ollama": BackendKind(name="ollama", open=unopened, options=Limits, default_url="http://127.0.0.1:11434")}
    | {"vllm": BackendKind(name="vllm", open=unopened)},
    stages={
        "privacy": stage("privacy", words=("zone",)),
        "budget": stage("budget", Limits),
        "tier": stage("tier", words=("min_tier",)),
        "capability": stage("capability"),
        "balance": stage("balance"),
        "spare": stage("spare"),
    },
    sources={"loopback": SourceKind(name="loopback", open=unopened), "mdns": SourceKind(name="mdns", open=unopened)},
)


def mistakes(source, env=None, flags=None, catalog=CATALOG):
    """place → (message, nearest), of a source that is wrong."""
    with pytest.raises(ConfigError) as caught:
        load(source, env=env or {}, flags=flags or {}, catalog=catalog)
    found = {m.place: (m.message, m.nearest) for m in caught.value.mistakes}
    assert len(found) == len(caught.value.mistakes), str(caught.value)
    return found


def only(source, env=None, flags=None, catalog=CATALOG):
    """The one mistake of a source: place, message, nearest."""
    found = mistakes(source, env, flags, catalog)
    assert len(found) == 1, found
    ((place, (message, near)),) = found.items()
    return place, message, near
