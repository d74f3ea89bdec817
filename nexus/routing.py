"""Ask and candidates become a plan.  Pure and synchronous: between reading the fleet and claiming a pair nothing may await."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from nexus.api import Stage
from nexus.errors import CRASHES_OF_A_CALL, StageError, StartupError
from nexus.model import (
    NO_DEMAND,
    Ask,
    Call,
    Candidate,
    Choice,
    Demand,
    Event,
    Finished,
    Health,
    Leg,
    Objection,
    Payload,
    Plan,
    Refusal,
    RefusalKind,
    Request,
    State,
    Zone,
)
from nexus.model.candidate import FAILING

CORE = "core"
WAITABLE = (RefusalKind.WAIT, RefusalKind.RATE)

_DOWN = (CORE, Refusal(kind=RefusalKind.POLICY, code="down"))
_OFF = (CORE, Refusal(kind=RefusalKind.POLICY, code="off"))
_CLOSED = frozenset({State.OFF, State.LOADING})
_TRIED = (CORE, Refusal(kind=RefusalKind.POLICY, code="tried"))


Verb = Callable[..., Any]
Refusals = list[tuple[str, Refusal]]
Tried = Mapping[tuple[str, str], Refusals]
"""The pairs, by backend and model, that this request will not be sent to again, with who says why."""
NOTHING_TRIED: Tried = MappingProxyType({})
Judged = tuple[Ask, Candidate, Refusals]
Known = Callable[[Leg], tuple[Candidate, ...]]
"""A leg's pairs, in the order that equals keep."""


class Pipeline:
    """The active stages, resolved once into one tuple for each verb; a verb that a stage does not override is never called.

    `deaf` names the stages that failed to learn a `Finished`: they have lost count and refuse everything.
    """

    __slots__ = ("_learn", "_learners", "admit", "deaf", "describe", "lacks", "names", "prepare", "rank", "refuse", "tell")

    def __init__(self, stages: Iterable[tuple[str, Stage]]) -> None:
        listed = tuple(stages)

        def having(verb: str) -> tuple[tuple[str, Verb], ...]:
            return tuple((name, getattr(s, verb)) for name, s in listed if getattr(type(s), verb) is not getattr(Stage, verb))

        self.names = tuple(name for name, _ in listed)
        self.describe = having("describe")
        self.refuse = having("refuse")
        self.rank = having("rank")
        self.prepare = having("prepare")
        self.admit: tuple[tuple[str, Callable[[Call], Awaitable[None]]], ...] = having("admit")
        self.tell = having("tell")
        self.lacks = having("lacks")
        hears = {name: _event_types(name, s.hears) for name, s in listed}
        self._learn = tuple((name, learn, hears[name]) for name, learn in having("learn"))
        self._learners: dict[type[Event], tuple[tuple[str, Verb], ...]] = {}
        self.deaf: set[str] = set()

    def learners(self, kind: type[Event]) -> tuple[tuple[str, Verb], ...]:
        """Who learns of events of this very type.  Kept: to ask each stage again would cost a request 1.4 µs."""
        found = self._learners.get(kind)
        if found is None:
            found = self._learners[kind] = tuple([(name, learn) for name, learn, hears in self._learn if issubclass(kind, hears)])
        return found

    def lacking(self, candidate: Candidate) -> dict[str, float]:
        """What the stages have learnt that a pair cannot do, and for how many seconds.  Raises StageError."""
        found: dict[str, float] = {}
        for name, lacks in self.lacks:
            try:
                found.update(lacks(candidate))
            except CRASHES_OF_A_CALL as error:
                raise StageError(name, "lacks", error) from error
        return found

    def failed_to_learn(self, name: str, event: Event) -> None:
        """A stage that fails to learn a `Finished` is deaf from then on."""
        if isinstance(event, Finished):
            self.deaf.add(name)


