"""One policy of routing.  Who asks it, and when, is in `nexus.routing`."""

from __future__ import annotations

from collections.abc import Mapping

from nexus.model import EMPTY, NO_DEMAND, Ask, Call, Candidate, Demand, Event, Leg, Payload, Refusal, Request


class Stage:
    """A policy.  Every verb has a default that does nothing, and only verbs that are overridden are ever called.

    A stage sees one candidate at a time and can only object, so no stage can bring back what another refused.  All verbs
    but `admit` are synchronous and must not block.  A verb that raises ends the request with a 500 that names the stage.
    `hears` are the kinds of event that `learn` is called for.
    """

    hears: tuple[type[Event], ...] = (Event,)

    def describe(self, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
        """What does this request ask for?  `known` is every pair of the leg, healthy or not.  It only ever adds: the demand of
        leg 0 holds for all later legs too."""
        return NO_DEMAND

    def refuse(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        """An objection to this pair, or None."""
        return None

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """Expected seconds lost by choosing this pair; negative for seconds gained.  The core adds up all stages."""
        return 0.0

    def prepare(self, call: Call) -> Call:
        """Change what is sent (`body`, `headers`); never the pair, the path or the ask."""
        return call

    async def admit(self, call: Call) -> None:
        """The last word before a byte leaves, on the exact bytes.  Raises Refused to forbid this attempt."""

    def tell(self, ask: Ask, candidate: Candidate) -> Mapping[str, str]:
        """`X-Nexus-*` headers for the answer."""
        return EMPTY

    def lacks(self, candidate: Candidate) -> Mapping[str, float]:
        """What this stage has learnt that the pair cannot do, by need, and for how many seconds more it goes by that.  For people: the
        pages about models show it, and no request is routed by it."""
        return EMPTY

    def learn(self, event: Event) -> None:
        """Something has happened.  A stage that fails to learn a `Finished` refuses everything from then on."""
