"""What becomes of a request now: it goes to a pair, waits, or is refused.  Dispatch acts on it and explain tells it; nothing is claimed here."""

from __future__ import annotations

from time import perf_counter

import attrs
import msgspec

from nexus import verdict
from nexus.api import Clock
from nexus.attempt import Turn
from nexus.context import RequestContext
from nexus.dialects.ways import Ways
from nexus.errors import Problem
from nexus.fleet import Fleet
from nexus.model import Candidate, Choice, Health, Leg, Plan
from nexus.model.attempt import tries
from nexus.names import Names
from nexus.routing import Circumstances, Pipeline, reason, route, waitable
from nexus.sampling import Openings, any_pairs
from nexus.unknown import UnknownModels
from nexus.waiting import Waiting

GOES, WAITS, REFUSED = "goes", "waits", "refused"
QUEUE_FULL, QUEUE_TIMEOUT, LEAVES_HOME = "queue_full", "queue_timeout", "leaves_home"


@attrs.frozen(kw_only=True)
class Limits:
    """How many attempts, and how long to wait (seconds; contract §2)."""

    max_attempts: int = 3
    overflow_after: float = 0.0
    max_wait: float = 30.0


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What becomes of a request.

    Attributes:
        word: GOES, WAITS or REFUSED.
        plan: what it was made from.
        choice: the pair it goes to; of a request that waits, the one that is free but left for later, None for none.
        code: why it is refused, where the plan alone does not say so.
    """

    word: str
    plan: Plan
    choice: Choice | None = None
    code: str = ""


class Decider:
    """Plans and decides."""

    def __init__(
        self, fleet: Fleet, pipeline: Pipeline, names: Names, ways: Ways, waiting: Waiting[Turn], clock: Clock, limits: Limits
    ) -> None:
        self.fleet = fleet
        self.pipeline = pipeline
        self.ways = ways
        self.waiting = waiting
        self.clock = clock
        self.limits = limits
        self.unknown = UnknownModels(fleet, names)
        self._policy = names.demand if names.policies else None
        self._openings = Openings(fleet.standings, lambda: fleet.revision)

    async def prepare(self, context: RequestContext) -> None:
        """Look up what takes more than a turn of the loop; before the first decision on a request."""
        if context.request.flexible:
            context.opened = await self._openings.names(context.allowed)

    def decide(self, context: RequestContext, *, queued: bool = False) -> Decision:
        """Decide by the fleet as it is now.  A request that is `queued` has its turn, and waits on where waiting may still help.

        Raises StageError.
        """
        plan = self._planned(context)
        choice = plan.choices[0] if plan.choices else None
        takes_slot = context.request.takes_slot
        if choice is None:
            hopeless = not takes_slot or self._in_vain(plan) or (not queued and self._hopeless(plan, context.queue_seconds))
            return Decision(word=REFUSED if hopeless else WAITS, plan=plan)
        if not takes_slot:
            leaves = self._leaves_home(context, choice)
            return Decision(word=REFUSED, plan=plan, code=LEAVES_HOME) if leaves else Decision(word=GOES, plan=plan, choice=choice)
        waits = self._rather_wait(context, plan, choice) or (not queued and self.others_first(plan))
        return Decision(word=WAITS if waits else GOES, plan=plan, choice=choice)

    def decide_at_last(self, context: RequestContext, code: str) -> Decision:
        """Decide for a request that may not wait, or no longer, for the reason `code`: what is free, but was left for later, is better
        than nothing.  Raises StageError."""
        plan = self._planned(context)
        if plan.choices and not (code == QUEUE_FULL and self.others_first(plan)):
            return Decision(word=GOES, plan=plan, choice=plan.choices[0])
        return Decision(word=REFUSED, plan=plan, code="" if not plan.choices and self._in_vain(plan) else code)

    def foresee(self, context: RequestContext) -> Decision:
        """Decide as if the request came now, where no more than the queue's bounds is known of those that wait.  Raises StageError."""
        decision = self.decide(context)
        if decision.word == WAITS and not self.waiting.has_room(len(context.payload.body)):
            return self.decide_at_last(context, QUEUE_FULL)
        return decision

    def problem(self, context: RequestContext, plan: Plan, code: str = "") -> Problem:
        """Say why the request is refused."""
        if code == LEAVES_HOME:
            return Problem(503, "no_backend_available", "no server that a chat would go to first can do this")
        if context.attempts:
            return self.all_failed(context, plan)
        if not (plan.objections or plan.choices):
            return self.unknown.problem(context)
        return verdict.no_choice(plan, self.clock.now(), len(self.waiting), code or None, self.fleet.silent())

    def all_failed(self, context: RequestContext, plan: Plan | None, over: str = "") -> Problem:
        needs = (*context.request.needs, context.request.task)
        return verdict.all_failed(plan, context.attempts, needs, context.retry_after, over)

    def longest_wait(self, context: RequestContext, decision: Decision) -> float:
        """Seconds that a request waits at most, by this decision."""
        if decision.choice is None:
            return self.limits.max_wait
        return min(max(0.0, context.accepted + self.limits.overflow_after - self.clock.now()), self.limits.max_wait)

    def _planned(self, context: RequestContext) -> Plan:
        start = perf_counter()
        plan = context.plan = self.plan(context)
        context.routing_seconds += perf_counter() - start
        return plan

    def plan(self, context: RequestContext, *, whole: bool = False) -> Plan:
        """Where the request would go now, without claiming or sending anything.  `whole` looks at every leg."""
        at = Circumstances(
            candidates=self.fleet.candidates if not context.request.flexible else lambda leg: self._flexible(leg, context),
            now=self.clock.now(),
            tried=context.tried,
            policy=self._policy,
            bound=context.demand,
            allowed=context.allowed,
            reach=self.ways.spoken(context.dialect.name, context.endpoint.task),
        )
        plan = route(self.pipeline, context.request, context.payload, context.legs, at, whole=whole)
        if not plan.choices and any(o.refusal.code == "suspended" for o in plan.objections) and not waitable(plan):
            at.desperate = True  # nobody else is there: the account may have been filled up meanwhile
            last = route(self.pipeline, context.request, context.payload, context.legs, at, whole=whole)
            plan = last if last.choices else plan
        context.demand = plan.demand  # what has bound a request once binds it to its end, whoever leaves the fleet meanwhile
        return plan

    def _flexible(self, leg: Leg, context: RequestContext) -> tuple[Candidate, ...]:
        if not leg.any_model:
            return self.fleet.candidates(leg)
        standings = self.fleet.standings.values()
        return any_pairs(standings, context.request, context.allowed, self.fleet.find, context.opened)

    def reason(self, context: RequestContext, plan: Plan, choice: Choice) -> str:
        """Why the choice is that of the plan (`X-Nexus-Route-Reason`).  Raises StageError."""
        failed = bool(context.attempts) and tries(context.attempts) > 0
        return reason(self.pipeline, plan, choice, self.fleet.candidates, again=bool(context.tried), failed_before=failed)

    def can_ask(self, context: RequestContext) -> bool:
        """Whether a server may know better than Nexus' own estimate, or nobody serves the model at all."""
        if not any(self.fleet.has_candidates(leg) for leg in context.legs):
            return True
        wanted = (context.dialect.name, context.endpoint.task)
        return any(wanted in c.speaks - c.missing and c.health is not Health.UNHEALTHY for c in self._nearest(context))

    def _nearest(self, context: RequestContext) -> list[Candidate]:
        """The pairs of the name that was asked for: those at home, else those of clouds."""
        known = self.fleet.candidates(context.legs[0])
        return [candidate for candidate in known if not candidate.cloud] or list(known)

    def _leaves_home(self, context: RequestContext, choice: Choice) -> bool:
        """Whether what is no work for a server would take a prompt where a chat would not go first."""
        return choice.ask.leg.index > 0 or (choice.candidate.cloud and not all(c.cloud for c in self._nearest(context)))

    def _in_vain(self, plan: Plan) -> bool:
        """Whether waiting for a pair would help nobody: none is held back by what passes, and none may still become known."""
        return not waitable(plan) and bool(plan.objections or self.fleet.settled)

    def _rather_wait(self, context: RequestContext, plan: Plan, choice: Choice) -> bool:
        """Whether home may still come free before the time for overflow (`overflow_after_seconds`)."""
        if choice.ask.leg.index == 0 and not choice.candidate.cloud:
            return False
        if self.clock.now() >= context.request.accepted + self.limits.overflow_after:
            return False
        home = (c for c in waitable(plan) if not c.cloud) if plan.objections else ()
        return any(not candidate.ejected_until for candidate in home)  # what keeps failing there is nothing to wait for

    def others_first(self, plan: Plan) -> bool:
        """Whether what is free has been freed for somebody who waits, and who is still to be asked."""
        return bool(plan.choices) and self.waiting.come_first(plan.choices[0].candidate.backend)

    def _hopeless(self, plan: Plan, queued: float) -> bool:
        """Whether all that may wait is paused for longer than anybody may wait who has waited for `queued` seconds."""
        held, until = waitable(plan), self.clock.now() - queued + self.limits.max_wait
        return bool(held) and all(candidate.paused_until > until for candidate in held)
