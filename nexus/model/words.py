"""The words that values are made of: zones, lanes, states, kinds of refusal, tasks and needs.  No value has its home here."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

EMPTY: Mapping[str, Any] = MappingProxyType({})


class UserIds(enum.StrEnum):
    """What a server of another API sees of a client's id of an end user: a keyed hash, nothing, or the id where it takes it."""

    HASH = "hash"
    DROP = "drop"
    PASS = "pass"  # noqa: S105 - no password


class Zone(enum.StrEnum):
    """How far a prompt may travel: `restricted` stays with machines the operator vouches for, `open` may go anywhere."""

    OPEN = "open"
    RESTRICTED = "restricted"


class Lane(enum.StrEnum):
    """The lanes of the queue, and the priority a request may ask for."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class State(enum.StrEnum):
    """What a model on a backend is doing.  `unknown` passes every filter and ranks after `ready`."""

    OFF = "off"
    ASLEEP = "asleep"
    LOADING = "loading"
    READY = "ready"
    UNKNOWN = "unknown"


class Health(enum.StrEnum):
    """What the probes and the traffic say of a backend."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"


class RefusalKind(enum.StrEnum):
    """Why a candidate cannot have a request, by what would have to change.

    never   the request can never be served there (a picture for a text model)
    denied  this client may not
    policy  the operator's rules forbid it, or the backend is down: now, and until somebody acts
    wait    busy or loading; waiting helps
    rate    paused until a known time; waiting helps
    """

    NEVER = "never"
    DENIED = "denied"
    POLICY = "policy"
    WAIT = "wait"
    RATE = "rate"


# What a request can need beyond its task, and what a model can offer.  Tasks are needs too.
CHAT, COMPLETION, EMBEDDING, COUNT = "chat", "completion", "embedding", "count"
VISION, TOOLS, JSON_SCHEMA = "vision", "tools", "json_schema"
# A picture by its address: many that see take pictures as data only.
IMAGE_URL = "image_url"
# What no request needs, but a translated one is written by.
THINKING = "thinking"
