"""One attempt: as it leaves, and how it ended.  What happens in between is in `nexus.attempt`."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from nexus.model.candidate import Candidate
from nexus.model.quick import quick
from nexus.model.request import Ask


@quick
@attrs.frozen(kw_only=True, weakref_slot=False)
class Call:
    """One attempt, exactly as it will leave: `body` is final once `prepare` has run.

    `path` is the dialect's own path (`/v1/chat/completions`), which a backend joins to its base URL.  `headers` are
    lower case and hold no credential.  `first_byte_by` and `answer_by` are in seconds of the gateway's clock,
    `idle_timeout` and `connect_timeout` (None: as usual) in seconds.
    """

    ask: Ask
    candidate: Candidate
    dialect: str
    task: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    stream: bool
    first_byte_by: float
    answer_by: float | None
    idle_timeout: float
    connect_timeout: float | None = None
    method: str = "POST"


UNANSWERED = "unanswered"  # the code of an attempt that was left because its client went before the answer began


@quick
@attrs.frozen(kw_only=True, weakref_slot=False)
class Attempt:
    """One line of a request's story: which pair was tried, and how it ended.  `message` is what the backend said, for the client."""

    backend: str
    model: str
    outcome: str
    status: int | None = None
    code: str = ""
    message: str = ""
    seconds: float = 0.0


def tries(attempts: Sequence[Attempt]) -> int:
    """How many of them count: a pair that was only busy has not been tried."""
    return sum([attempt.outcome != "rate" for attempt in attempts]) if attempts else 0