class Circumstances(msgspec.Struct, kw_only=True):
    """What routing reads beside the request: the fleet's pairs for a leg, the moment, what was tried, the policies by name, what has
    bound the request already, which models the key may use, and which (dialect, task) of a server translation can reach.  `desperate` asks those too whose
    account or key was refused."""

    candidates: Known
    now: float
    tried: Tried = NOTHING_TRIED
    policy: Callable[[tuple[str, ...]], Demand] | None = None
    bound: Demand = NO_DEMAND
    allowed: Callable[[str], bool] | None = None
    reach: frozenset[tuple[str, str]] = frozenset()
    desperate: bool = False


def _event_types(stage: str, hears: Iterable[type[Event]]) -> tuple[type[Event], ...]:
    """Raises StartupError where a stage hears what are no types of events."""
    try:
        found = tuple(hears)
    except TypeError:
        found = (hears,)  # type: ignore[assignment]  # a type by itself, or nothing of the kind: told below
    if not all(isinstance(kind, type) and issubclass(kind, Event) for kind in found):
        raise StartupError(f"the stage {stage!r}: `hears` must be a tuple of event types")
    return found


def route(
    pipeline: Pipeline, request: Request, payload: Payload, legs: tuple[Leg, ...], at: Circumstances, *, whole: bool = False
) -> Plan:
    """The first leg that has a free pair decides; `whole` looks at all legs, for people.

    Raises StageError where a stage crashes.
    """
    objections: list[Objection] = []
    choices: list[Choice] = []
    base = at.bound if request.zone is Zone.OPEN else at.bound & Demand(zone=request.zone)
    for leg in legs:
        known = at.candidates(leg)
        demand = _described(pipeline, request, leg, payload, known)
        if at.policy is not None:
            demand = demand & _called(leg, known, at.policy)
        if base is not NO_DEMAND or leg.demand is not NO_DEMAND:
            demand = demand & base & leg.demand
        if leg.index == 0:
            base = demand
        if leg.index:
            known = _not_judged(leg, known, choices, objections)
        choices.extend(_leg(pipeline, Ask(request=request, leg=leg, demand=demand), known, at, objections))
        if choices and not whole and not _last_resort(choices[0], at.now):
            break
    if len(legs) > 1:
        choices = _fallbacks_first(choices, at.now, objections)
    return Plan(demand=base, choices=tuple(choices), objections=tuple(objections), legs=legs)


def _not_judged(
    leg: Leg, known: tuple[Candidate, ...], choices: Iterable[Choice], objections: Iterable[Objection]
) -> tuple[Candidate, ...]:
    """The pairs of a later leg without those of which nothing new would be said: what is chosen already is chosen once, and what the
    first leg refuses is refused for any model, too, of which no less is asked."""
    judged = {(choice.candidate.backend, choice.candidate.model) for choice in choices}
    if leg.any_model:
        judged |= {(o.candidate.backend, o.candidate.model) for o in objections if o.leg == 0}
    return known if not judged else tuple([c for c in known if (c.backend, c.model) not in judged])


def tried() -> Refusals:
    """Against a pair that has been asked, and would say the same again."""
    return [_TRIED]


def forbidden(stage: str, refusal: Refusal) -> Refusals:
    """Against a pair that has been objected to before a byte left.  What passes with time does not pass for this request."""
    return [(stage, refusal), *(tried() if refusal.kind in WAITABLE else ())]


def by_pair(objections: Iterable[Objection]) -> list[list[Objection]]:
    """The objections against each pair of each leg."""
    pairs: dict[tuple[int, str, str], list[Objection]] = {}
    for objection in objections:
        candidate = objection.candidate
        pairs.setdefault((objection.leg, candidate.backend, candidate.model), []).append(objection)
    return list(pairs.values())


def held_back(objections: Iterable[Objection]) -> list[list[Objection]]:
    """The objections against each pair to which there are none but such as pass with time."""
    return [against for against in by_pair(objections) if all(o.refusal.kind in WAITABLE for o in against)]


