"""What is known of one backend and of each of its models, and the photograph that routing sees of them.

Only the fleet writes here; what it writes when is its business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from nexus.api import Backend
from nexus.health import Limits, Pulse, Record
from nexus.listing import Entry, Listing, Override, Speaks, is_pattern
from nexus.model import (
    Candidate,
    Fault,
    Health,
    Model,
    Report,
    State,
    Zone,
    replace,
)
from nexus.patience import Timeouts
from nexus.policies import normal
from nexus.slots import Memory, Slots
from nexus.suspension import Suspension

SERVER, RESIDENT = "server", "resident"  # words of `BackendKind.slots`
MOST_MEANT = 256  # models of one backend that stand behind patterns; the least asked for go


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A backend as wiring knows it.  `zone` is already decided, `zone_evidence` says by what.

    `capacity` is the operator's word: at most so many requests at once, of all models together.  `default_capacity` is the kind's,
    and `slots` says of what: as in `BackendKind`.  `models` are globs of the ids that may be used,
    `speaks` is what its kind's servers speak, `any_spelling` and `forwards` are as in `BackendKind`.
    """

    name: str
    kind: str
    url: str
    backend: Backend
    source: str = "config"
    zone: Zone = Zone.OPEN
    zone_evidence: str = ""
    cloud: bool = False
    tier: int = 1
    priority: int = 50
    capacity: int | None = None
    default_capacity: int | None = None
    slots: str = "server"
    timeouts: Timeouts | None = None
    models: tuple[str, ...] | None = None
    overrides: tuple[Override, ...] = ()
    speaks: Speaks = frozenset()
    any_spelling: bool = False
    forwards: tuple[str, ...] = ()


class Pair:
    """One model on one backend, and what its traffic has shown.  `slots` are those of its domain, which it may share with others;
    `claimed` is how many of them it holds itself.  `record` is of its answers, from the first on."""

    __slots__ = (
        "claimed",
        "failures",
        "first_byte",
        "model",
        "name",
        "paused_status",
        "paused_until",
        "photo",
        "photo_drawn",
        "photo_of",
        "record",
        "seconds",
        "slots",
        "speed",
        "suspension",
        "written",
    )

    def __init__(self, model: Model, name: str, written: Override | None, slots: Slots) -> None:
        self.model = model
        self.name = name
        self.written = written
        self.slots = slots
        self.claimed = 0
        self.failures = 0.0
        self.first_byte: float | None = None
        self.seconds: float | None = None
        self.speed: float | None = None
        self.paused_until = 0.0
        self.paused_status = 429
        self.suspension: Suspension | None = None
        self.record: Record | None = None
        self.photo: Candidate | None = None
        self.photo_of = self.photo_drawn = -1

    def spellings(self) -> Iterable[str]:
        """What all spellings share of the names that its server gives it; of the operator's own name there is one spelling."""
        return {normal(name) for name in self.known} if self.name == self.model.id else ()

    @property
    def known(self) -> Iterable[str]:
        """The names by which a client may ask for it."""
        aliases = self.model.aliases
        return dict.fromkeys((self.name, *aliases)) if aliases and self.name == self.model.id else (self.name,)


