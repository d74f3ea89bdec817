"""A decision becomes an open reply: claim, wait, try, and try elsewhere.  The only retry rule is here; one try is made in `attempt`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import attrs

from nexus.attempt import Attempts, Turn
from nexus.conditions import condition_of
from nexus.context import RequestContext
from nexus.decision import GOES, QUEUE_FULL, QUEUE_TIMEOUT, REFUSED, WAITS, Decider, Decision
from nexus.errors import CRASHES_OF_A_CALL, Problem, StageError
from nexus.fleet import Fleet
from nexus.model import EMPTY, Choice, Health, Plan, replace
from nexus.model.attempt import tries
from nexus.reply import OpenReply
from nexus.waiters import Condition, Waiter
from nexus.waiting import QueueFull, WaitedTooLong, Waiting

LEAST_SECONDS = 0.02  # with less left of the time for all attempts no other is begun
MOST_ATTEMPTS = 32  # of one request, those counted to which a busy server answered


Learn = Callable[[Iterable[str]], Awaitable[None]]
"""Asks the backends anew that may serve one of the names by now."""


async def _nothing_new(names: Iterable[str]) -> None:
    """Where nobody probes."""


@attrs.frozen(kw_only=True)
class Outlook:
    """What would become of a request now, told to its end.

    `decision` is made as if there were a way to every pair; `problem` is what the client would be told where it is refused, or has waited
    for `wait_seconds` in vain.
    """

    decision: Decision
    problem: Problem | None = None
    wait_seconds: float | None = None


class Dispatcher:
    """Claims, waits, tries, and tries elsewhere.  `learn` looks for names that nobody is known to serve."""

    def __init__(self, decider: Decider, attempts: Attempts) -> None:
        self.decider = decider
        self.attempts = attempts
        self.fleet: Fleet = decider.fleet
        self.waiting: Waiting[Turn] = decider.waiting
        self.now = decider.clock.now
        self.limits = decider.limits
        self.learn: Learn = _nothing_new

    async def open(self, context: RequestContext) -> OpenReply:
        """The reply of the best pair that answers.  Raises Problem where none does, StageError where a stage crashes."""
        await self.decider.prepare(context)
        if len(self.waiting):
            self.waiting.pump_due()
        while True:
            opened = await self.attempts.make(context, await self._turn(context))
            if opened is not None:
                return opened
            if self._enough(context):
                raise self.decider.all_failed(context, context.plan)
            if self._out_of_time(context):
                raise self.decider.all_failed(context, self.decider.plan(context), over=self.attempts.shared(context))

    async def outlook(self, context: RequestContext) -> Outlook:
        """What `open` would do with the request now, up to the first byte to a server.  Claims nothing.  Raises StageError."""
        decider = self.decider
        await decider.prepare(context)
        while True:
            decision = decider.foresee(context)
            if decision.choice is None:
                break
            try:
                if await self.attempts.has_way(context, decision.choice):
                    break
            except Problem as problem:
                return Outlook(decision=Decision(word=REFUSED, plan=decision.plan), problem=problem)
        waits = decision.word == WAITS
        said = None if decision.choice else decider.problem(context, decision.plan, QUEUE_TIMEOUT if waits else decision.code)
        return Outlook(decision=decision, problem=said, wait_seconds=decider.longest_wait(context, decision) if waits else None)

    # ------------------------------------------------------------ a turn

    async def _turn(self, context: RequestContext) -> Turn:
        """The best pair, claimed.  A name that nobody is known to serve is looked for once before that is said; who is down is asked
        soon.  Raises Problem."""
        try:
            return await self._chosen(context)
        except Problem:
            if context.attempts or context.plan is None or context.plan.objections or context.plan.choices:
                self._doubt(context)
                raise
        await self.learn(name for leg in context.legs for name in leg.ids)
        return await self._chosen(context)

    async def _chosen(self, context: RequestContext) -> Turn:
        decision = self.decider.decide(context)
        return await self._wait(context, decision.plan) if decision.word == WAITS else self._claimed(context, decision)

    def _claimed(self, context: RequestContext, decision: Decision) -> Turn:
        """The pair of a decision, claimed in the same tick.  Raises Problem where it is refused."""
        choice = decision.choice
        if decision.word != GOES or choice is None:
            raise self.decider.problem(context, decision.plan, decision.code)
        context.reason = self.decider.reason(context, decision.plan, choice)
        claim = self.fleet.claim(choice.candidate, context.request)
        return Turn(choice=choice, claim=claim, patience=self.attempts.patience_for(claim))

    async def _wait(self, context: RequestContext, plan: Plan) -> Turn:
        began = self.now()
        waiter: Waiter[Turn]

        def attempt() -> Turn | None:
            decision = self.decider.decide(context, queued=True)
            if decision.word == WAITS:
                waiter.condition = self._condition(context, decision.plan)
                return None
            return self._claimed(context, decision)

        others_first, size = self.decider.others_first(plan), len(context.payload.body)
        waiter = Waiter(context.request, size, attempt, self._condition(context, plan), began - context.queue_seconds)
        try:
            return await self.waiting.wait(waiter, ask=others_first)
        except QueueFull:
            return self._claimed(context, self.decider.decide_at_last(context, QUEUE_FULL))
        except WaitedTooLong:
            return self._claimed(context, self.decider.decide_at_last(context, QUEUE_TIMEOUT))
        except asyncio.CancelledError:
            waiter.give_back(lambda turn: turn.claim.finish("left"))
            raise
        finally:
            waited = self.now() - began
            context.queue_seconds += waited
            if context.first_byte_by is not None:
                context.first_byte_by += waited  # nobody was asked meanwhile; how long that may last is the queue's to say

    def _condition(self, context: RequestContext, plan: Plan) -> Condition:
        """What may help, after a plan found nothing.  Of that plan no more is kept than this, as long as the request waits."""
        now = self.now()
        own_at = context.accepted + self.limits.overflow_after if plan.choices else 0.0
        context.plan = replace(plan, choices=(), objections=())
        return attrs.evolve(condition_of(plan, now, mark=context), own_at=own_at if own_at > now else None)

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

    def _enough(self, context: RequestContext) -> bool:
        """Whether no more pairs are tried.  One that is busy has not been tried: it is asked again, as long as the request may wait."""
        return tries(context.attempts) >= self.limits.max_attempts or sum(a.times for a in context.attempts) >= MOST_ATTEMPTS

    def _out_of_time(self, context: RequestContext) -> bool:
        """Whether the deadline that all attempts share has passed, or as good as: another pair could only be blamed for it."""
        return context.first_byte_by is not None and self.now() >= context.first_byte_by - LEAST_SECONDS

    def tell(self, choice: Choice) -> dict[str, str]:
        """What the stages want to say in `X-Nexus-*` headers.  Raises StageError."""
        told: dict[str, str] = {}
        for name, tell in self.decider.pipeline.tell:
            try:
                said = tell(choice.ask, choice.candidate)
                if said is not EMPTY:
                    told.update(said)
            except CRASHES_OF_A_CALL as error:
                raise StageError(name, "tell", error) from error
        return told