def by_rule(against: Iterable[Objection]) -> bool:
    """Whether the operator's rules keep the pair from the request, for whoever asks or for this key, however its backend fares."""
    return any(o.refusal.kind is RefusalKind.DENIED or (o.refusal.kind is RefusalKind.POLICY and o.stage != CORE) for o in against)


def waitable(plan: Plan) -> tuple[Candidate, ...]:
    """The pairs that are held back by nothing but what passes with time."""
    return tuple([against[0].candidate for against in held_back(plan.objections)])


def reason(pipeline: Pipeline, plan: Plan, choice: Choice, known: Known, *, again: bool, failed_before: bool) -> str:
    """The contract's `X-Nexus-Route-Reason`: the first that holds.  `again` where the plan is not the request's first (`tried`).
    Raises StageError where a stage crashes."""
    if failed_before:
        return "failover"
    if choice.ask.leg.index:
        return "fallback"
    if choice.candidate.cloud and any(not c.cloud for c in waitable(plan)):
        return "capacity-overflow"
    if plan.objections and _bound_by_zone(pipeline, plan, choice, known, _surest if again else _order):
        return "privacy-requirement"
    return "capability-match"


def _bound_by_zone(pipeline: Pipeline, plan: Plan, choice: Choice, known: Known, order: Callable[[Choice], Any]) -> bool:
    """Whether another pair would have been chosen, had it not been for the zone alone."""
    leg, place = choice.ask.leg, order(choice)
    against = [found for found in by_pair(plan.objections) if found[0].leg == leg.index]
    refused = [found[0].candidate for found in against if len(found) == 1 and found[0].refusal.code == "zone"]
    for candidate in refused:
        # what is said of a choice by its pair alone may settle it: stages are asked only where it does not
        if order(Choice(ask=choice.ask, candidate=candidate, score=-math.inf)) > place:
            continue
        own = order(_scored(pipeline, choice.ask, candidate))
        if own < place or (own == place and _named_first(known(leg), candidate, choice.candidate)):
            return True
    return False


def _named_first(known: Iterable[Candidate], one: Candidate, other: Candidate) -> bool:
    """Whether the fleet names the one before the other, as it stays among equals."""
    return _is(next(c for c in known if _is(c, one) or _is(c, other)), one)


def _is(one: Candidate, other: Candidate) -> bool:
    return one.backend == other.backend and one.model == other.model


def _described(pipeline: Pipeline, request: Request, leg: Leg, payload: Payload, known: tuple[Candidate, ...]) -> Demand:
    demand, name = NO_DEMAND, ""
    try:
        for name, describe in pipeline.describe:  # noqa: B007 - the handler below names it
            asked = describe(request, leg, payload, known)
            if not isinstance(asked, Demand):
                raise TypeError(f"it must return a Demand, not {asked!r}")
            if asked is not NO_DEMAND:
                demand = asked if demand is NO_DEMAND else demand & asked
    except CRASHES_OF_A_CALL as error:
        raise StageError(name, "describe", error) from error
    return demand


def _leg(
    pipeline: Pipeline, ask: Ask, known: tuple[Candidate, ...], at: Circumstances, objections: list[Objection]
) -> list[Choice]:
    choices: list[Choice] = []
    resting: list[Judged] = []
    before = 0 if ask.leg.any_model else len(objections)  # who is known by name is one of all
    for candidate in known:
        own = _own(ask, candidate, at.policy) if ask.leg.any_model and at.policy is not None else ask
        refusals = _refusals(pipeline, own, candidate, at)
        if candidate.ejected_until:
            resting.append((own, candidate, refusals))
        elif refusals:
            objections.extend(_objections(own, candidate, refusals))
        else:
            choices.append(_scored(pipeline, own, candidate))
    if resting:
        spared = bool(choices or held_back(objections[before:]))
        for own, candidate, refusals in _rested(resting, at.now, spared=spared):
            if refusals:
                objections.extend(_objections(own, candidate, refusals))
            else:
                choices.append(_scored(pipeline, own, candidate))
    if len(choices) > 1:
        choices.sort(key=_surest if at.tried else _order)
    return choices


