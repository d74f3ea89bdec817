"""What a plugin author imports: the contracts, the descriptors and `Scope`.  No behaviour of the gateway lives here.

A plugin module defines hooks (`nexus.hookspecs`) that yield descriptors; a descriptor's `open(options, scope)` is one
async context manager that yields the component.  The gateway opens each once and closes them in reverse order.
"""

from nexus.api.backend import Backend, Reply, Server
from nexus.api.dialect import Dialect, Endpoint, Facts, ModelEntry, Splice
from nexus.api.fingerprint import Check, Fingerprint
from nexus.api.kinds import BackendKind, DialectKind, NoOptions, ObserverKind, Open, RoutesKind, SourceKind, StageKind, opens
from nexus.api.observer import Observer
from nexus.api.reader import Reader
from nexus.api.routes import Route, Routes
from nexus.api.scope import Clock, Scope, Secret
from nexus.api.source import Source
from nexus.api.stage import Stage
from nexus.api.upstream import Exchange, Upstream
from nexus.errors import BackendError, Problem, Refused
from nexus.hookspecs import hookimpl
from nexus.model import (
    EMPTY,
    NO_DEMAND,
    Answered,
    Ask,
    Attempt,
    Call,
    Candidate,
    Choice,
    Claimed,
    Demand,
    Event,
    Finished,
    Health,
    Joined,
    Lane,
    Left,
    Leg,
    Model,
    Objection,
    Payload,
    Plan,
    Price,
    Probed,
    Queued,
    Refusal,
    RefusalKind,
    Report,
    Request,
    Sighting,
    State,
    Usage,
    Zone,
)

__all__ = [
    "EMPTY",
    "NO_DEMAND",
    "Answered",
    "Ask",
    "Attempt",
    "Backend",
    "BackendError",
    "BackendKind",
    "Call",
    "Candidate",
    "Check",
    "Choice",
    "Claimed",
    "Clock",
    "Demand",
    "Dialect",
    "DialectKind",
    "Endpoint",
    "Event",
    "Exchange",
    "Facts",
    "Fingerprint",
    "Finished",
    "Health",
    "Joined",
    "Lane",
    "Left",
    "Leg",
    "Model",
    "ModelEntry",
    "NoOptions",
    "Objection",
    "Observer",
    "ObserverKind",
    "Open",
    "Payload",
    "Plan",
    "Price",
    "Probed",
    "Problem",
    "Queued",
    "Reader",
    "Refusal",
    "RefusalKind",
    "Refused",
    "Reply",
    "Report",
    "Request",
    "Route",
    "Routes",
    "RoutesKind",
    "Scope",
    "Secret",
    "Server",
    "Sighting",
    "Source",
    "SourceKind",
    "Splice",
    "Stage",
    "StageKind",
    "State",
    "Upstream",
    "Usage",
    "Zone",
    "hookimpl",
    "opens",
]
