"""A name that a client asks for becomes legs: aliases, fallbacks, and the policies that bind each leg.  Pure; knows no backend."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate

import attrs

from nexus.model import NO_DEMAND, Demand, Leg

MAX_ALIAS_STEPS = 3
KEPT = 1024


@attrs.frozen(kw_only=True)
class Policy:
    """A rule for every leg that has a name matching one of `models` (globs) on its way."""

    models: tuple[str, ...]
    demand: Demand


class Names:
    """Aliases, fallbacks and policies of one configuration.  The legs of the names asked for last are kept."""

    def __init__(
        self,
        aliases: Mapping[str, Sequence[str]],
        fallbacks: Mapping[str, Sequence[str]],
        policies: Iterable[Policy],
    ) -> None:
        self._aliases = {name: tuple(ids) for name, ids in aliases.items()}
        self._fallbacks = {name: tuple(names) for name, names in fallbacks.items()}
        self._policies = tuple((matcher(p.models), p.demand) for p in policies)
        self._demands: dict[tuple[str, ...], Demand] = {}
        self._known: dict[tuple[str, bool, bool], tuple[Leg, ...]] = {}

    @property
    def aliases(self) -> Mapping[str, tuple[str, ...]]:
        return self._aliases

    @property
    def has_policies(self) -> bool:
        return bool(self._policies)

    def legs(self, asked: str, *, strict: bool, flexible: bool) -> tuple[Leg, ...]:
        """Leg 0 is the asked name after aliases; then its fallbacks, unless `strict`; then any model, where `flexible`.

        A fallback's own chain is not followed; an alias beats a served model of that name.
        """
        known = self._known.get((asked, strict, flexible))
        if known is None:
            if len(self._known) >= KEPT:
                self._known.clear()
            known = self._known[asked, strict, flexible] = self._legs(asked, strict=strict, flexible=flexible)
        return known

    def _legs(self, asked: str, *, strict: bool, flexible: bool) -> tuple[Leg, ...]:
        trail, ids = self._resolve(asked)
        legs = [self._leg(0, trail, ids)]
        if not strict:
            for fallback in self._chain(trail):
                steps, ids = self._resolve(fallback)
                legs.append(self._leg(len(legs), trail + steps, ids))
            if flexible:
                legs.append(self._leg(len(legs), trail, (), any_model=True))
        return tuple(legs)

    def demand(self, trail: tuple[str, ...]) -> Demand:
        """What the policies ask of a leg with these names on its way; the strictest word wins."""
        known = self._demands.get(trail)
        if known is None:
            if len(self._demands) >= KEPT:
                self._demands.clear()
            known = self._demands[trail] = self._demand(trail)
        return known

    def _demand(self, trail: tuple[str, ...]) -> Demand:
        demand = NO_DEMAND
        for matches, asked in self._policies:
            if any(matches(name) for name in trail):
                demand = demand & asked
        return demand

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
            demand=self.demand(named) if self._policies else NO_DEMAND,
        )


def matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    """Whether a name matches one of the globs (case counts)."""
    globs = tuple(globs)
    if "*" in globs:
        return lambda name: True
    pattern = re.compile("|".join(translate(g) for g in globs) or r"(?!)")
    return functools.lru_cache(maxsize=1024)(lambda name: pattern.match(name) is not None)
