"""The values that flow through Nexus.  No I/O, no clock and no logging live here.

Everything is frozen, slotted and keyword-only, so a value can be kept in a history, put into an event or handed to a
plugin without anybody being able to change it.  Only `Payload` and `Call` reach the body of a request.
"""

from nexus.model.accepts import ANYTHING, Accepts, SchemaRules
from nexus.model.attempt import OUT_OF_TIME, UNANSWERED, Attempt, Call
from nexus.model.candidate import Candidate
from nexus.model.events import Answered, Claimed, Event, Finished, Joined, Left, Listener, Probed, Queued
from nexus.model.failure import WILDCARD, FailureRule, Fault
from nexus.model.plan import Choice, Objection, Plan, Refusal
from nexus.model.replace import replace
from nexus.model.report import MOST_MODELS, Model, Report, Sighting
from nexus.model.request import NO_DEMAND, Ask, Demand, Leg, Payload, Request
from nexus.model.tokens import NO_USAGE, Price, Usage, completed
from nexus.model.words import (
    CHAT,
    COMPLETION,
    COUNT,
    EMBEDDING,
    EMPTY,
    IMAGE_URL,
    JSON_SCHEMA,
    THINKING,
    TOOLS,
    VISION,
    Health,
    Lane,
    RefusalKind,
    State,
    UserIds,
    Zone,
)

__all__ = [
    "ANYTHING",
    "CHAT",
    "COMPLETION",
    "COUNT",
    "EMBEDDING",
    "EMPTY",
    "IMAGE_URL",
    "JSON_SCHEMA",
    "MOST_MODELS",
    "NO_DEMAND",
    "NO_USAGE",
    "OUT_OF_TIME",
    "THINKING",
    "TOOLS",
    "UNANSWERED",
    "VISION",
    "WILDCARD",
    "Accepts",
    "Answered",
    "Ask",
    "Attempt",
    "Call",
    "Candidate",
    "Choice",
    "Claimed",
    "Demand",
    "Event",
    "FailureRule",
    "Fault",
    "Finished",
    "Health",
    "Joined",
    "Lane",
    "Left",
    "Leg",
    "Listener",
    "Model",
    "Objection",
    "Payload",
    "Plan",
    "Price",
    "Probed",
    "Queued",
    "Refusal",
    "RefusalKind",
    "Report",
    "Request",
    "SchemaRules",
    "Sighting",
    "State",
    "Usage",
    "UserIds",
    "Zone",
    "completed",
    "replace",
]
