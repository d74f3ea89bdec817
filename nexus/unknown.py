"""A model that nobody is known to serve: a slip of the name, a model that has gone, or one of a server that is down."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nexus import verdict
from nexus.context import RequestContext
from nexus.errors import Problem
from nexus.fleet import Fleet
from nexus.model import Health
from nexus.names import Names
from nexus.nearest import Vocabulary, is_slip, nearest
from nexus.pairs import Standing

NEAR, NEAR_SEEN, NEAR_SHOWN = 0.4, 8, 3  # how alike a name must be that is proposed, and how many


class UnknownModels:
    """Says what a client is told of a name that no backend of the fleet is known to serve."""

    def __init__(self, fleet: Fleet, names: Names) -> None:
        self.fleet = fleet
        self.names = names
        self._aliases, self._served = Vocabulary(), Vocabulary()

    def problem(self, context: RequestContext) -> Problem:
        """No backend that has answered knows the name."""
        asked = context.request.model
        gone = next((backend for leg in context.legs for id in leg.ids if (backend := self.fleet.missed(id))), None)
        if gone is not None:
            return verdict.gone(asked, gone)
        if not self.fleet.standings:
            return verdict.no_backends()
        ids, anything = context.legs[0].ids, any(leg.any_model for leg in context.legs)
        silent = self.fleet.may_serve(None if anything else [id for leg in context.legs for id in leg.ids])
        near = self._near(asked, context.allowed)
        named = [standing.member.name for standing in silent]
        if any(map(self.fleet.is_expected, silent)) and not self._is_mistyped(asked, ids, near, silent):
            return verdict.not_ready(asked, ids, named, near)
        return verdict.unknown_model(asked, near, named)

    def _is_mistyped(self, asked: str, ids: Iterable[str], near: Iterable[str], silent: Iterable[Standing]) -> bool:
        """Whether a name that nobody serves who has said so is likelier a slip than a model of those who have been asked in vain.  What
        is written in the configuration is none."""
        own = set(ids) == {asked} and asked not in self.names.own
        return own and all(s.last_probe is not None for s in silent) and any(is_slip(asked, name) for name in near)

    def _near(self, asked: str, allowed: Callable[[str], bool] | None) -> list[str]:
        """The names that are nearest to one that nobody serves, of those that somebody does."""
        aliases, served = self.names.aliases, self.fleet.served
        near = self._aliases.near(asked, aliases, None, n=NEAR_SEEN, alike=NEAR)
        near += self._served.near(asked, served, self.fleet.served_changes, n=NEAR_SEEN, alike=NEAR)
        meant = [
            name
            for name in dict.fromkeys(near)
            if (allowed is None or allowed(name))
            and (name not in aliases or self._is_served(name))
            and (name in aliases or name in served)
        ]
        return nearest(asked, meant, n=NEAR_SHOWN, alike=NEAR)

    def _is_served(self, alias: str) -> bool:
        """Whether a backend that is not known to be down serves what is meant."""
        leg = self.names.legs(alias, strict=True, flexible=False)[0]
        return any(candidate.health is not Health.UNHEALTHY for candidate in self.fleet.candidates(leg))
