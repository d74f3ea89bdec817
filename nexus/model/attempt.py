"""One attempt: as it leaves, and how it ended.  What happens in between is in `nexus.attempt`."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from nexus.model.candidate import Candidate
from nexus.model.request import Ask


class Call(msgspec.Struct, frozen=True, kw_only=True):
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


# codes of attempts that end by no fault of the backend's
UNANSWERED = "unanswered"  # the client went before the answer began
OUT_OF_TIME = "out_of_time"  # the time that all attempts of a request share was over before the backend had had its own


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """One line of a request's story: which pair was tried, and how it ended.  `message` is what the backend said, for the client.

    `times` is how often it was busy in the same way: those are one attempt, whose `seconds` are of all of them, and `message` of the last.
    """

    backend: str
    model: str
    outcome: str
    status: int | None = None
    code: str = ""
    message: str = ""
    seconds: float = 0.0
    times: int = 1


def told_again(attempts: list[Attempt], attempt: Attempt) -> None:
    """Put it to the others; a pair that is asked again and again while it is busy takes one line."""
    if attempt.outcome == "rate":
        about = (attempt.backend, attempt.model, attempt.outcome, attempt.status, attempt.code)
        for known in attempts:
            if about == (known.backend, known.model, known.outcome, known.status, known.code):
                attempts.remove(known)
                attempt = msgspec.structs.replace(attempt, times=known.times + 1, seconds=known.seconds + attempt.seconds)
                break
    attempts.append(attempt)


def tries(attempts: Sequence[Attempt]) -> int:
    """How many of them count: a pair that was only busy has not been tried."""
    return sum([attempt.outcome != "rate" for attempt in attempts]) if attempts else 0
