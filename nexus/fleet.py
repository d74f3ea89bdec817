"""Who is there, how they are, who is busy: the only mutable state that routing reads.  Nothing here awaits, probes or decides."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from typing import TypeVar

import attrs

from nexus.crossing import models_of, report_of
from nexus.health import Limits, Record, is_of_the_server
from nexus.index import MISSED_SECONDS, Index
from nexus.listing import Entry, Override, is_pattern
from nexus.model import (
    MOST_MODELS,
    NO_USAGE,
    OUT_OF_TIME,
    Candidate,
    Claimed,
    Fault,
    Finished,
    Health,
    Joined,
    Left,
    Leg,
    Listener,
    Model,
    Probed,
    Report,
    Request,
    State,
    Usage,
    Zone,
    replace,
)
from nexus.pairs import SERVER, Member, Pair, Standing
from nexus.plain import plain, rounded
from nexus.slices import at_once, step_by_step
from nexus.slots import Slots
from nexus.suspension import Suspension

__all__ = ["Claim", "Fleet", "Limits", "Member", "Override", "Standing"]

LOG = logging.getLogger("nexus.health")
SMOOTHING = 0.2
FAILURE_SMOOTHING = 0.3
FAILURE_HALF_LIFE_SECONDS = 30.0
DEFAULT_PAUSE_SECONDS = 5.0
MOST_SHOWN, LONGEST_SHOWN = 4, 100  # names in a line of the log, and letters of each

STEP = 1000  # models of a list that change in one turn of the loop; about 10 milliseconds

NOT_YET = (State.ASLEEP, State.LOADING)

T = TypeVar("T")
Steps = Generator[None, None, T]


class Claim:
    """A held slot.  `finish` gives it back, once; later calls do nothing.

    `asked` is the (dialect, task) that the server is asked for; `tries` marks the one request that asks who is suspended.
    """

    __slots__ = ("_done", "_fleet", "asked", "candidate", "id", "memory", "pair", "request", "since", "slots", "standing", "tries")

    def __init__(
        self, fleet: Fleet, id: int, standing: Standing, pair: Pair, candidate: Candidate, request: Request, since: float
    ) -> None:
        self._fleet = fleet
        self._done = False
        self.id = id
        self.standing = standing
        self.pair = pair
        self.slots = pair.slots
        self.memory = standing.memory if request.takes_slot and not pair.model.remote else None
        self.candidate = candidate
        self.request = request
        self.since = since
        self.asked = ("", "")
        self.tries = False

    def answered(self) -> None:
        """The server has begun to answer: what it had to load for this, it has loaded."""
        if not self._done and self.request.takes_slot and (self.memory is not None or self.pair.model.state in NOT_YET):
            self._fleet._begun(self)

    def finish(
        self,
        outcome: str,
        *,
        sent: bool = False,
        status: int | None = None,
        code: str = "",
        usage: Usage = NO_USAGE,
        cost: float | None = None,
        first_byte: float | None = None,
        retry_after: float | None = None,
    ) -> Finished | None:
        """End the claim.  `outcome` as in `Finished`; `first_byte` and `retry_after` in seconds."""
        if self._done:
            return None
        self._done = True
        now = self._fleet.now()
        event = Finished(
            at=now,
            claim=self.id,
            request=self.request,
            candidate=self.candidate,
            outcome=outcome,
            sent=sent,
            status=status,
            code=code,
            usage=usage,
            cost=cost,
            seconds=now - self.since,
            first_byte=first_byte,
        )
        self._fleet._finished(self, event, retry_after)
        return event


class Fleet:
    """All backends and their models.  `tell` hears every event; `freed` hears the domain that may have room again (a server's name
    stands for all of its models), `changed` the name of a backend that has come or gone, or serves other things or is otherwise
    well than before, `named` all names of a model that has several.  `claims` is how many there have been, `revision` counts what
    `changed` hears."""

    def __init__(self, now: Callable[[], float], tell: Listener, limits: Limits | None = None) -> None:
        self.now = now
        self.tell = tell
        self.freed: Callable[[str], None] = lambda name: None
        self.changed: Callable[[str], None] = lambda name: None
        self.doubted: Callable[[str], None] = lambda name: None
        self.named: Callable[[tuple[str, ...]], None] = lambda names: None
        self._limits = limits or Limits()
        self._standings: dict[str, Standing] = {}
        self._departed: dict[str, Standing] = {}
        self._domains: dict[str, Slots] = {}
        self._index = Index()
        self.claims = 0
        self.served: Counter[str] = Counter()  # public names that healthy backends serve now, and how many do
        self.served_changes = 0
        self._counted: dict[str, frozenset[str]] = {}
        self.revision = 0

    # ------------------------------------------------------------ reading

    @property
    def standings(self) -> Mapping[str, Standing]:
        return self._standings

    def candidates(self, leg: Leg) -> tuple[Candidate, ...]:
        """Every pair that may be meant by the leg, healthy or not.  Costs nothing for the rest of the fleet."""
        if leg.any_model:
            return tuple(c for standing in self._standings.values() for c in standing.candidates())
        if len(leg.ids) == 1:
            return tuple([standing.photo(pair) for pair, standing in self._index.find(leg.ids[0])])
        found = {pair: standing.photo(pair) for name in leg.ids for pair, standing in self._index.find(name)}
        return tuple(found.values())

    def has_candidates(self, leg: Leg) -> bool:
        """Whether any pair may be meant by the leg."""
        if leg.any_model:
            return any(standing.pairs for standing in self._standings.values())
        return any(name in self._index for name in leg.ids)

    def names(self) -> tuple[str, ...]:
        """Every public name that a backend serves which is not known to be down, in the order it was first seen."""
        up = [standing for standing in self._standings.values() if standing.pulse.health is not Health.UNHEALTHY]
        return tuple(dict.fromkeys(pair.name for standing in up for pair in standing.pairs.values()))

    def find(self, name: str) -> Iterable[tuple[Pair, Standing]]:
        """The pairs that are known by this name, healthy or not."""
        return self._index.find(name)

    def serves(self, name: str) -> bool:
        """Whether a healthy backend serves a model that it or the operator calls so."""
        return any(standing.pulse.health is Health.HEALTHY for _, standing in self._index.find(name))

    def missed(self, name: str) -> str | None:
        """The backend that served the name until it left, a short while ago; None where nobody did."""
        return self._index.missed(name, self.now())

    def serving(self, names: Iterable[str] | None) -> frozenset[str]:
        """The backends that are not known to be down and serve a model of one of the names (None: any)."""
        if names is None:
            found: Iterable[Standing] = self._standings.values()
        else:
            found = (standing for name in names for _, standing in self._index.find(name))
        return frozenset([s.member.name for s in found if s.pulse.health is not Health.UNHEALTHY])

    def has_room(self, domain: str) -> bool:
        """Whether a slot of the domain is free."""
        slots = self._domains.get(domain)
        return slots is not None and slots.has_room

    @property
    def settled(self) -> bool:
        """Whether every backend has been probed at least once."""
        return all(standing.last_probe is not None for standing in self._standings.values())

    def silent(self) -> list[str]:
        """The backends that have not said what they serve."""
        return [name for name, standing in self._standings.items() if standing.silent]

    def may_serve(self, names: Sequence[str] | None) -> list[Standing]:
        """Those of the silent ones that the operator lets serve one of these names (None: any)."""
        silent = [standing for standing in self._standings.values() if standing.silent]
        return silent if names is None else [s for s in silent if any(map(s.listing.may_have, names))]

    def is_expected(self, standing: Standing) -> bool:
        """Whether a silent backend may still be about to say what it serves: it has not been asked, or is as new as somebody who has
        left is missed."""
        return standing.last_probe is None or self.now() - standing.joined < MISSED_SECONDS

    # ------------------------------------------------------------ writing: who is there

    def join(self, member: Member, models: Iterable[Model] = ()) -> None:
        """A backend comes in; `models` are those it was last known to serve."""
        standing = Standing(member, self._limits, self._departed.pop(member.name, None))
        standing.joined = self.now()
        standing.slots.capacity = _capacity(member)
        self._standings[member.name] = standing
        self._enrol(standing)
        at_once(self._remembered(standing, models))
        self.tell(Joined(at=self.now(), backend=member.name, kind=member.kind, url=member.url, source=member.source))
        self._changed(member.name)

    async def remember(self, name: str, models: Sequence[Model]) -> None:
        """A backend that has just come in was last known to serve these; a few of them in a turn of the loop."""
        standing = self._standings.get(name)
        if standing is not None and models:
            await step_by_step(self._remembered(standing, models))
            self._changed(name)

    def _remembered(self, standing: Standing, models: Iterable[Model]) -> Steps[bool]:
        asleep = []
        for count, model in enumerate(models_of(models), 1):
            asleep.append(attrs.evolve(model, state=State.UNKNOWN, eta=None))
            if not count % STEP:
                yield
        return (yield from self._set_models(standing, asleep))

    def leave(self, name: str) -> None:
        """A backend is gone.  Claims on it stay valid until they finish, and take slots of it should it come again meanwhile."""
        standing = self._standings.pop(name, None)
        if standing is not None:
            self._index.miss(standing, self.now())
            self._index.remove(standing)
            self._tally(name, ())
            self._strike(standing)
            if standing.in_flight:
                self._departed[name] = standing
            self.tell(Left(at=self.now(), backend=name))
            self._changed(name)

    def report(self, name: str, report: Report, seconds: float) -> bool:
        """A probe ended.  Returns whether the models are others than before."""
        return at_once(self._reported(name, report, seconds))

    async def take_in(self, name: str, report: Report, seconds: float) -> bool:
        """The same, a few models of a long list in a turn of the loop."""
        return await step_by_step(self._reported(name, report, seconds))

    def _reported(self, name: str, report: Report, seconds: float) -> Steps[bool]:
        standing = self._standings.get(name)
        if standing is None:
            return False
        before = standing.pulse.health
        beyond = max(len(report.models or ()) - MOST_MODELS, 0)
        report, left_out = report_of(report)
        if len(report.models or ()) > STEP:
            yield
        self._calmed(standing)
        first, standing.report = standing.last_probe is None, report
        standing.pulse.probed(report.ok)
        standing.redraw()
        standing.load = report.load
        if report.models is not None:
            standing.omitted = left_out
        standing.slots.capacity = _capacity(standing.member, report)
        served = {pair.name for pair in standing.pairs.values()}
        changed = report.models is not None and (yield from self._set_models(standing, report.models))
        if len(standing.pairs) > STEP:
            yield
        if self._standings.get(name) is not standing:  # it has left meanwhile
            return False
        standing.last_probe = self.now()
        if changed and served != {pair.name for pair in standing.pairs.values()}:
            LOG.info("%s serves %s", name, _listed([pair.name for pair in standing.pairs.values()]))
        if left_out and (changed or first):
            self._left_out(name, left_out, beyond)
        health = standing.pulse.health
        if standing.lacks:
            self._relent(standing, changed=changed or health is not before)
        if changed or health is not before:
            self._tally(name, standing.pairs.values() if health is Health.HEALTHY else ())
        self._told(standing, before)
        self.tell(
            Probed(
                at=standing.last_probe,
                backend=name,
                health=health,
                seconds=seconds,
                models=len(standing.pairs),
                problem=standing.problem,
                changed=changed or health is not before,
            )
        )
        if changed or first or health is not before:
            self._changed(name)
        else:
            self.freed(name)
        return changed

    def _tally(self, name: str, pairs: Iterable[Pair]) -> None:
        """What the backend serves now, where it is healthy."""
        before, after = self._counted.pop(name, frozenset()), frozenset(pair.name for pair in pairs)
        self.served_changes += before != after
        for name_now in after - before:
            self.served[name_now] += 1
        for gone in before - after:
            self.served[gone] -= 1
            if not self.served[gone]:
                del self.served[gone]
        if after:
            self._counted[name] = after

    def _left_out(self, name: str, left_out: int, beyond: int) -> None:
        if left_out > beyond:
            few = left_out - beyond
            what = (
                "1 model is left out, since no request can ask for its id"
                if few == 1
                else f"{few} models are left out, since no request can ask for their ids"
            )
            LOG.warning("%s: %s", name, what)
        if beyond:
            LOG.warning("%s: models are left out, since only the first %d of a server are used", name, MOST_MODELS)

    def _told(self, standing: Standing, before: Health) -> None:
        """A line in the log for each change between well and unwell."""
        health, name = standing.pulse.health, standing.member.name
        if health is Health.UNHEALTHY and before is not Health.UNHEALTHY:
            LOG.warning("%s is unhealthy: %s", name, standing.problem)
        elif health is Health.HEALTHY and before is Health.UNHEALTHY:
            LOG.info("%s is healthy again", name)

    def _calmed(self, standing: Standing) -> None:
        """Old failures weigh less and less: a pair that ranking avoids would otherwise never get to show that it is well."""
        now = self.now()
        kept = 0.5 ** ((now - standing.calmed_at) / FAILURE_HALF_LIFE_SECONDS)
        standing.calmed_at = now
        for pair in standing.pairs.values():
            pair.failures = pair.failures * kept if pair.failures > 0.001 else 0.0

    def _changed(self, name: str) -> None:
        self.revision += 1
        self.changed(name)

    def place(self, name: str, zone: Zone, evidence: str) -> None:
        """The zone of a backend, once its address is known."""
        standing = self._standings.get(name)
        if standing is not None and (standing.member.zone, standing.member.zone_evidence) != (zone, evidence):
            standing.member = replace(standing.member, zone=zone, zone_evidence=evidence)
            standing.redraw()
            self._changed(name)

    def blame(self, claim: Claim, problem: str) -> None:
        """The backend will not serve this pair, though its probes are fine: ranking avoids the pair from now on, as after many
        failures.  `problem`, where there is one, is told until an exchange with the backend is good."""
        if not claim.request.takes_slot:
            return
        self._calmed(claim.standing)  # up to now, so that the next probe does not count the time before it
        claim.pair.failures = 1.0
        claim.standing.blame = problem or claim.standing.blame
        claim.standing.version += 1

    def is_news(self, claim: Claim, fault: Fault, problem: str, *, model_only: bool) -> bool:
        """Whether the same was not said before, of the backend or of this model, with no good exchange since: what says nothing but a
        status once may dislike one request; said twice it is the server's word.  `problem` is told meanwhile, as in `blame`."""
        standing = claim.standing
        about = (fault, claim.pair.model.id if model_only else "")
        if about in standing.doubts or not claim.request.takes_slot:
            return False
        standing.doubts.add(about)
        standing.blame = problem or standing.blame
        return True

    def suspend(self, claim: Claim, reason: str, *, model_only: bool) -> None:
        """The account or the key was refused, for every model or for this one: but for one request now and then nobody is sent there
        who can be served elsewhere, until an exchange is good.  `reason` is for people."""
        if not claim.request.takes_slot:
            return
        standing, held = claim.standing, claim.pair if model_only else claim.standing
        now, known = self.now(), held.suspension
        if known is None:
            known = held.suspension = Suspension(reason, now)
        elif claim.tries:
            known.failed_again(reason, now)
        else:
            return
        standing.version += 1
        name = f"{standing.member.name} ({claim.pair.name})" if model_only else standing.member.name
        LOG.warning("%s: %s; one request tries it again in %d s", name, reason, known.seconds)

    def lack(self, claim: Claim) -> None:
        """The server has not the path that it was asked for: nobody is sent there for the same until a probe sees a change, or its time is
        over.  Then it is tried again, and left alone twice as long where it says the same."""
        standing, now = claim.standing, self.now()
        known = standing.lacks.get(claim.asked)
        if known is None:
            known = standing.lacks[claim.asked] = Suspension("it has not the path", now)
        elif known.try_again(now):
            known.failed_again(known.reason, now)
        standing.missing |= {claim.asked}
        standing.redraw()
        LOG.info("%s has no path for %s %s; it is tried again in %d s", standing.member.name, *claim.asked, known.until - now)

    def _relent(self, standing: Standing, *, changed: bool) -> None:
        """What was said of paths holds until the server is another one, or its time is over."""
        now = self.now()
        if changed:
            standing.served.clear()
            standing.lacks.clear()
        standing.missing = frozenset([asked for asked, known in standing.lacks.items() if known.until > now])

    # ------------------------------------------------------------ writing: who is busy

    def claim(self, candidate: Candidate, request: Request) -> Claim:
        """Take a slot of the pair, in the same tick as it was chosen."""
        standing = self._standings[candidate.backend]
        pair = standing.pair(candidate.model)
        self.claims += 1
        now = self.now()
        claim = Claim(self, self.claims, standing, pair, candidate, request, now)
        if claim.memory is not None:
            claim.memory.begin(pair.model.id, claim.id, at_home=standing.at_home(pair))
        self._count(claim, request.takes_slot)
        if candidate.suspended_until:
            claim.tries = _tries(standing.suspension, now) or _tries(pair.suspension, now)
        self.tell(Claimed(at=now, claim=claim.id, request=request, candidate=candidate))
        return claim

    def _count(self, claim: Claim, change: int) -> None:
        standing, pair = claim.standing, claim.pair
        standing.slots.in_flight += change
        if claim.slots is not standing.slots:
            claim.slots.in_flight += change
        pair.claimed += change
        standing.version += 1

    def _begun(self, claim: Claim) -> None:
        """Who was told that the model is loading may have it, too."""
        loading = claim.pair.model.state is State.LOADING
        self._answered(claim)
        if loading:
            self.freed(claim.standing.widest(claim.pair, claim.slots))

    def _answered(self, claim: Claim) -> None:
        """Where the model had to be loaded, what else is still resident is the server's to say."""
        loaded = claim.memory is not None and claim.memory.answered(claim.pair.model.id, claim.id)
        if loaded:
            self._reloaded(claim)
        if loaded or claim.pair.model.state in NOT_YET:
            self._awake(self._heir(claim.standing), claim.pair)

    def _heir(self, standing: Standing) -> Standing:
        """The backend of its name that is there now, which has taken over the pairs that claims hold slots of; itself while there is
        none."""
        return self._standings.get(standing.member.name, standing)

    def _reloaded(self, claim: Claim) -> None:
        """A load is over, and has driven out nobody knows whom."""
        standing = self._standings.get(claim.standing.member.name)
        if standing is not None:
            standing.resident = frozenset()
            standing.redraw()
            self.doubted(standing.member.name)

    def _finished(self, claim: Claim, event: Finished, retry_after: float | None) -> None:
        standing, pair = claim.standing, claim.pair
        helped = (
            standing.slots.domain if standing.record.ejected_until else standing.widest(pair, claim.slots)
        )  # all wait for who tries it again
        self._count(claim, -event.request.takes_slot)
        if claim.memory is not None:
            if event.outcome == "ok":
                self._answered(claim)
            if claim.memory.end(pair.model.id, claim.id):
                self._reloaded(claim)
        if event.outcome == "ok" and claim.asked not in standing.served:
            standing.served.add(claim.asked)
            if standing.lacks.pop(claim.asked, None) is not None:
                standing.missing -= {claim.asked}
                standing.redraw()
        if event.request.takes_slot:
            if event.outcome == "ok":
                self._went_well(standing, pair, event)
            elif event.code != OUT_OF_TIME:
                self._recorded(standing, pair, event)
                self._judge(standing, pair, event, retry_after)
        if standing is not self._standings.get(standing.member.name):
            self._outlived(standing)
        self.tell(event)
        self.freed(helped)

    def _outlived(self, standing: Standing) -> None:
        """A claim has ended on a backend that has left; another of its name may have come, and counts what is left of its claims.
        That one may have left as well: only its own count says whether it is still remembered for claims."""
        name = standing.member.name
        last = self._departed.get(name)
        if name in self._standings:
            self._standings[name].redraw()
        elif last is not None and not last.in_flight:
            del self._departed[name]

    def _recorded(self, standing: Standing, pair: Pair, event: Finished) -> None:
        """A server is well that answers, whatever it says; a pair whose answers are good.  A timeout says nothing of the server."""
        failed = event.outcome in ("failed", "timeout")
        if failed and is_of_the_server(event.code, sent=event.sent):
            self._failed(standing.record, standing.member.name, event, event.code)
            return
        if event.status is not None or event.outcome == "failed":
            standing.record.served(True, event.at)
        if failed:
            why = f"it answered {event.status}" if event.code == "status" else event.code
            self._failed(self._record_of(pair), f"{standing.member.name} ({pair.name})", event, why)

    def _failed(self, record: Record, whose: str, event: Finished, why: str) -> None:
        """A failure in the record; a line in the log where that is one too many."""
        before = record.ejected_until
        record.served(False, event.at, why, waited=event.seconds if event.outcome == "timeout" else None)
        if record.ejected_until != before:
            seconds = record.ejected_until - event.at
            LOG.warning("%s is left out for %s s where another can serve: %s", whose, rounded(seconds), record.reason)

    def _record_of(self, pair: Pair) -> Record:
        if pair.record is None:
            pair.record = Record(self._limits)
        return pair.record

    def _went_well(self, standing: Standing, pair: Pair, event: Finished) -> None:
        """A good exchange: server and pair are well, and serve as quickly as this."""
        standing.record.served(True, event.at)
        (pair.record or self._record_of(pair)).served(True, event.at)
        if pair.failures:
            pair.failures -= FAILURE_SMOOTHING * pair.failures
        standing.blame = ""
        if standing.doubts:
            standing.doubts = {(fault, model) for fault, model in standing.doubts if model not in ("", pair.model.id)}
        if standing.suspension is not None or pair.suspension is not None:
            self._resume(standing, pair)
        self._measured(standing, pair, event)

    def _judge(self, standing: Standing, pair: Pair, event: Finished, retry_after: float | None) -> None:
        """What the end of an exchange that was not good says of how well the pair serves."""
        if event.outcome in ("failed", "timeout"):
            pair.failures += FAILURE_SMOOTHING * (1.0 - pair.failures)
            self.doubted(standing.member.name)
        elif event.outcome == "rate":
            seconds = DEFAULT_PAUSE_SECONDS if retry_after is None else retry_after
            if pair.paused_until <= event.at:  # the first of many that are told so at once
                LOG.info("%s (%s) asked for a pause of %s s", standing.member.name, pair.name, rounded(seconds))
            pair.paused_until = event.at + seconds
            pair.paused_status = event.status or 429

    def _resume(self, standing: Standing, pair: Pair) -> None:
        standing.suspension = pair.suspension = None
        LOG.info("%s (%s) serves again", standing.member.name, pair.name)

    def _measured(self, standing: Standing, pair: Pair, event: Finished) -> None:
        pair.seconds = _smooth(pair.seconds, event.seconds)
        if event.first_byte is not None and event.request.stream:
            pair.first_byte = _smooth(pair.first_byte, event.first_byte)
            generating = event.seconds - event.first_byte
            if event.usage.output_tokens > 1 and generating > 0:
                pair.speed = _smooth(pair.speed, event.usage.output_tokens / generating)
        if pair.model.state in NOT_YET:
            self._awake(self._heir(standing), pair)

    def _awake(self, standing: Standing, pair: Pair) -> None:
        """It has just answered."""
        pair.model = attrs.evolve(pair.model, state=State.READY, eta=None)
        standing.resident |= {pair.model.id}
        standing.redraw()

    # ------------------------------------------------------------ models

    def _set_models(self, standing: Standing, models: Iterable[Model]) -> Steps[bool]:
        """These are its models now.  Whenever it pauses, each is served either as it was before or as it is from now on."""
        entries = {entry[0].id: entry for entry in standing.listing.entries(models)}
        before = {id: pair.model for id, pair in (standing.pairs | standing.patterns).items()}
        standing.resident = frozenset([id for id, (model, _, _) in entries.items() if model.state is State.READY])
        if standing.memory is not None:
            standing.memory.listed(standing.resident)
        standing.redraw()
        if {id: model for id, (model, _, _) in entries.items()} == before:
            standing.pairs = {id: standing.pairs[id] for id in entries if id in standing.pairs}  # the order may be another
            return False
        for count, id in enumerate([id for id in before if id not in entries], 1):
            self._index.drop(standing, standing.drop(id))
            if not count % STEP:
                yield
        copies = _copies(entry[0] for entry in entries.values())
        new = [entry for id, entry in entries.items() if entry[0].digest or entry[0] != before.get(id)]
        for count, entry in enumerate(new, 1):
            self._put(standing, entry, copies, before.get(entry[0].id))
            if not count % STEP:
                standing.redraw()
                yield
        self._strike(standing)
        standing.listed(entries)
        self._enrol(standing)
        self._index.add_patterns(standing)
        standing.redraw()
        return True

    def _put(self, standing: Standing, entry: Entry, copies: Mapping[str, str], before: Model | None) -> None:
        pair = standing.put(entry, copies)
        model = pair.model
        if is_pattern(model.id):
            return
        self._domains[pair.slots.domain] = pair.slots
        self._index.add(standing, pair)
        if model.failed and not (before and before.failed):
            pair.failures = 1.0
        if model.aliases or pair.name != model.id:
            self.named((pair.name, model.id, *model.aliases))

    def _enrol(self, standing: Standing) -> None:
        self._domains |= {slots.domain: slots for slots in (standing.slots, *standing.domains.values())}

    def _strike(self, standing: Standing) -> None:
        for slots in (standing.slots, *standing.domains.values()):
            self._domains.pop(slots.domain, None)


def _copies(models: Iterable[Model]) -> Mapping[str, str]:
    """The least id of those that are the same weights, by their digest."""
    first: dict[str, str] = {}
    for model in models:
        if model.digest:
            first[model.digest] = min(model.id, first.get(model.digest, model.id))
    return first


def _capacity(member: Member, report: Report | None = None) -> int | None:
    """How many requests a server takes at once, of all models together: the operator's word, else its own, else its kind's."""
    return member.capacity or (report and report.capacity) or (member.default_capacity if member.slots == SERVER else None)


def _tries(suspension: Suspension | None, now: float) -> bool:
    return suspension is not None and suspension.try_again(now)


def _listed(names: list[str]) -> str:
    shown = ", ".join(plain(name[:LONGEST_SHOWN]) for name in names[:MOST_SHOWN])
    return (f"{shown} and {len(names) - MOST_SHOWN} more" if len(names) > MOST_SHOWN else shown) or "no model"


def _smooth(old: float | None, new: float) -> float:
    return new if old is None else old + SMOOTHING * (new - old)
