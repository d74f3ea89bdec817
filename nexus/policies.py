"""What the `[[policies]]` ask of a model, whatever it is called: by the names given, and by every other name that a server has told
for the same model.  Pure; knows no backend.

Names that were told are kept: a server that is down, has left or lists the model no longer takes no rule with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import TypeVar

import attrs

from nexus.model import NO_DEMAND, Demand

KEPT = 16_384  # names whose demand is remembered
LONGEST_KEPT = 512  # letters of one: clients make up names of any length
MOST_BOUND = 100_000  # names that are bound only because a server said so
WILD = re.compile(r"[*?[]")

T = TypeVar("T")


@attrs.frozen(kw_only=True)
class Policy:
    """A rule for every model that has a name matching one of `models` (globs)."""

    models: tuple[str, ...]
    demand: Demand


class Policies:
    """The rules of one configuration.  What a name costs does not grow with the rules that are plain names or `prefix*`."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._plain: dict[str, Demand] = {}
        self._prefixes: dict[int, dict[str, Demand]] = {}
        self._globs: list[tuple[Callable[[str], object], Demand]] = []
        self._bound: dict[str, Demand] = {}
        self._everything = NO_DEMAND
        self._known: dict[str, Demand] = {}
        for policy in policies:
            for glob in policy.models:
                self._add(glob, policy.demand)

    def __bool__(self) -> bool:
        return bool(self._plain or self._prefixes or self._globs)

    def demand(self, names: Iterable[str]) -> Demand:
        """What is asked of a model that has these names; the strictest word wins."""
        demand = NO_DEMAND
        for name in names:
            asked = self._known.get(name)
            if asked is None:
                asked = self._remembered(name)
            if asked is not NO_DEMAND:
                demand = demand & asked
        return demand

    def same(self, names: Iterable[str]) -> None:
        """These are names of one model: from now on, a rule for one of them binds whoever asks for another."""
        names = tuple(dict.fromkeys(names))
        if len(names) < 2 or not self:
            return
        demand = self.demand(names)
        for name in names:
            before = self.demand((name,))
            if before & demand != before:
                self._bind(name, demand)

    def _bind(self, name: str, demand: Demand) -> None:
        if name not in self._bound and len(self._bound) >= MOST_BOUND:
            # No server has so many names in earnest.  What cannot be remembered is not forgotten: it binds every name.
            self._everything &= demand
            self._known.clear()
            return
        self._bound[name] = self._bound.get(name, NO_DEMAND) & demand
        self._known.pop(name, None)

    def _add(self, glob: str, demand: Demand) -> None:
        wild = WILD.search(glob)
        if wild is None:
            self._plain[glob] = self._plain.get(glob, NO_DEMAND) & demand
        elif wild.group() == "*" and wild.end() == len(glob):
            same_length = self._prefixes.setdefault(len(glob) - 1, {})
            same_length[glob[:-1]] = same_length.get(glob[:-1], NO_DEMAND) & demand
        else:
            self._globs.append((re.compile(translate(glob)).match, demand))

    def _remembered(self, name: str) -> Demand:
        demand = self._demand(name)
        if len(name) <= LONGEST_KEPT:
            keep(self._known, name, demand, KEPT)
        return demand

    def _demand(self, name: str) -> Demand:
        demand = self._everything & self._plain.get(name, NO_DEMAND) & self._bound.get(name, NO_DEMAND)
        for length, prefixes in self._prefixes.items():
            demand &= prefixes.get(name[:length], NO_DEMAND)
        for matches, asked in self._globs:
            if matches(name):
                demand &= asked
        return demand


def keep(kept: dict[str, T], key: str, value: T, most: int) -> None:
    """Keep one more, and let the oldest go where there are too many."""
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
