"""A plan becomes an open reply: choose, claim, try, and try elsewhere.  The only retry rule is here; one try is made in `attempt`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from time import perf_counter

import attrs

from nexus import verdict
from nexus.api import Clock
from nexus.attempt import Attempts, Turn
from nexus.conditions import condition_of
from nexus.context import RequestContext
from nexus.dialects.ways import Ways
from nexus.errors import CRASHES_OF_A_CALL, Problem, StageError
from nexus.fleet import Fleet
from nexus.model import EMPTY, Candidate, Choice, Health, Leg, Plan, replace
from nexus.model.attempt import tries
from nexus.names import Names
from nexus.nearest import Vocabulary, is_slip, nearest
from nexus.pairs import Standing
from nexus.reply import OpenReply
from nexus.routing import Circumstances, Pipeline, reason, route, waitable
from nexus.sampling import Openings, any_pairs
from nexus.waiters import Condition, Waiter
from nexus.waiting import QueueFull, WaitedTooLong, Waiting

NEAR, NEAR_SEEN, NEAR_SHOWN = 0.4, 8, 3  # how alike a name must be that is proposed, and how many
LEAST_SECONDS = 0.02  # with less left of the time for all attempts no other is begun
MOST_ATTEMPTS = 32  # of one request, those counted to which a busy server answered


Learn = Callable[[Iterable[str]], Awaitable[None]]
"""Asks the backends anew that may serve one of the names by now."""


async def _nothing_new(names: Iterable[str]) -> None:
    """Where nobody probes."""


@attrs.frozen(kw_only=True)
class Limits:
    """How many attempts, and how long to wait (seconds; contract §2)."""

    max_attempts: int = 3
    overflow_after: float = 0.0
    max_wait: float = 30.0


@attrs.frozen(kw_only=True)
class Outlook:
    """What would become of a request now.

    `word`: "goes" to `choice`; "waits", at most `wait_seconds`, then goes to `choice` or gets `problem`; is "refused" with `problem`.
    `plan` is what the decision was made from.
    """

    word: str
    plan: Plan
    choice: Choice | None = None
    problem: Problem | None = None
    wait_seconds: float | None = None


class Dispatcher:
    """Chooses, claims, tries, and tries elsewhere.  `learn` looks for names that nobody is known to serve."""

    def __init__(
        self,
        fleet: Fleet,
        pipeline: Pipeline,
        names: Names,
        ways: Ways,
        waiting: Waiting[Turn],
        attempts: Attempts,
        clock: Clock,
        limits: Limits,
    ) -> None:
        self.fleet = fleet
        self.pipeline = pipeline
        self.names = names
        self.ways = ways
        self.waiting = waiting
        self.attempts = attempts
        self.clock = clock
        self.limits = limits
        self.learn: Learn = _nothing_new
        self._policy = names.demand if names.policies else None
        self._openings = Openings(fleet.standings, lambda: fleet.revision)
        self._aliases, self._served = Vocabulary(), Vocabulary()

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

    def reason(self, context: RequestContext, plan: Plan, choice: Choice) -> str:
        """Why the choice is that of the plan (`X-Nexus-Route-Reason`).  Raises StageError."""
        failed = bool(context.attempts) and tries(context.attempts) > 0
        return reason(self.pipeline, plan, choice, self.fleet.candidates, again=bool(context.tried), failed_before=failed)

    def _flexible(self, leg: Leg, context: RequestContext) -> tuple[Candidate, ...]:
        if not leg.any_model:
            return self.fleet.candidates(leg)
        standings = self.fleet.standings.values()
        return any_pairs(standings, context.request, context.allowed, self.fleet.find, context.opened)

    async def outlook(self, context: RequestContext) -> Outlook:
        """What `open` would do with the request now, up to the first byte to a server.  Claims nothing.  Raises StageError."""
        if context.request.flexible:
            context.opened = await self._openings.names(context.allowed)
        while True:
            outlook = self._outlook(context)
            if outlook.choice is None:
                return outlook
            try:
                if await self.attempts.has_way(context, outlook.choice):
                    return outlook
            except Problem as problem:
                return Outlook(word="refused", plan=outlook.plan, problem=problem)

    def _outlook(self, context: RequestContext) -> Outlook:
        """The same, as if there were a way to every pair."""
        now, plan = self.clock.now(), self.plan(context)
        choice = plan.choices[0] if plan.choices else None
        if choice is not None and not (self._rather_wait(context, plan, choice) or self._others_first(plan)):
            return Outlook(word="goes", plan=plan, choice=choice)
        if choice is None and (self._in_vain(plan) or self._hopeless(plan, now)):
            return Outlook(word="refused", plan=plan, problem=self._give_up(context, plan))
        if not self.waiting.has_room(len(context.payload.body)):
            if choice is not None and not self._others_first(plan):
                return Outlook(word="goes", plan=plan, choice=choice)
            return Outlook(word="refused", plan=plan, problem=self._give_up(context, plan, "queue_full"))
        if choice is not None:
            longest = max(0.0, context.request.accepted + self.limits.overflow_after - now)
            return Outlook(word="waits", plan=plan, choice=choice, wait_seconds=min(longest, self.limits.max_wait))
        problem = self._give_up(context, plan, "queue_timeout")
        return Outlook(word="waits", plan=plan, problem=problem, wait_seconds=self.limits.max_wait)

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

    def leaves_home(self, context: RequestContext, choice: Choice) -> bool:
        """Whether what is no work for a server would take a prompt where a chat would not go first."""
        if context.request.takes_slot:
            return False
        return choice.ask.leg.index > 0 or (choice.candidate.cloud and not all(c.cloud for c in self._nearest(context)))

    async def open(self, context: RequestContext) -> OpenReply:
        """The reply of the best pair that answers.  Raises Problem where none does, StageError where a stage crashes."""
        if context.request.flexible:
            context.opened = await self._openings.names(context.allowed)
        if len(self.waiting):
            self.waiting.pump_due()
        while True:
            try:
                turn = self._choose_at_once(context) or await self._wait(context)
            except Problem as problem:
                turn = await self._looked_for(context, problem)
            opened = await self.attempts.make(context, turn)
            if opened is not None:
                return opened
            if self._enough(context):
                raise self._all_failed(context, context.plan)
            if self._out_of_time(context):
                raise self._all_failed(context, self.plan(context), over=self.attempts.shared(context))

    async def _looked_for(self, context: RequestContext, problem: Problem) -> Turn:
        """The best pair, claimed, after there was none.  A name that nobody is known to serve is looked for once before that is said; who
        is down is asked soon.  Raises Problem."""
        if context.attempts or context.plan is None or context.plan.objections or context.plan.choices:
            self._doubt(context)
            raise problem
        await self.learn(name for leg in context.legs for name in leg.ids)
        return self._choose_at_once(context) or await self._wait(context)

    def _doubt(self, context: RequestContext) -> None:
        """Ask those soon that are down and could have served it."""
        down = {
            c.backend
            for leg in context.legs
            if not leg.any_model
            for c in self.fleet.candidates(leg)
            if c.health is Health.UNHEALTHY
        }
        for backend in down:
            self.fleet.doubted(backend)

    def _all_failed(self, context: RequestContext, plan: Plan | None, over: str = "") -> Problem:
        needs = (*context.request.needs, context.request.task)
        return verdict.all_failed(plan, context.attempts, needs, context.retry_after, over)

    def _enough(self, context: RequestContext) -> bool:
        """Whether no more pairs are tried.  One that is busy has not been tried: it is asked again, as long as the request may wait."""
        return tries(context.attempts) >= self.limits.max_attempts or sum(a.times for a in context.attempts) >= MOST_ATTEMPTS

    def _out_of_time(self, context: RequestContext) -> bool:
        """Whether the deadline that all attempts share has passed, or as good as: another pair could only be blamed for it."""
        return context.first_byte_by is not None and self.clock.now() >= context.first_byte_by - LEAST_SECONDS

    # ------------------------------------------------------------ choosing and waiting

    def _choose(self, context: RequestContext, *, patient: bool = True, newcomer: bool = False) -> Turn | None:
        """The best pair, claimed in the same tick; None where waiting may help.  Raises Problem where it cannot.

        A `patient` request leaves a pair that is not at home for later while home may still come free, a `newcomer` what others wait for.
        """
        start = perf_counter()
        plan = context.plan = self.plan(context)
        context.routing_seconds += perf_counter() - start
        choice = plan.choices[0] if plan.choices else None
        if choice is not None and not context.request.takes_slot and self.leaves_home(context, choice):
            raise Problem(503, "no_backend_available", "no server that a chat would go to first can do this")
        if choice is not None and not (
            (patient and self._rather_wait(context, plan, choice))
            or (newcomer and self.waiting.come_first(choice.candidate.backend))
        ):
            context.reason = self.reason(context, plan, choice)
            claim = self.fleet.claim(choice.candidate, context.request)
            return Turn(choice=choice, claim=claim, patience=self.attempts.patience_for(claim))
        if choice is None and self._in_vain(plan):
            raise self._give_up(context, plan)
        return None

    def _choose_at_once(self, context: RequestContext) -> Turn | None:
        """For a request that has not waited yet."""
        waits = context.request.takes_slot
        return self._choose(context, patient=waits, newcomer=waits)

    def _in_vain(self, plan: Plan) -> bool:
        """Whether waiting for a pair would help nobody: none is held back by what passes, and none may still become known."""
        return not waitable(plan) and bool(plan.objections or self.fleet.settled)

    def _unknown(self, context: RequestContext) -> Problem:
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

    def _rather_wait(self, context: RequestContext, plan: Plan, choice: Choice) -> bool:
        """Whether home may still come free before the time for overflow (`overflow_after_seconds`)."""
        if choice.ask.leg.index == 0 and not choice.candidate.cloud:
            return False
        if self.clock.now() >= context.request.accepted + self.limits.overflow_after:
            return False
        home = (c for c in waitable(plan) if not c.cloud) if plan.objections else ()
        return any(not candidate.ejected_until for candidate in home)  # what keeps failing there is nothing to wait for

    def _give_up(self, context: RequestContext, plan: Plan, code: str | None = None) -> Problem:
        if context.attempts:
            return self._all_failed(context, plan)
        if not (plan.objections or plan.choices):
            return self._unknown(context)
        return verdict.no_choice(plan, self.clock.now(), len(self.waiting), code, self.fleet.silent())

    async def _wait(self, context: RequestContext) -> Turn:
        plan = context.plan
        assert plan is not None
        if not context.request.takes_slot:
            raise self._give_up(context, plan)
        began = self.clock.now()
        if self._hopeless(plan, began - context.queue_seconds):
            raise self._give_up(context, plan)
        waiter: Waiter[Turn]

        def attempt() -> Turn | None:
            turn = self._choose(context)
            if turn is None:
                waiter.condition = self._condition(context)
            return turn

        others_first, size = self._others_first(plan), len(context.payload.body)
        waiter = Waiter(context.request, size, attempt, self._condition(context), began - context.queue_seconds)
        try:
            return await self.waiting.wait(waiter, ask=others_first)
        except QueueFull:
            return self._last_chance(context, "queue_full", newcomer=True)
        except WaitedTooLong:
            return self._last_chance(context, "queue_timeout")
        except asyncio.CancelledError:
            waiter.give_back(lambda turn: turn.claim.finish("left"))
            raise
        finally:
            waited = self.clock.now() - began
            context.queue_seconds += waited
            if context.first_byte_by is not None:
                context.first_byte_by += waited  # nobody was asked meanwhile; how long that may last is the queue's to say

    def _last_chance(self, context: RequestContext, code: str, *, newcomer: bool = False) -> Turn:
        """No more waiting: what was free all the time, but not at home, is better than nothing.  Raises Problem."""
        turn = self._choose(context, patient=False, newcomer=newcomer)
        if turn is None:
            assert context.plan is not None
            raise self._give_up(context, context.plan, code)
        return turn

    def _others_first(self, plan: Plan) -> bool:
        """Whether what is free has been freed for somebody who waits, and who is still to be asked."""
        return bool(plan.choices) and self.waiting.come_first(plan.choices[0].candidate.backend)

    def _condition(self, context: RequestContext) -> Condition:
        """What may help, after the last plan found nothing.  Of that plan no more is kept than this, as long as the request waits."""
        plan, now = context.plan, self.clock.now()
        assert plan is not None
        own_at = context.request.accepted + self.limits.overflow_after if plan.choices else 0.0
        context.plan = replace(plan, choices=(), objections=())
        return attrs.evolve(condition_of(plan, now, mark=context), own_at=own_at if own_at > now else None)

    def _hopeless(self, plan: Plan, now: float) -> bool:
        """Whether all that may wait is paused for longer than anybody may wait."""
        held = waitable(plan)
        paused = [c for c in held if c.paused_until > now + self.limits.max_wait]
        return bool(held) and len(paused) == len(held) and not plan.choices

    def tell(self, choice: Choice) -> dict[str, str]:
        """What the stages want to say in `X-Nexus-*` headers.  Raises StageError."""
        told: dict[str, str] = {}
        for name, tell in self.pipeline.tell:
            try:
                said = tell(choice.ask, choice.candidate)
                if said is not EMPTY:
                    told.update(said)
            except CRASHES_OF_A_CALL as error:
                raise StageError(name, "tell", error) from error
        return told