class Standing:
    """One backend in the fleet.  Read it; only the fleet writes it.

    `slots` are the server's own, which every claim on any of its models takes one of; `domains` are those of models that have slots
    of their own, by id.  `memory` is there where its models go side by side only while they are resident.  `departed` are
    the pairs that are not listed any more and still have claims.  `patterns` are the pairs that stand for many names, and serve nobody
    by themselves; `behind` are those that were made of them, by their ids.  `record` is of its connections, with any of its models.
    `version` counts its changes, `redrawn` those that are more than traffic's.  `report` is the last probe's.  `blame` is what
    traffic has shown to be wrong with it though its probes are fine (a key it refuses), until an exchange is good.  `calmed_at` is
    when the failures of its pairs were last made to weigh less.  `suspension` holds for all its models.  `served` are the (dialect, task)
    that it has answered, `lacks` those whose path it has said not to have, and `missing` those of them that are not tried again yet.
    `omitted` is how many models of its list are not used, since no request can ask for their ids, or since they are too many.
    `joined` is when it came in.  `doubts` are the faults that one bare status has told of, with the model where it is the model's, until an exchange is good.
    """

    __slots__ = (
        "behind",
        "blame",
        "calmed_at",
        "departed",
        "domains",
        "doubts",
        "joined",
        "lacks",
        "last_probe",
        "listing",
        "load",
        "member",
        "memory",
        "missing",
        "omitted",
        "pairs",
        "patterns",
        "pulse",
        "record",
        "redrawn",
        "report",
        "resident",
        "served",
        "slots",
        "suspension",
        "version",
    )

    def __init__(self, member: Member, limits: Limits, before: Standing | None = None) -> None:
        """`before` is the backend of this name that has left while claims on it last: they take slots still."""
        self.member = member
        self.pulse = Pulse(limits)
        self.record = Record(limits)
        self.listing = Listing(
            member.models, member.overrides, member.speaks, any_spelling=member.any_spelling, forwards=member.forwards
        )
        self.pairs: dict[str, Pair] = {}
        self.patterns: dict[str, Pair] = {}
        self.behind: dict[str, Pair] = {}
        self.departed: dict[str, Pair] = before.held() if before else {}
        self.slots: Slots = before.slots if before else Slots(member.name)
        self.domains: dict[str, Slots] = before.taken() if before else {}
        kept = before.memory if before else None
        self.memory: Memory | None = (kept or Memory()) if member.slots == RESIDENT else None
        self.report: Report | None = None
        self.blame = ""
        self.suspension: Suspension | None = None
        self.served: set[tuple[str, str]] = set()
        self.missing: frozenset[tuple[str, str]] = frozenset()
        self.lacks: dict[tuple[str, str], Suspension] = {}
        self.doubts: set[tuple[Fault, str]] = set()
        self.calmed_at = 0.0
        self.version: int = before.version + 1 if before else 0  # photographs of the pairs it takes over are old
        self.redrawn = self.version
        self.load: int | None = None
        self.omitted = 0
        self.resident: frozenset[str] = frozenset()
        self.last_probe: float | None = None
        self.joined = 0.0

    @property
    def silent(self) -> bool:
        """Whether nothing is known of what it serves: it has not said so since it came in, nor before."""
        return not self.pairs and not (self.report and self.report.ok)

    @property
    def in_flight(self) -> int:
        return self.slots.in_flight

    @property
    def capacity(self) -> int | None:
        """How many requests the server takes at once, of all models together."""
        return self.slots.capacity

    def held(self) -> dict[str, Pair]:
        """The pairs that claims hold slots of, by their ids."""
        return {id: pair for id, pair in (self.departed | self.behind | self.pairs).items() if pair.claimed}

    def at_home(self, pair: Pair) -> bool:
        """Whether its model is loaded, or is being loaded for claims that it has."""
        return pair.claimed > 0 or pair.model.id in self.resident

    def taken(self) -> dict[str, Slots]:
        """The models' own slots that claims hold some of."""
        return {key: slots for key, slots in self.domains.items() if slots.in_flight}

    def pair(self, model: str) -> Pair:
        """The pair of a model that was to be seen a moment ago.  Raises KeyError where there is none."""
        return self.pairs.get(model) or self.behind[model]

    def meant(self, name: str, pattern: Pair) -> Pair | None:
        """The pair that a name means which fits a pattern; None where the operator leaves it out."""
        pair = self.behind.pop(name, None) or self._behind(name, pattern)
        if pair is not None:
            self.behind[name] = pair  # the newest stands last
        if len(self.behind) > MOST_MEANT:
            idle = next((id for id, other in self.behind.items() if not other.claimed and other is not pair), None)
            self.behind.pop(idle or "", None)
        return pair

    def _behind(self, name: str, pattern: Pair) -> Pair | None:
        entry = self.listing.meant(name, pattern.model, pattern.written)
        if entry is None:
            return None
        pair = self.departed.pop(name, None)
        if pair is None:
            return Pair(*entry, pattern.slots)
        pair.model, pair.name, pair.written = entry
        pair.slots = pattern.slots
        return pair

    def put(self, entry: Entry, copies: Mapping[str, str]) -> Pair:
        """It serves this model, by a pair that it has for it or by a new one.  `copies` has the least of the ids of each digest's
        copies: their slots are its."""
        model, name, written = entry
        slots = self.slots
        if self.member.slots != SERVER or (written and written.capacity):
            domain = copies[model.digest] if model.digest else model.id
            slots = self.domains.get(domain) or Slots(f"{self.member.name}/{domain}")
            self.domains[domain] = slots
            slots.capacity = self._capacity_of(model, written)
        place = self.patterns if is_pattern(model.id) else self.pairs
        pair = place.get(model.id) or self.behind.pop(model.id, None) or self.departed.pop(model.id, None)
        if pair is None:
            pair = Pair(model, name, written, slots)
        else:
            pair.model, pair.name, pair.written, pair.slots = model, name, written, slots
        place[model.id] = pair
        return pair

    def drop(self, id: str) -> Pair:
        """It serves the model no more.  A pair that claims are held of is kept for as long, listed or not."""
        pair = self.pairs.pop(id, None) or self.patterns.pop(id)
        if pair.claimed:
            self.departed[id] = pair
        return pair

    def listed(self, ids: Iterable[str]) -> None:
        """These are all that it serves, in this order."""
        self.departed = {id: pair for id, pair in (self.departed | self.behind).items() if pair.claimed}
        self.behind = {}
        self.pairs = {id: self.pairs[id] for id in ids if id in self.pairs}
        if self.domains:
            used = {pair.slots for pairs in (self.pairs, self.patterns) for pair in pairs.values()}
            self.domains = {key: slots for key, slots in self.domains.items() if slots.in_flight or slots in used}

    def _capacity_of(self, model: Model, written: Override | None) -> int | None:
        """How many requests for the model the server takes at once: the operator's word, else the server's, else the kind's guess,
        which does not hold where the operator bounds the server as a whole."""
        if written and written.capacity:
            return written.capacity
        if model.capacity and model.capacity > 0:
            return model.capacity
        return None if model.remote or self.member.capacity else self.member.default_capacity

    def widest(self, pair: Pair, slots: Slots) -> str:
        """The domain in which it may help somebody that a claim on this pair lets go one of `slots`, which were the pair's when it
        was claimed: its model may be counted elsewhere by now."""
        alone = self.memory is None and self.slots.capacity is None and pair.slots is slots
        return slots.domain if alone else self.slots.domain

    @property
    def problem(self) -> str:
        """Why it is not well, for people; a backend is healthy until so many probes have failed."""
        report = self.report
        if report is None or report.ok:
            if self.suspension is not None:
                return self.suspension.reason
            return "; ".join(filter(None, (self.blame, self._forbidden())))
        said = report.problem or report.code
        return f"the last probe: {said}" if self.pulse.health is Health.HEALTHY else said

    @property
    def left_out(self) -> str:
        """Which traffic leaves it out, or a model of it, for what has failed there; for people."""
        named = [("", self.record), *((f"{pair.name}: ", pair.record) for pair in self.pairs.values())]
        return "; ".join(f"{name}left out: {r.reason}" for name, r in named if r is not None and r.ejected_until)

    def cannot(self, pair: Pair, now: float) -> dict[str, float]:
        """The tasks that the model cannot do since the server has no path for them in any dialect that it speaks, and for how many seconds
        yet they are not tried again."""
        speaks = pair.model.speaks
        lost = {task for _, task in self.missing} - {task for _, task in speaks - self.missing}
        return {
            task: max(0.0, max(known.until for asked, known in self.lacks.items() if asked[1] == task) - now)
            for task in sorted(lost)
        }

    def _forbidden(self) -> str:
        """The models that the key may not use."""
        return "; ".join(f"{pair.name}: {pair.suspension.reason}" for pair in self.pairs.values() if pair.suspension is not None)

    def photo(self, pair: Pair) -> Candidate:
        if pair.photo is None or pair.photo_drawn != self.redrawn:
            pair.photo = _photograph(self, pair)
        elif pair.photo_of != self.version:
            pair.photo = _photographed_again(self, pair, pair.photo)
        pair.photo_of, pair.photo_drawn = self.version, self.redrawn
        return pair.photo

    def redraw(self) -> None:
        """More has changed than traffic changes."""
        self.version += 1
        self.redrawn += 1

    def candidates(self) -> tuple[Candidate, ...]:
        return tuple(self.photo(pair) for pair in self.pairs.values())


