"""How many requests a domain serves at once, and which models of a server may go side by side.  Counts only: whose they are, and
when they change, is the fleet's business.

A *domain* is what slots belong to: a server, or one model of it where the server serves its models side by side.
"""

from __future__ import annotations


class Slots:
    """The slots of one domain.  `capacity` None is no bound; a capacity that shrinks takes back nothing that is held."""

    __slots__ = ("capacity", "domain", "in_flight")

    def __init__(self, domain: str, capacity: int | None = None) -> None:
        self.domain = domain
        self.capacity = capacity
        self.in_flight = 0

    @property
    def has_room(self) -> bool:
        return self.capacity is None or self.in_flight < self.capacity


class Memory:
    """The memory of a server whose models go side by side only while they are resident there.

    `working` counts the claims on models that run there.  `loading` has the claims (by id) of each model that is being loaded for
    them: what else is resident is not known until that is over and the server has been asked again.
    """

    __slots__ = ("loading", "working")

    def __init__(self) -> None:
        self.loading: dict[str, set[int]] = {}
        self.working = 0

    def hindrance(self, model: str, *, at_home: bool) -> str:
        """What a model has to wait for: `load` (another is being loaded), `answers` (it would have to be loaded itself, and others
        answer), or nothing ("").  `at_home` says that it is resident, or has claims already."""
        if self.loading and model not in self.loading:
            return "load"
        return "answers" if self.working and not at_home else ""

    def begin(self, model: str, claim: int, *, at_home: bool) -> None:
        """A claim holds a slot of the model; `at_home` as it was before."""
        self.working += 1
        if model in self.loading or not at_home:
            self.loading.setdefault(model, set()).add(claim)

    def answered(self, model: str, claim: int) -> bool:
        """The model answers this claim.  Returns whether that ends a load."""
        ends = claim in self.loading.get(model, ())
        if ends:
            del self.loading[model]
        return ends

    def end(self, model: str, claim: int) -> bool:
        """A claim has ended.  Returns whether that ends a load, of which nothing came."""
        self.working -= 1
        waiting = self.loading.get(model, set())
        if claim not in waiting:
            return False
        waiting.discard(claim)
        if not waiting:
            del self.loading[model]
        return not waiting

    def listed(self, resident: frozenset[str]) -> None:
        """The server says what is resident: that is not being loaded any more."""
        for model in [model for model in self.loading if model in resident]:
            del self.loading[model]