def _objections(ask: Ask, candidate: Candidate, refusals: Refusals) -> list[Objection]:
    return [Objection(stage=stage, candidate=candidate, leg=ask.leg.index, refusal=refusal) for stage, refusal in refusals]


def _rested(resting: Iterable[Judged], now: float, *, spared: bool) -> Iterator[Judged]:
    """Those whose traffic kept failing are `spared` where another of the leg can serve the request, now or soon: never the last that can."""
    for own, candidate, refusals in resting:
        if spared and _rests(candidate, now):
            yield own, candidate, [*refusals, _ejected(candidate)]
        else:
            yield own, candidate, refusals


def _ejected(candidate: Candidate) -> tuple[str, Refusal]:
    return CORE, Refusal(kind=RefusalKind.WAIT, code="ejected", retry_at=candidate.ejected_until)


def _last_resort(choice: Choice, now: float) -> bool:
    """Whether it has the request only since nobody else of its leg can: all others of the leg are no better, then."""
    return choice.candidate.ejected_until > 0 and _rests(choice.candidate, now)


def _fallbacks_first(choices: list[Choice], now: float, objections: list[Objection]) -> list[Choice]:
    """Whose traffic kept failing comes after the fallbacks, too."""
    better = [choice for choice in choices if not _last_resort(choice, now)]
    if not better or len(better) == len(choices):
        return choices
    for choice in choices:
        if _last_resort(choice, now):
            objections.extend(_objections(choice.ask, choice.candidate, [_ejected(choice.candidate)]))
    return better


def _rests(candidate: Candidate, now: float) -> bool:
    """Whether its time is not over, or the one exchange that tries it again is under way: with the server, or with this model."""
    trying = candidate.backend_in_flight if candidate.ejected_backend else candidate.in_flight
    return now < candidate.ejected_until or trying > 0


def _order(choice: Choice) -> tuple[bool, bool, float]:
    """Home first; what keeps failing comes last there, whatever the strategy."""
    candidate = choice.candidate
    return candidate.cloud, candidate.failures > FAILING, choice.score


def _surest(choice: Choice) -> tuple[bool, bool, float, float]:
    """For a request that has failed already: its attempts are few, so they go where the least has failed lately."""
    candidate = choice.candidate
    return candidate.failures > FAILING, candidate.cloud, candidate.failures, choice.score


def _called(leg: Leg, known: tuple[Candidate, ...], policy: Callable[[tuple[str, ...]], Demand]) -> Demand:
    """What the policies ask of a leg: by the names on its way, and by every other name of the models that are meant."""
    demand = policy(leg.trail)
    if not leg.any_model:
        for candidate in known:
            demand = demand & policy(candidate.names)
    return demand


def _own(ask: Ask, candidate: Candidate, policy: Callable[[tuple[str, ...]], Demand]) -> Ask:
    """The ask for a pair that nobody has asked for by name: the policies of its own names bind too."""
    demand = policy(candidate.names)
    if demand is NO_DEMAND:
        return ask
    both = ask.demand & demand
    return ask if both == ask.demand else Ask(request=ask.request, leg=ask.leg, demand=both)


def _refusals(pipeline: Pipeline, ask: Ask, candidate: Candidate, at: Circumstances) -> Refusals:
    refusals = _core(ask, candidate, at)
    name = ""
    try:
        for name, refuse in pipeline.refuse:
            refusal = refuse(ask, candidate)
            if refusal is not None:
                refusals.append((name, refusal))
    except CRASHES_OF_A_CALL as error:
        raise StageError(name, "refuse", error) from error
    if pipeline.deaf:
        refusals += [(name, Refusal(kind=RefusalKind.POLICY, code="stage_lost_count")) for name in pipeline.deaf]
    return refusals


def _opens(allowed: Callable[[str], bool], leg: Leg, candidate: Candidate) -> bool:
    """Whether a key opens the pair.  What the client has asked for by name is opened already; a fallback, any model, and a model that
    its server spells otherwise, which a glob may be made to match, are not."""
    if leg.index:
        return allowed(candidate.name) or (not leg.any_model and allowed(leg.name))
    names = candidate.names
    return any(id in names for id in leg.ids) or any(map(allowed, names))


