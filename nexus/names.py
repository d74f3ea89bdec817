"""A name that a client asks for becomes legs: aliases, fallbacks, and what the policies ask of each.  Pure; knows no backend."""

from __future__ import annotations

import functools
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from fnmatch import translate

from nexus.model import Demand, Leg
from nexus.policies import LONGEST_KEPT, WILD, Policies, Policy, keep

MAX_ALIAS_STEPS = 3
KEPT = 1024  # names that are not of the configuration, whose legs are kept (0.2 µs instead of 1.8), and keys' globs (0.2 instead of 2.8)

Legs = tuple[Leg, ...]


class Names:
    """Aliases, fallbacks and policies of one configuration.  The legs of its own names are kept, of others the newest."""

    def __init__(
        self,
        aliases: Mapping[str, Sequence[str]],
        fallbacks: Mapping[str, Sequence[str]],
        policies: Iterable[Policy],
    ) -> None:
        self._aliases = {name: tuple(ids) for name, ids in aliases.items()}
        self._fallbacks = {name: tuple(names) for name, names in fallbacks.items()}
        self.policies = Policies(policies)
        self._own: dict[str, dict[tuple[bool, bool], Legs]] = {name: {} for name in (*self._aliases, *self._fallbacks)}
        self._others: dict[str, dict[tuple[bool, bool], Legs]] = {}

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        return self._aliases

    @property
    def own(self) -> Container[str]:
        """The names that the configuration gives a meaning: aliases, and what has fallbacks."""
        return self._own

    def legs(self, asked: str, *, strict: bool, flexible: bool) -> Legs:
        """Leg 0 is the asked name after aliases; then its fallbacks, unless `strict`; then any model, where `flexible`.

        A fallback's own chain is not followed; an alias beats a served model of that name.
        """
        known = self._own.get(asked) or self._others.get(asked) or self._place(asked)
        legs = known.get((strict, flexible))
        if legs is None:
            legs = known[strict, flexible] = self._legs(asked, strict=strict, flexible=flexible)
        return legs

    def _place(self, asked: str) -> dict[tuple[bool, bool], Legs]:
        """Where the legs of a name are kept that has none yet."""
        place = self._own.get(asked)
        if place is None:
            place = {}
            if len(asked) <= LONGEST_KEPT:
                keep(self._others, asked, place, KEPT)
        return place

    def _legs(self, asked: str, *, strict: bool, flexible: bool) -> Legs:
        trail, ids = self._resolve(asked)
        legs = [self._leg(0, trail, ids)]
        if not strict:
            for fallback in self._chain(trail):
                steps, ids = self._resolve(fallback)
                legs.append(self._leg(len(legs), trail + steps, ids))
            if flexible:
                legs.append(self._leg(len(legs), trail, (), any_model=True))
        return tuple(legs)

    def demand(self, names: Iterable[str]) -> Demand:
        """What the policies ask of a model that has these names; the strictest word wins."""
        return self.policies.demand(names)

    def _resolve(self, name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        trail: tuple[str, ...] = (name,)
        for _ in range(MAX_ALIAS_STEPS):
            ids = self._aliases.get(trail[-1])
            if ids is None:
                break
            if len(ids) > 1:
                return trail, ids
            trail += ids
        return trail, (trail[-1],)

    def _chain(self, trail: Iterable[str]) -> tuple[str, ...]:
        """The fallbacks of the first name on the way that has any."""
        return next((self._fallbacks[name] for name in trail if name in self._fallbacks), ())

    def _leg(self, index: int, trail: tuple[str, ...], ids: tuple[str, ...], *, any_model: bool = False) -> Leg:
        named = trail + tuple(i for i in ids if i not in trail)
        return Leg(
            index=index,
            name=trail[-1],
            ids=ids,
            trail=named,
            any_model=any_model,
            demand=self.policies.demand(named),
        )


class Opened:
    """Whether a name matches one of the globs (case counts).  `names` are all that do, where no glob has a wildcard; else None."""

    __slots__ = ("_plain", "_prefixes", "_rest", "names")

    def __init__(self, globs: Sequence[str]) -> None:
        wild = [glob for glob in globs if WILD.search(glob)]
        begins = [glob for glob in wild if WILD.sub("", glob) == glob[:-1] and glob.endswith("*")]
        others = [translate(glob) for glob in wild if glob not in begins]
        self._plain = frozenset(globs).difference(wild)
        self._prefixes = tuple([glob[:-1] for glob in begins])
        self._rest = re.compile("|".join(others)).match if others else None
        self.names = None if wild else self._plain

    def __call__(self, name: str) -> bool:
        if name in self._plain or name.startswith(self._prefixes):
            return True
        return self._rest is not None and self._rest(name) is not None


@functools.lru_cache(maxsize=KEPT)
def _opened(globs: tuple[str, ...]) -> Opened:
    return Opened(globs)


def matcher(globs: Iterable[str]) -> Opened:
    """Whether a name matches one of the globs."""
    return _opened(tuple(globs))
