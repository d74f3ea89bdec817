"""Which pairs a name means, and which names were served by a backend that has left.  Every change costs what changes, no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from nexus.listing import fits
from nexus.pairs import Pair, Standing

MISSED_SECONDS = 600.0  # somebody who restarts a server, or loses a laptop's network, is back by then
MAX_MISSED = 4096  # names

Known = Iterable[tuple[Pair, Standing]]


class Index:
    """The names of all pairs, and the patterns of those that stand for many."""

    def __init__(self) -> None:
        self._pairs: dict[str, dict[Pair, Standing]] = {}
        self._names: dict[Standing, dict[Pair, tuple[str, ...]]] = {}
        self._patterns: dict[Standing, list[tuple[Callable[[str], bool], Pair]]] = {}
        self._missed: dict[str, tuple[str, float]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._pairs or (bool(self._patterns) and any(True for _ in self._fitting(name)))

    def find(self, name: str) -> Known:
        """The pairs that are known by this name.  Of a backend that has a model of the name, its patterns do not count."""
        found = self._pairs.get(name)
        if not self._patterns:
            return found.items() if found else ()
        return [*(found.items() if found else ()), *self._fitting(name)]

    def _fitting(self, name: str) -> Known:
        """The pairs that patterns have for this name, made where there is none yet."""
        named = set(self._pairs.get(name, {}).values())
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
            left = self._pairs[name]
            left.pop(pair, None)
            if not left:
                del self._pairs[name]

    # ------------------------------------------------------------ who has left

    def miss(self, standing: Standing, now: float) -> None:
        """It leaves: its names are missed for a while."""
        names = list(dict.fromkeys(name for names in self._names.get(standing, {}).values() for name in names))
        for name in names[-MAX_MISSED:]:
            self._missed.pop(name, None)  # the newest stands last
            self._missed[name] = (standing.member.name, now)
        for name in tuple(islice(self._missed, max(0, len(self._missed) - MAX_MISSED))):
            del self._missed[name]

    def missed(self, name: str, now: float) -> str | None:
        """The backend that served the name until it left, a short while ago; None where nobody did."""
        backend, since = self._missed.get(name, ("", 0.0))
        return backend if backend and now - since < MISSED_SECONDS else None
