"""The capability stage: nobody is sent what it cannot do, and what is unknown comes after what is known.

It compares what a request needs with what a pair offers.  Who finds out what a pair offers (probes, configuration) and how
long a prompt is (dialects) belongs elsewhere.

Unknown is a value: many servers do not say whether a model takes pictures or tools.  Unknown passes, ranks after yes, and
becomes no for a while when the backend itself answers a request that it cannot do that.  A yes is not unlearnt this way: it is
the server's report or the operator's word, and one client's odd request must not take a pair from everybody.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType

import attrs

from nexus.api import (
    EMPTY,
    Ask,
    Candidate,
    Demand,
    Event,
    Finished,
    Left,
    Leg,
    Payload,
    Probed,
    Refusal,
    RefusalKind,
    Request,
    Scope,
    Stage,
)
from nexus.model import COMPLETION, EMBEDDING, IMAGE_URL, JSON_SCHEMA, TOOLS, VISION

# A wrong guess costs one rejected attempt and the next pair's start: about two seconds.
UNKNOWN_SECONDS = 2.0
# A prompt that is cut without a word costs the whole answer; more than any queue at home is worth avoiding.
TRUNCATED_SECONDS = 10.0
# The smallest context that a server in common use serves by default (Ollama with little video memory): below it an unknown
# context is no risk.
SMALLEST_CONTEXT = 4096
# What is remembered is bounded; a fleet with more pairs than this forgets the oldest word first.
MAX_REMEMBERED = 4096

LEARNT = {f"no_{need}": need for need in (VISION, IMAGE_URL, "documents", TOOLS, JSON_SCHEMA, EMBEDDING, COMPLETION)}


def _check_seconds(options: object, attribute: attrs.Attribute[float], value: float) -> None:
    if not 0 <= value <= 86400:
        raise ValueError(f"must be between 0 (never remember) and 86400 seconds, not {value:g}")


@attrs.frozen(kw_only=True)
class CapabilityOptions:
    """The `[capability]` table.

    `remember_seconds` is how long a pair is refused what its backend said it cannot do.  Raises ValueError outside 0..86400.
    """

    remember_seconds: float = attrs.field(
        default=600.0,
        validator=_check_seconds,
        metadata={"meaning": "how long a pair is refused what its server said it cannot do; 0 turns it off"},
    )


class Capability(Stage):
    """Refuses what is known to be impossible, with codes `no_<need>` and `context`."""

    hears = (Finished, Left, Probed)

    def __init__(self, options: CapabilityOptions, scope: Scope) -> None:
        self._remember = options.remember_seconds
        self._clock = scope.clock
        self._said: OrderedDict[tuple[str, str, str], float] = OrderedDict()

    def describe(self, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
        """The task, what the request needs beyond it, and the least its prompt can be."""
        return Demand(needs=request.needs | {request.task}, context=request.tokens_low)

    def refuse(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        """An objection to a pair that is known not to offer a need, or to serve too small a context.

        Only the served context counts: a server that could serve more, if it were told to, cuts the prompt today.
        """
        demand, offers = ask.demand, candidate.offers
        for need in demand.needs:
            if offers.get(need) is False:
                return _missing(ask, candidate)
        if candidate.context is not None and demand.context > candidate.context:
            return _too_long(demand.context, candidate.context)
        return self._remembered(ask, candidate) if self._said else None

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """Seconds for each need that may not be there, and for the risk that the prompt is cut."""
        seconds, needs = 0.0, ask.request.needs
        if needs:
            offers = candidate.offers
            for need in needs:
                if offers.get(need) is None:
                    seconds += UNKNOWN_SECONDS
        high, context = ask.request.tokens_high, candidate.context
        if context is None:
            return seconds + UNKNOWN_SECONDS if high > SMALLEST_CONTEXT else seconds
        return seconds if high <= context else seconds + _risk(ask.request, context)

    def lacks(self, candidate: Candidate) -> Mapping[str, float]:
        """What its server said it cannot do."""
        if not self._said:
            return EMPTY
        now, model = self._clock.now(), (candidate.backend, candidate.model)
        left = {need: self._said.get((*model, need), 0.0) - now for need in LEARNT.values() if not candidate.offers.get(need)}
        return {need: seconds for need, seconds in left.items() if seconds > 0}

    def learn(self, event: Event) -> None:
        """Remember what a backend said it cannot do; forget it when the backend changed or left."""
        if isinstance(event, Finished):
            if self._said:
                self._expire(event.at)
            if event.code in LEARNT:
                self._hear(event, LEARNT[event.code])
        elif self._said and (isinstance(event, Left) or (isinstance(event, Probed) and event.changed)):
            for key in [key for key in self._said if key[0] == event.backend]:
                del self._said[key]

    def _hear(self, event: Finished, need: str) -> None:
        # A word about something the request did not ask for is a misunderstanding, not knowledge.
        if event.outcome == "ok" or need not in (*event.request.needs, event.request.task) or not self._remember:
            return
        key = (event.candidate.backend, event.candidate.model, need)
        self._said[key] = event.at + self._remember
        self._said.move_to_end(key)
        if len(self._said) > MAX_REMEMBERED:
            self._said.popitem(last=False)

    def _expire(self, now: float) -> None:
        # The oldest word is always the first: all are kept equally long.
        while self._said and next(iter(self._said.values())) <= now:
            self._said.popitem(last=False)

    def _remembered(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        for need in LEARNT.values():
            if need not in ask.demand.needs or candidate.offers.get(need):
                continue
            until = self._said.get((candidate.backend, candidate.model, need), 0.0)
            if (left := until - self._clock.now()) > 0:
                data = {"need": need, "missing": (need,), "for_seconds": math.ceil(left)}
                return Refusal(kind=RefusalKind.NEVER, code=f"no_{need}", data=MappingProxyType(data))
        return None


def _missing(ask: Ask, candidate: Candidate) -> Refusal:
    missing = [need for need in ask.demand.needs if candidate.offers.get(need) is False]
    if len(missing) > 1:  # a picture's address comes last: who sees no pictures at all must not hear of it
        missing.sort(key=lambda need: (need == IMAGE_URL, need))
    # The task comes first: that a model for embeddings takes no tools either is not what the client must hear.
    need = ask.request.task if ask.request.task in missing else missing[0]
    data = MappingProxyType({"need": need, "missing": tuple(missing)})
    return Refusal(kind=RefusalKind.NEVER, code=f"no_{need}", data=data)


def _too_long(needed: int, served: int) -> Refusal:
    data = MappingProxyType({"needed_at_least": needed, "served": served})
    return Refusal(kind=RefusalKind.NEVER, code="context", data=data)


def _risk(request: Request, context: int) -> float:
    """The share of the prompt's possible lengths that would be cut, in seconds.  The prompt may be longer than `context`."""
    spread = request.tokens_high - min(request.tokens_low, context)
    return TRUNCATED_SECONDS * (request.tokens_high - context) / spread
