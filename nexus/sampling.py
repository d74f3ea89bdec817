"""Which pairs are looked at for a request that takes any model, where there are too many to look at all of them in a turn of the loop.

It prefers and refuses nothing: what it leaves out is like what it takes.  Who may have the request is for routing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice

from nexus.model import Candidate, Health, Request, State
from nexus.names import Opened
from nexus.pairs import Pair, Standing
from nexus.policies import keep
from nexus.slices import lazily_in_slices

Known = Iterable[tuple[Pair, Standing]]
Allowed = Callable[[str], bool] | None
MOST = 2000  # pairs; about 20 milliseconds
MOST_NAMES = 10_000  # that a key opens; the same
KEPT = 8  # keys whose names are kept


class Openings:
    """Which names of a large fleet a key opens by wildcards: all are compared a few in a turn of the loop, and anew where the fleet's
    `revision` is another."""

    def __init__(self, standings: Mapping[str, Standing], revision: Callable[[], int]) -> None:
        self._standings = standings
        self._revision = revision
        self._found: dict[tuple[Opened, int], tuple[str, ...]] = {}

    async def names(self, allowed: Allowed) -> tuple[str, ...] | None:
        """None where nobody needs to look: the key opens everything, or tells the names itself, or the fleet is small."""
        if not isinstance(allowed, Opened) or allowed.names is not None or not _is_large(self._standings.values()):
            return None
        key = allowed, self._revision()
        found = self._found.get(key)
        if found is None:
            opened: dict[str, None] = {}

            def look(pair: Pair) -> None:
                if allowed(pair.name):
                    opened[pair.name] = None

            await lazily_in_slices(self._pairs(), look)
            found = tuple(opened)
            keep(self._found, key, found, KEPT)
        return found

    def _pairs(self) -> Iterator[Pair]:
        for standing in tuple(self._standings.values()):
            yield from tuple(standing.pairs.values())


def any_pairs(
    standings: Collection[Standing],
    request: Request,
    allowed: Allowed,
    known: Callable[[str], Known],
    opened: tuple[str, ...] | None = None,
) -> tuple[Candidate, ...]:
    """All pairs of the fleet, or a share of every backend's: of those that are well more, and of each first what is loaded, then what
    is not known to lack what the request needs, as far as its key opens it.  `known` are the pairs of a name: what a key opens by
    names, or is known to open by wildcards (`opened`), is not looked for among all others."""
    if not _is_large(standings):
        return tuple([candidate for standing in standings for candidate in standing.candidates()])
    if isinstance(allowed, Opened) and allowed.names is not None:
        opened = tuple(sorted(allowed.names))
    pairs = {standing: standing.pairs for standing in standings} if opened is None else _named(opened, known)
    if not pairs:  # some others, for the sake of the reasons
        others = ((standing, pair) for standing in standings for pair in standing.pairs.values())
        return tuple([standing.photo(pair) for standing, pair in islice(others, MOST)])
    share = max(1, MOST // len(pairs))
    able = [(s, _able(s, pairs[s], request, None if opened is not None else allowed)) for s in sorted(pairs, key=_rank)]
    taken = [(standing, pair) for standing, found in able for pair in islice(found, share)]
    more = ((standing, pair) for standing, found in able for pair in found)
    taken.extend(islice(more, max(0, MOST - len(taken))))
    return tuple([standing.photo(pair) for standing, pair in taken])


def _is_large(standings: Iterable[Standing]) -> bool:
    return sum(len(standing.pairs) for standing in standings) > MOST


def _named(names: Iterable[str], known: Callable[[str], Known]) -> dict[Standing, dict[str, Pair]]:
    """The pairs of these names, by backend and id."""
    found: dict[Standing, dict[str, Pair]] = {}
    for name in islice(names, MOST_NAMES):
        for pair, standing in known(name):
            if pair.name == name:
                found.setdefault(standing, {})[pair.model.id] = pair
    return found


def _rank(standing: Standing) -> tuple[bool, bool]:
    return standing.pulse.health is Health.UNHEALTHY, standing.member.cloud


def _able(standing: Standing, pairs: Mapping[str, Pair], request: Request, allowed: Allowed) -> Iterator[Pair]:
    """What may serve the request, what is loaded first; some of the rest where nothing may, for the sake of the reasons."""
    needs = (*request.needs, request.task)
    loaded = [pairs[model] for model in standing.resident if model in pairs] if len(standing.resident) < len(standing.pairs) else []
    others: Iterable[Pair] = pairs.values() if not loaded else (pair for id, pair in pairs.items() if id not in standing.resident)
    found = False
    for group in (loaded, others):
        for pair in group:
            if _may_serve(pair, needs, request.tokens_low) and (allowed is None or allowed(pair.name)):
                found = True
                yield pair
    if not found:
        yield from islice(pairs.values(), MOST)


def _may_serve(pair: Pair, needs: tuple[str, ...], tokens: int) -> bool:
    model = pair.model
    offers, context = model.offers, model.context
    if model.state is State.OFF or (context is not None and context < tokens):
        return False
    for need in needs:  # noqa: SIM110 - asked of a hundred thousand, where a generator costs 0.2 µs more than the question
        if offers.get(need) is False:
            return False
    return True
