"""What the `[[policies]]` ask of a model, whatever it is called: by the names given, and by every other name that a server has told
for the same model.  Pure; knows no backend.

How a name is spelt binds nobody less: servers differ in whether `Med`, `med` and `med:latest` are one model.  Names that were told are kept: a server that is down, has left or lists the model no longer takes no rule with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import TypeVar
from unicodedata import category, normalize

import attrs
import msgspec

from nexus.model import NO_DEMAND, Demand

KEPT = 16_384  # names whose demand is remembered: 0.2 µs instead of 4 for each, even without a rule
LONGEST_KEPT = 512  # letters of one: clients make up names of any length
MOST_JOINED = 100_000  # names that are known to be another's
WILD = re.compile(r"[*?[]")
UNSEEN = ("Cc", "Cf")
LATEST = ":latest"  # the tag of a name without one
# what Ollama adds to a name by itself, or drops from it
ADDED = re.compile(r"\A(?:[a-z]+://)?(?:(?:registry\.ollama\.ai|ollama\.com)/)?(?:library/)?|(?::latest)+\Z")

K = TypeVar("K")
T = TypeVar("T")


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """A rule for every model that has a name matching one of `models` (globs)."""

    models: tuple[str, ...]
    demand: Demand


@attrs.define(eq=False)
class _Same:
    """Names that are one model's, and what is asked of all of them."""

    names: list[str]
    demand: Demand


class Policies:
    """The rules of one configuration.  What a name costs does not grow with the rules that are plain names or `prefix*`."""

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._plain: dict[str, Demand] = {}
        self._prefixes: dict[int, dict[str, Demand]] = {}
        self._globs: list[tuple[Callable[[str], object], Demand]] = []
        self._untagged: list[tuple[Callable[[str], object], Demand]] = []  # what stands before `:latest`
        self._joined: dict[str, _Same] = {}
        self._others = _Same([], NO_DEMAND)  # what cannot be remembered counts as one model, and binds every name
        self._known: dict[str, Demand] = {}
        for policy in policies:
            for glob in policy.models:
                for spelling in {glob, folded(glob)}:
                    self._add(spelling, policy.demand)

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
        """These are names of one model: from now on, a rule for one of them binds whoever asks for another, and for any name that was
        or will be told as the same as one of them."""
        names = tuple(dict.fromkeys(names))
        if len(names) < 2 or not self:
            return
        one = self._same_as(names[0])
        for name in names[1:]:
            one = self._merged(one, self._same_as(name))

    def _same_as(self, name: str) -> _Same:
        key, own = normal(name), self._own(name)
        found = self._joined.get(key)
        if found is None:
            found = _Same([key], own)
            if len(self._joined) < MOST_JOINED:
                self._joined[key] = found
                if key != name:
                    self._known.clear()  # another spelling may have been asked for
            else:  # no server has so many names in earnest
                found.names.clear()
                found = self._merged(self._others, found)
        elif found.demand & own != found.demand:
            found.demand &= own
            self._known.clear()
        return found

    def _merged(self, one: _Same, other: _Same) -> _Same:
        if one is other:
            return one
        if len(one.names) < len(other.names):
            one, other = other, one
        demand = one.demand & other.demand
        if demand != one.demand or demand != other.demand:
            self._known.clear()
        for name in other.names:
            self._joined[name] = one
        one.names += other.names
        one.demand = demand
        if other is self._others:
            self._others = one
        return one

    def _add(self, glob: str, demand: Demand) -> None:
        wild = WILD.search(glob)
        if wild is None:
            for name in {glob, untagged(glob)}:
                self._plain[name] = self._plain.get(name, NO_DEMAND) & demand
        elif wild.group() == "*" and wild.end() == len(glob):
            same_length = self._prefixes.setdefault(len(glob) - 1, {})
            same_length[glob[:-1]] = same_length.get(glob[:-1], NO_DEMAND) & demand
        else:
            self._globs.append((re.compile(translate(glob)).match, demand))
            if glob.endswith(LATEST):
                self._untagged.append((re.compile(translate(untagged(glob))).match, demand))

    def _remembered(self, name: str) -> Demand:
        demand = self._demand(name)
        if len(name) <= LONGEST_KEPT:
            keep(self._known, name, demand, KEPT)
        return demand

    def _demand(self, name: str) -> Demand:
        joined = self._joined.get(normal(name))
        own = self._own(name) & self._others.demand
        return own if joined is None else own & joined.demand

    def _own(self, name: str) -> Demand:
        """What the rules ask of this name, however it is spelt, whatever else is called so."""
        fold = folded(name)
        demand = NO_DEMAND
        for spelling in {name, fold, untagged(fold)}:
            demand &= self._spelt(spelling)
        if self._untagged and ":" not in fold.rpartition("/")[2]:
            for matches, asked in self._untagged:
                if matches(fold) or matches(name):
                    demand &= asked
        return demand

    def _spelt(self, name: str) -> Demand:
        demand = self._plain.get(name, NO_DEMAND)
        for length, prefixes in self._prefixes.items():
            demand &= prefixes.get(name[:length], NO_DEMAND)
        for matches, asked in self._globs:
            if matches(name):
                demand &= asked
        return demand


def folded(name: str) -> str:
    """What all spellings of a name share: capitals, composed and decomposed letters, wide ones, blanks around it, and what cannot be seen."""
    if name.isascii() and name.isprintable():  # 0.2 µs instead of 2, of which a long list has many
        return name.lower().strip()
    seen = "".join(letter for letter in normalize("NFKC", name).casefold() if category(letter) not in UNSEEN)
    return normalize("NFKC", seen).strip()


def untagged(name: str) -> str:
    """The name without what Ollama adds by itself: a `:latest` at its end, a scheme, its own registry and library before it."""
    return ADDED.sub("", name).strip() if ":" in name or "/" in name else name


def normal(name: str) -> str:
    """What all spellings of a name share: who differs in nothing else is bound by the same rules."""
    return untagged(folded(name))


def keep(kept: dict[K, T], key: K, value: T, most: int) -> None:
    """Keep one more, and let the oldest go where there are too many."""
    kept[key] = value
    if len(kept) > most:
        del kept[next(iter(kept))]