def _understands(candidate: Candidate, request: Request, at: Circumstances) -> bool:
    """Whether the server speaks the client's dialect, or one that the request can be translated to.  Unknown passes."""
    speaks = candidate.speaks
    if candidate.missing:
        return candidate.takes(request.dialect, request.task) or not at.reach.isdisjoint(speaks - candidate.missing)
    return not speaks or (request.dialect, request.task) in speaks or not at.reach.isdisjoint(speaks)


def _core(ask: Ask, candidate: Candidate, at: Circumstances) -> Refusals:
    """What nobody may switch off: keys, health, dialect, pauses, free slots."""
    request = ask.request
    objected: Refusals = []
    if at.allowed is not None and not _opens(at.allowed, ask.leg, candidate):
        objected.append((CORE, Refusal(kind=RefusalKind.DENIED, code="key", data={"model": candidate.name})))
    if not _understands(candidate, request, at):
        asked = {"dialect": request.dialect, "task": request.task}
        objected.append((CORE, Refusal(kind=RefusalKind.NEVER, code="dialect", data=asked)))
    if at.tried and (known := at.tried.get((candidate.backend, candidate.model))):
        objected += known  # what it said to this request is no second reason
    elif candidate.health is Health.UNHEALTHY:
        objected.append(_DOWN)
    else:
        _object_now(objected, request, candidate, at)
    return objected


def _object_now(objected: Refusals, request: Request, candidate: Candidate, at: Circumstances) -> None:
    """Add what passes with time."""
    if candidate.state in _CLOSED:
        loading = Refusal(kind=RefusalKind.WAIT, code="loading", data=_eta(candidate))
        objected.append(_OFF if candidate.state is State.OFF else (CORE, loading))
    if candidate.paused_until > at.now:
        data = {"status": candidate.paused_status, "for_seconds": math.ceil(candidate.paused_until - at.now)}
        refusal = Refusal(kind=RefusalKind.RATE, code="paused", data=data, retry_at=candidate.paused_until)
        objected.append((CORE, refusal))
    if candidate.suspended_until > at.now and not at.desperate:
        seconds = math.ceil(candidate.suspended_until - at.now)
        objected.append((CORE, Refusal(kind=RefusalKind.POLICY, code="suspended", data={"for_seconds": seconds})))
    if request.takes_slot and candidate.full:
        objected.append((CORE, Refusal(kind=RefusalKind.WAIT, code="busy", data=_taken(candidate))))
    elif request.takes_slot and candidate.waits_for:
        waits = {"for": candidate.waits_for, "in_flight": candidate.backend_in_flight, "seconds": candidate.seconds}
        objected.append((CORE, Refusal(kind=RefusalKind.WAIT, code="swap", data=waits)))


def _taken(candidate: Candidate) -> Mapping[str, Any]:
    """The slots that are all taken: the server's, else its domain's."""
    held, capacity = candidate.backend_in_flight, candidate.capacity
    if capacity is None or held < capacity:
        held, capacity = candidate.domain_in_flight, candidate.domain_capacity
    return {"in_flight": held, "capacity": capacity, "seconds": candidate.seconds}


def _eta(candidate: Candidate) -> Mapping[str, Any]:
    return {"eta_seconds": candidate.eta} if candidate.eta is not None else {}


def _scored(pipeline: Pipeline, ask: Ask, candidate: Candidate) -> Choice:
    parts, total, name = [], 0.0, ""
    try:
        for name, rank in pipeline.rank:
            seconds = rank(ask, candidate)
            if seconds:
                parts.append((name, seconds))
                total += seconds
    except CRASHES_OF_A_CALL as error:
        raise StageError(name, "rank", error) from error
    return Choice(ask=ask, candidate=candidate, score=total, parts=tuple(parts))
