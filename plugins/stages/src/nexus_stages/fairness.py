"""What the balancing strategies share: how full a backend is, and whose turn it was.  No strategy lives here."""

from __future__ import annotations

from collections import OrderedDict

from nexus.api import Candidate, Claimed, Event, Left, Scope, Stage

# A server without a stated limit batches (vLLM, clouds): this many at once slow it down about as much as one slows down a
# server that takes one at a time.
UNSTATED_CAPACITY = 16
# Pairs whose turns are remembered; the one whose turn is longest ago goes first, which is what forgetting it means anyway.
MAX_TURNS = 8192


def fill(candidate: Candidate) -> float:
    """The share of the capacity in use, of the backend or of the model's own where that is fuller: 0 idle, 1 full, more where
    others queue there too.

    `load` is the server's own count and includes requests that did not come through this gateway; it is as old as the last
    probe, so our own count is believed where it is higher.
    """
    busy = candidate.backend_in_flight
    if candidate.load is not None and candidate.load > busy:
        busy = candidate.load
    if not busy:
        return 0.0
    share = busy / (candidate.capacity or UNSTATED_CAPACITY)
    return max(share, candidate.domain_in_flight / candidate.domain_capacity) if candidate.domain_capacity else share


class Turns(Stage):
    """A stage that knows which pair was claimed when, so that equal pairs take turns."""

    hears: tuple[type[Event], ...] = (Claimed, Left)

    def __init__(self, scope: Scope) -> None:
        self._turns: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._count = 0

    def turn(self, candidate: Candidate) -> float:
        """From 0, never had a turn, to 1, had the last one."""
        last = self._turns.get((candidate.backend, candidate.model))
        return last / self._count if last else 0.0

    def learn(self, event: Event) -> None:
        """Note whose turn it was; forget a backend that left."""
        if isinstance(event, Claimed):
            self._count += 1
            key = (event.candidate.backend, event.candidate.model)
            self._turns[key] = self._count
            self._turns.move_to_end(key)
            if len(self._turns) > MAX_TURNS:
                self._turns.popitem(last=False)
        elif isinstance(event, Left):
            for key in [key for key in self._turns if key[0] == event.backend]:
                del self._turns[key]
