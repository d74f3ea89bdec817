"""Which pairs a name means, and which names were served by a backend that has left.  Every change costs what changes, no more."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nexus.listing import fits, is_pattern
from nexus.pairs import Pair, Standing

MISSED_SECONDS = 600.0  # somebody who restarts a server, or loses a laptop's network, is back by then
MAX_MISSED = 4096  # names

Known = Iterable[tuple[Pair, Standing]]


class Index:
    """The names of all pairs, and the patterns of those that stand for many."""

    def __init__(self) -> None:
        self._pairs: dict[str, dict[Pair, Standing]] = {}
        self._names: dict[Standing, list[tuple[str, Pair]]] = {}
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

    def add(self, standing: Standing) -> None:
        """Its pairs are known by their names from now on."""
        names = self._names[standing] = [(name, pair) for pair in standing.pairs.values() for name in pair.known]
        for name, pair in names:
            self._pairs.setdefault(name, {})[pair] = standing
        patterns = [(fits(id), pair) for id, pair in standing.patterns.items() if is_pattern(id)]
        if patterns:
            self._patterns[standing] = patterns

    def remove(self, standing: Standing) -> None:
        """None of its pairs is known any more."""
        self._patterns.pop(standing, None)
        for name, pair in self._names.pop(standing, ()):
            left = self._pairs[name]
            left.pop(pair, None)
            if not left:
                del self._pairs[name]

    # ------------------------------------------------------------ who has left

    def miss(self, standing: Standing, now: float) -> None:
        """It leaves: its names are missed for a while."""
        for name in dict.fromkeys(name for name, _ in self._names.get(standing, ())):
            self._missed.pop(name, None)  # the newest stands last
            self._missed[name] = (standing.member.name, now)
        while len(self._missed) > MAX_MISSED:
            del self._missed[next(iter(self._missed))]

    def missed(self, name: str, now: float) -> str | None:
        """The backend that served the name until it left, a short while ago; None where nobody did."""
        backend, since = self._missed.get(name, ("", 0.0))
        return backend if backend and now - since < MISSED_SECONDS else None