def _zone(standing: Standing, pair: Pair) -> Zone:
    """The operator's word for the model; else open where the server forwards it, for it leaves the machine; else the server's."""
    if pair.written is not None and pair.written.zone is not None:
        return pair.written.zone
    return Zone.OPEN if pair.model.remote else standing.member.zone


def _ejected_until(standing: Standing, pair: Pair) -> float:
    """When both its server and itself may be tried again."""
    until, record = standing.record.ejected_until, pair.record
    return until if record is None or record.ejected_until < until else record.ejected_until


def _waits_for(standing: Standing, pair: Pair) -> str:
    """What the server must be done with first.  A model that it forwards needs none of its memory."""
    if standing.memory is None or pair.model.remote:
        return ""
    return standing.memory.hindrance(pair.model.id, at_home=standing.at_home(pair))


def _photograph(standing: Standing, pair: Pair) -> Candidate:
    member, model, pulse = standing.member, pair.model, standing.pulse
    return Candidate(
        backend=member.name,
        kind=member.kind,
        model=model.id,
        name=pair.name,
        zone=_zone(standing, pair),
        cloud=member.cloud or model.remote,
        tier=(pair.written and pair.written.tier) or member.tier,
        priority=member.priority,
        offers=model.offers,
        context=model.context,
        context_max=model.context_max,
        max_output_tokens=model.max_output_tokens,
        price=model.price,
        health=pulse.health,
        state=model.state if pulse.health is not Health.UNHEALTHY else State.OFF,
        eta=model.eta,
        resident=standing.resident,
        in_flight=pair.claimed,
        backend_in_flight=standing.slots.in_flight,
        capacity=standing.slots.capacity,
        domain=pair.slots.domain,
        domain_in_flight=pair.slots.in_flight,
        domain_capacity=None if pair.slots is standing.slots else pair.slots.capacity,
        waits_for=_waits_for(standing, pair),
        load=standing.load,
        speed=pair.speed,
        first_byte=pair.first_byte,
        seconds=pair.seconds,
        failures=pair.failures,
        paused_until=pair.paused_until,
        paused_status=pair.paused_status,
        suspended_until=_suspended_until(standing, pair),
        missing=standing.missing,
        ejected_until=_ejected_until(standing, pair),
        ejected_backend=standing.record.ejected_until > 0,
        speaks=model.speaks,
        takes_usage=model.takes_usage,
        aliases=model.aliases,
    )


def _suspended_until(standing: Standing, pair: Pair) -> float:
    both = (standing.suspension, pair.suspension)
    return max([suspension.until for suspension in both if suspension is not None], default=0.0)


def _photographed_again(standing: Standing, pair: Pair, before: Candidate) -> Candidate:
    """After mere traffic, as for most requests: 1.8 µs instead of 3.5 for a whole one."""
    return replace(
        before,
        in_flight=pair.claimed,
        backend_in_flight=standing.slots.in_flight,
        domain_in_flight=pair.slots.in_flight,
        waits_for="" if standing.memory is None else _waits_for(standing, pair),
        speed=pair.speed,
        first_byte=pair.first_byte,
        seconds=pair.seconds,
        failures=pair.failures,
        paused_until=pair.paused_until,
        paused_status=pair.paused_status,
        suspended_until=0.0 if standing.suspension is None and pair.suspension is None else _suspended_until(standing, pair),
        ejected_until=_ejected_until(standing, pair),
        ejected_backend=standing.record.ejected_until > 0,
    )
