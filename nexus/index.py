"""Which pairs a name means, and which names were served by a backend that has left.  Every change costs what changes, no more."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType

from nexus.listing import fits
from nexus.pairs import Pair, Standing
from nexus.policies import LONGEST_KEPT, normal

MISSED_SECONDS = 600.0  # somebody who restarts a server, or loses a laptop's network, is back by then
MAX_MISSED = 4096  # names
NOBODY: Mapping[Pair, Standing] = MappingProxyType({})

_normal = functools.lru_cache(maxsize=1024)(normal)  # 0.1 µs instead of 1.3 for each look at a name

Known = Collection[tuple[Pair, Standing]]
Spelt = tuple[str]  # what all spellings of a name share


class Index:
    """The names of all pairs, and the patterns of those that stand for many."""

    def __init__(self) -> None:
        self._pairs: dict[str, dict[Pair, Standing]] = {}
        self._spellings: dict[str, dict[Pair, Standing]] = {}  # by what all spellings share, of servers that take any
        self._names: dict[Standing, dict[Pair, tuple[str, ...]]] = {}
        self._patterns: dict[Standing, list[tuple[Callable[[str], bool], Pair]]] = {}
        self._missed: dict[str | Spelt, tuple[str, float]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._pairs or bool(self.find(name))

    def find(self, name: str) -> Known:
        """The pairs that are known by this name.  Of a backend that has a model of this very name, others that it would take by it do not
        count: those that are spelt otherwise, then its patterns."""
        found = self._pairs.get(name, NOBODY)
        alike = self._alike(name, found) if self._spellings else ()
        if not (alike or self._patterns):
            return found.items()
        named = [*found.items(), *alike]
        return [*named, *self._fitting(name, {standing for _, standing in named})] if self._patterns else named

    def _alike(self, name: str, exact: Mapping[Pair, Standing]) -> Known:
        """The pairs whose servers take the name for another spelling of theirs."""
        same = self._spellings.get(_normal(name) if len(name) <= LONGEST_KEPT else normal(name))
        if not same or same.keys() <= exact.keys():
            return ()
        named = set(exact.values())
        return [(pair, standing) for pair, standing in same.items() if standing not in named]

    def _fitting(self, name: str, named: Container[Standing]) -> Iterator[tuple[Pair, Standing]]:
        """The pairs that patterns have for this name, made where there is none yet."""
        for standing, patterns in self._patterns.items():
            pattern = None if standing in named else next((pair for meets, pair in patterns if meets(name)), None)
            pair = standing.meant(name, pattern) if pattern is not None else None
            if pair is not None:
                yield pair, standing

    def add(self, standing: Standing, pair: Pair) -> None:
        """The pair is known by its names from now on, and by no others."""
        names = self._names.setdefault(standing, {})
        known = tuple(pair.known)
        if names.get(pair) == known:
            return
        self._unname(pair, names.get(pair, ()))
        names[pair] = known
        for name in known:
            self._pairs.setdefault(name, {})[pair] = standing
        for spelling in pair.spellings() if standing.member.any_spelling else ():
            self._spellings.setdefault(spelling, {})[pair] = standing

    def drop(self, standing: Standing, pair: Pair) -> None:
        """The pair is known no more."""
        self._unname(pair, self._names.get(standing, {}).pop(pair, ()))

    def add_patterns(self, standing: Standing) -> None:
        """Its patterns are these from now on."""
        self._patterns.pop(standing, None)
        if standing.patterns:
            self._patterns[standing] = [(fits(id), pair) for id, pair in standing.patterns.items()]

    def remove(self, standing: Standing) -> None:
        """None of its pairs is known any more."""
        self._patterns.pop(standing, None)
        for pair, names in self._names.pop(standing, {}).items():
            self._unname(pair, names)

    def _unname(self, pair: Pair, names: Iterable[str]) -> None:
        for name in names:
            _take(self._pairs, name, pair)
            if self._spellings:
                _take(self._spellings, normal(name), pair)

    # ------------------------------------------------------------ who has left

    def miss(self, standing: Standing, now: float) -> None:
        """It leaves: its names are missed for a while."""
        names: list[str | Spelt] = list(dict.fromkeys(name for names in self._names.get(standing, {}).values() for name in names))
        if standing.member.any_spelling:
            names += {(spelling,) for pair in self._names.get(standing, ()) for spelling in pair.spellings()}
        for name in names[-MAX_MISSED:]:
            self._missed.pop(name, None)  # the newest stands last
            self._missed[name] = (standing.member.name, now)
        for name in tuple(islice(self._missed, max(0, len(self._missed) - MAX_MISSED))):
            del self._missed[name]

    def missed(self, name: str, now: float) -> str | None:
        """The backend that served the name until it left, a short while ago; None where nobody did."""
        backend, since = self._missed.get(name) or self._missed.get((normal(name),)) or ("", 0.0)
        return backend if backend and now - since < MISSED_SECONDS else None


def _take(pairs: dict[str, dict[Pair, Standing]], name: str, pair: Pair) -> None:
    """The pair is no longer among those of the name."""
    left = pairs.get(name)
    if left is not None:
        left.pop(pair, None)
        if not left:
            del pairs[name]
