"""Which models of a server are used, under which names: its own list, with what the operator wrote put over it.  Pure.

A model that the operator declares is used though no list has it: by a table of its own, or by a name without `*` among `models`.
An id with `*` stands for every name that fits: those that some servers list, and those of tables.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from fnmatch import translate

import attrs
import msgspec

from nexus.model import CHAT, COMPLETION, EMBEDDING, JSON_SCHEMA, THINKING, TOOLS, VISION, Model, Price, Zone
from nexus.patience import Timeouts
from nexus.policies import folded, normal

ABILITIES = (CHAT, COMPLETION, EMBEDDING, VISION, TOOLS, JSON_SCHEMA, THINKING)

Speaks = frozenset[tuple[str, str]]


class Override(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator says of one model because the server does not, or says it wrongly.  `offers` is all that it can do, of
    ABILITIES; what else its kind cannot holds on unless it is among them.  `capacity` is how many requests it may have at once."""

    id: str
    name: str | None = None
    offers: Mapping[str, bool] | None = None
    context: int | None = None
    max_output_tokens: int | None = None
    tier: int | None = None
    zone: Zone | None = None
    price: Price | None = None
    capacity: int | None = None
    timeouts: Timeouts | None = None


Entry = tuple[Model, str, Override | None]
"""A model as it is used, its public name, what the operator wrote of it."""


def _as_written(name: str) -> str:
    return name


def is_pattern(id: str) -> bool:
    """Whether an id stands for many."""
    return "*" in id


def declared(globs: Iterable[str] | None, ids: Iterable[str]) -> tuple[str, ...]:
    """The ids that the operator means to be served, whatever the server lists, each once.  `ids` are those of tables."""
    exact = (glob for glob in globs or () if not set(glob) & set("*?["))
    return tuple(dict.fromkeys((*ids, *exact)))


class Listing:
    """What becomes of one backend's list."""

    def __init__(
        self,
        globs: tuple[str, ...] | None,
        overrides: Iterable[Override],
        speaks: Speaks,
        *,
        any_spelling: bool = False,
        forwards: Iterable[str] = (),
    ) -> None:
        overrides = tuple(overrides)
        self._spelt = normal if any_spelling else _as_written
        self._declared = declared(globs, (override.id for override in overrides))
        self._allowed = None if globs is None else self._opened(globs, (override.id for override in overrides))
        self._overrides = {self._spelt(override.id): override for override in overrides}
        self._patterns = [(_matcher((override.id,)), override) for override in overrides if is_pattern(override.id)]
        self._speaks = speaks
        self._forwards = _matcher(forwards)

    def _opened(self, globs: tuple[str, ...], ids: Iterable[str]) -> Callable[[str], bool]:
        """Whether a model of a name may be used: what is declared in any spelling that its server takes, a glob as it is written."""
        matches = _matcher((*globs, *ids))
        if self._spelt is _as_written:
            return matches
        declared = frozenset(map(self._spelt, self._declared))
        return lambda name: matches(name) or self._spelt(name) in declared

    def entries(self, models: Iterable[Model]) -> list[Entry]:
        """Everything that is used of a list, patterns among it, each id once, the last one of it."""
        kept = models if self._allowed is None else [m for m in models if self._allows(m, self._allowed)]
        by_id = {model.id: model for model in kept}
        if self._declared:
            by_id |= {model.id: model for model in self._unlisted(by_id.values())}
        return [self._entry(model) for model in by_id.values()]

    def may_have(self, name: str) -> bool:
        """Whether a model of this name would be used if the server listed it; one that it lists may have further names."""
        return self._allowed is None or self._allowed(name) or bool(self._overrides)

    def meant(self, name: str, pattern: Model, written: Override | None) -> Entry | None:
        """The model that a name means which fits a pattern; None where it may not be used."""
        if self._allowed is not None and not self._allowed(name):
            return None
        return self._unseen(attrs.evolve(pattern, id=name, aliases=())), name, self._override(name) or written

    def _unseen(self, model: Model) -> Model:
        """A model that no list has: that its server forwards it is known by its name alone."""
        return attrs.evolve(model, remote=True, evidence="its name says so") if self._forwards(folded(model.id)) else model

    def _allows(self, model: Model, allowed: Callable[[str], bool]) -> bool:
        return allowed(model.id) or is_pattern(model.id) or any(map(allowed, model.aliases))

    def _unlisted(self, listed: Iterable[Model]) -> list[Model]:
        """What is declared and not listed, which nothing is known of but what the server speaks."""
        known = {self._spelt(id) for model in listed for id in (model.id, *model.aliases)}
        like = next(iter(listed), None)
        speaks, takes_usage = (self._speaks, False) if like is None else (like.speaks, like.takes_usage)
        unlisted = (id for id in self._declared if self._spelt(id) not in known)
        return [self._unseen(Model(id=id, speaks=speaks, takes_usage=takes_usage)) for id in unlisted]

    def _override(self, id: str, aliases: tuple[str, ...] = ()) -> Override | None:
        """What is written of this very model, else of a pattern that it fits."""
        written = map(self._overrides.get, map(self._spelt, (id, *aliases)))
        exact = next((override for override in written if override is not None), None)
        return exact or next((override for fits, override in self._patterns if fits(id)), None)

    def _entry(self, model: Model) -> Entry:
        override = self._override(model.id, model.aliases) if self._overrides else None
        if override is None:
            return model, model.id, None
        changed = attrs.evolve(
            model,
            offers=model.offers if override.offers is None else {**_not_offered(model), **override.offers},
            context=override.context or model.context,
            max_output_tokens=override.max_output_tokens or model.max_output_tokens,
            price=override.price or model.price,
        )
        return changed, override.name or model.id, override


def fits(pattern: str) -> Callable[[str], bool]:
    """Whether a name fits an id with `*`."""
    return _matcher((pattern.replace("[", "[[]").replace("?", "[?]"),))


def _matcher(globs: Iterable[str]) -> Callable[[str], bool]:
    pattern = re.compile("|".join(map(translate, globs)) or r"(?!)")
    return lambda name: pattern.match(name) is not None


def _not_offered(model: Model) -> dict[str, bool]:
    return dict.fromkeys((*ABILITIES, *(need for need, offered in model.offers.items() if not offered)), False)
