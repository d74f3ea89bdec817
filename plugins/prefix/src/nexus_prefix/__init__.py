"""The stage `prefix` of Nexus, as a descriptor.  What it does is in `stage`, what it looks for in `header`; neither is here."""

from __future__ import annotations

from collections.abc import Iterable

from nexus.api import StageKind, hookimpl, opens
from nexus_prefix.stage import PrefixOptions, make_prefix


@hookimpl
def nexus_stages() -> Iterable[StageKind]:
    """The stage, on by default: it refuses nothing."""
    return (StageKind(name="prefix", open=opens(make_prefix), options=PrefixOptions, default=True),)
