"""Which pairs are looked at for a request that takes any model, where there are too many to look at all of them in a turn of the loop.

It prefers and refuses nothing: what it leaves out is like what it takes.  Who may have the request is for routing to say.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from itertools import islice

from nexus.model import Candidate, Health, Request, State
from nexus.names import Opened
from nexus.pairs import Pair, Standing

Known = Iterable[tuple[Pair, Standing]]
MOST = 2000  # pairs; about 20 milliseconds


def any_pairs(
    standings: Collection[Standing], request: Request, allowed: Callable[[str], bool] | None, known: Callable[[str], Known]
) -> tuple[Candidate, ...]:
    """All pairs of the fleet, or a share of every backend's: of those that are well more, and of each first what is loaded, then what
    is not known to lack what the request needs, as far as its key opens it.  `known` are the pairs of a name: what a key opens by
    names is not looked for among all others."""
    if sum(len(standing.pairs) for standing in standings) <= MOST:
        return tuple([candidate for standing in standings for candidate in standing.candidates()])
    if isinstance(allowed, Opened) and allowed.names is not None:
        return _named(standings, allowed.names, known)
    share = max(1, MOST // len(standings))
    able = [(standing, _able(standing, request, allowed)) for standing in sorted(standings, key=_rank)]
    taken = [(standing, pair) for standing, pairs in able for pair in islice(pairs, share)]
    more = ((standing, pair) for standing, pairs in able for pair in pairs)
    taken.extend(islice(more, max(0, MOST - len(taken))))
    return tuple([standing.photo(pair) for standing, pair in taken])


def _named(standings: Iterable[Standing], names: Iterable[str], known: Callable[[str], Known]) -> tuple[Candidate, ...]:
    """Those of these names; some others where there are none, for the sake of the reasons."""
    found = ((standing, pair) for name in sorted(names) for pair, standing in known(name) if pair.name == name)
    others = ((standing, pair) for standing in standings for pair in standing.pairs.values())
    taken = list(islice(found, MOST)) or list(islice(others, MOST))
    return tuple([standing.photo(pair) for standing, pair in taken])


def _rank(standing: Standing) -> tuple[bool, bool]:
    return standing.pulse.health is Health.UNHEALTHY, standing.member.cloud


def _able(standing: Standing, request: Request, allowed: Callable[[str], bool] | None) -> Iterator[Pair]:
    """What may serve the request, what is loaded first; some of the rest where nothing may, for the sake of the reasons."""
    pairs, needs = standing.pairs, (*request.needs, request.task)
    loaded = [pairs[model] for model in standing.resident if model in pairs] if len(standing.resident) < len(pairs) else []
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
    for need in needs:  # noqa: SIM110 - asked of a hundred thousand, where a generator costs more than the question
        if offers.get(need) is False:
            return False
    return True
