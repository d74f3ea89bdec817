"""What is known of one backend and of each of its models, and the photograph that routing sees of them.

Only the fleet writes here; what it writes when is its business.
"""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import attrs

from nexus.api import Backend
from nexus.health import Limits, Pulse
from nexus.model import (
    CHAT,
    COMPLETION,
    EMBEDDING,
    JSON_SCHEMA,
    THINKING,
    TOOLS,
    VISION,
    Candidate,
    Health,
    Model,
    Price,
    Report,
    State,
    Zone,
)
from nexus.model.quick import changer, maker

_candidate = maker(Candidate)
_retaken = changer(
    Candidate, "in_flight", "backend_in_flight", "speed", "first_byte", "seconds", "failures", "paused_until", "ejected_until"
)  # what traffic changes
ABILITIES = (CHAT, COMPLETION, EMBEDDING, VISION, TOOLS, JSON_SCHEMA, THINKING)


@attrs.frozen(kw_only=True)
class Override:
    """What the operator says of one model because the server does not, or says it wrongly.  `offers` is all that it can do, of
    ABILITIES; what else its kind cannot holds on unless it is among them."""

    id: str
    name: str | None = None
    offers: Mapping[str, bool] | None = None
    context: int | None = None
    max_output_tokens: int | None = None
    tier: int | None = None
    zone: Zone | None = None
    price: Price | None = None


@attrs.frozen(kw_only=True)
class Member:
    """A backend as wiring knows it.  `zone` is already decided, `zone_evidence` says by what.

    `capacity` is the operator's word, `default_capacity` the kind's.  `models` are globs of the ids that may be used.
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
    models: tuple[str, ...] | None = None
    overrides: tuple[Override, ...] = ()


class Pair:
    """One model on one backend, and what its traffic has shown."""

    __slots__ = (
        "claimed",
        "failures",
        "first_byte",
        "model",
        "name",
        "paused_until",
        "photo",
        "photo_drawn",
        "photo_of",
        "seconds",
        "speed",
        "written",
    )

    def __init__(self, model: Model, name: str, written: Override | None) -> None:
        self.model = model
        self.name = name
        self.written = written
        self.claimed = 0
        self.failures = 0.0
        self.first_byte: float | None = None
        self.seconds: float | None = None
        self.speed: float | None = None
        self.paused_until = 0.0
        self.photo: Candidate | None = None
        self.photo_of = self.photo_drawn = -1


class Standing:
    """One backend in the fleet.  Read it; only the fleet writes it.

    `version` counts its changes, `redrawn` those that are more than traffic's.  `report` is the last probe's.  `blame` is what
    traffic has shown to be wrong with it though its probes are fine (a key it refuses), until an exchange is good.  `calmed_at` is
    when the failures of its pairs were last made to weigh less.
    """

    __slots__ = (
        "blame",
        "calmed_at",
        "capacity",
        "in_flight",
        "last_probe",
        "load",
        "member",
        "pairs",
        "pulse",
        "redrawn",
        "report",
        "resident",
        "version",
    )

    def __init__(self, member: Member, limits: Limits) -> None:
        self.member = member
        self.pulse = Pulse(limits)
        self.pairs: dict[str, Pair] = {}
        self.report: Report | None = None
        self.blame = ""
        self.calmed_at = 0.0
        self.in_flight = 0
        self.version = self.redrawn = 0
        self.capacity = member.capacity or member.default_capacity
        self.load: int | None = None
        self.resident: frozenset[str] = frozenset()
        self.last_probe: float | None = None

    @property
    def problem(self) -> str:
        """Why it is not well, for people; a backend is healthy until so many probes have failed."""
        report = self.report
        if report is None or report.ok:
            return self.blame
        said = report.problem or report.code
        return f"the last probe: {said}" if self.pulse.health is Health.HEALTHY else said

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


def allowed(model: Model, globs: tuple[str, ...] | None) -> bool:
    return globs is None or any(fnmatchcase(id, glob) for glob in globs for id in (model.id, *model.aliases))


def overridden(model: Model, member: Member) -> tuple[Model, str, Override | None]:
    """The model and its public name, with what the operator wrote put over what the server said."""
    override = next((o for o in member.overrides if o.id == model.id or o.id in model.aliases), None)
    if override is None:
        return model, model.id, None
    changed = attrs.evolve(
        model,
        offers=model.offers if override.offers is None else {**_not_offered(model), **override.offers},
        context=override.context or model.context,
        max_output_tokens=override.max_output_tokens or model.max_output_tokens,
        price=override.price or model.price,
    )
    return changed, override.name or model.id, override


def _not_offered(model: Model) -> dict[str, bool]:
    return dict.fromkeys((*ABILITIES, *(need for need, offered in model.offers.items() if not offered)), False)


def _zone(standing: Standing, pair: Pair) -> Zone:
    """The operator's word for the model; else open where the server forwards it, for it leaves the machine; else the server's."""
    if pair.written is not None and pair.written.zone is not None:
        return pair.written.zone
    return Zone.OPEN if pair.model.remote else standing.member.zone


def _photograph(standing: Standing, pair: Pair) -> Candidate:
    member, model, pulse = standing.member, pair.model, standing.pulse
    return _candidate(
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
        backend_in_flight=standing.in_flight,
        capacity=standing.capacity,
        load=standing.load,
        speed=pair.speed,
        first_byte=pair.first_byte,
        seconds=pair.seconds,
        failures=pair.failures,
        paused_until=pair.paused_until,
        ejected_until=pulse.ejected_until,
        speaks=model.speaks,
        takes_usage=model.takes_usage,
        aliases=model.aliases,
    )


def _photographed_again(standing: Standing, pair: Pair, before: Candidate) -> Candidate:
    """After mere traffic."""
    return _retaken(
        before,
        in_flight=pair.claimed,
        backend_in_flight=standing.in_flight,
        speed=pair.speed,
        first_byte=pair.first_byte,
        seconds=pair.seconds,
        failures=pair.failures,
        paused_until=pair.paused_until,
        ejected_until=standing.pulse.ejected_until,
    )
