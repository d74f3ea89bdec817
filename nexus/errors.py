"""What can go wrong, and what the client is told.  Wire shapes belong to the dialects, decisions to their rooms."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from nexus.model import EMPTY, Refusal
from nexus.plain import whole

RETRY_SECONDS = 1  # where what is short is given back all the time

# What code of somebody else's may raise: who means to exit ends nobody but itself.  A KeyboardInterrupt is the operator's.
CRASHES = (Exception, SystemExit, BaseExceptionGroup)
CRASHES_OF_A_CALL = (*CRASHES, asyncio.CancelledError)  # of what nobody awaits, and nobody can have cancelled


def is_cancelled() -> bool:
    """Whether it is the running task that is to stop: awaiting something that somebody else has cancelled raises the same error."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0


class NexusError(Exception):
    """The base of everything Nexus raises on purpose."""


class Problem(NexusError):
    """An answer that is an error: the dialect gives it its wire shape.

    `code` is stable and documented; `message` says what to do;
    half a character in it, for it may quote anybody, is U+FFFD.  `retry_after` is in seconds.  `context` is the contract's
    `context` object.  `type` overrides the dialect's own word for the status.  `see` is a page of ours that the message sends the
    reader to (`GET /v1/models`), as it is called where Nexus is served under no prefix.  `lasting` says that asking
    again is in vain, whatever the status, until somebody has acted.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        type: str | None = None,
        context: Mapping[str, Any] = EMPTY,
        retry_after: int | None = None,
        see: str = "",
        lasting: bool = False,
    ) -> None:
        message = whole(message)
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.param = param
        self.type = type
        self.context = context
        self.retry_after = retry_after
        self.see = see
        self.lasting = lasting

    def headers(self) -> dict[str, str]:
        """What HTTP and its clients have headers for; the same in every dialect."""
        headers = {}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        if self.lasting:
            headers["X-Should-Retry"] = "false"  # what OpenAI's and Anthropic's clients obey before they look at the status
        return headers

    def under(self, prefix: str) -> None:
        """Nexus is served under this prefix of an application, so that the page which the message names is there, too."""
        if prefix and self.see:
            before, _, after = self.message.rpartition(self.see)
            self.message = before + self.see.replace(" /", f" {prefix}/", 1) + after
            self.see = ""


class BackendError(NexusError):
    """An exchange with a backend that did not work out.

    `code` is one of the codes below.  `reused` marks a pooled connection that had died before a byte of the answer: the
    same pair is asked once more and no attempt is counted.  `hint` is one sentence for the operator.
    """

    CODES = (
        "connect_refused", "connect_timeout", "connect_failed", "tls_failed", "address_moved",
        "reset", "cut", "malformed", "too_large",
        "first_byte_timeout", "idle_timeout", "answer_timeout",
        "error_event", "no_answer", "status",
    )  # fmt: skip

    def __init__(self, code: str, hint: str = "", *, reused: bool = False, sent: bool = False) -> None:
        super().__init__(f"{code}: {hint}" if hint else code)
        self.code = code
        self.hint = hint
        self.reused = reused
        self.sent = sent

    @property
    def timed_out(self) -> bool:
        return self.code.endswith("_timeout")


class Shortage(Problem):
    """This machine has no descriptor, port or memory left to connect with: 503, and no fault of any backend's."""

    def __init__(self, why: str) -> None:
        super().__init__(
            503, "overloaded", f"Nexus itself cannot connect to any more ({why.lower()}); try again", retry_after=RETRY_SECONDS
        )


class Refused(NexusError):
    """Raised by a stage's `admit`: this attempt must not leave.  Routing goes on without the pair."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.code)
        self.refusal = refusal


class StageError(NexusError):
    """A stage crashed.  The request dies and names it: a policy fails closed."""

    def __init__(self, stage: str, verb: str, cause: BaseException) -> None:
        super().__init__(f"stage {stage!r} failed in {verb}: {type(cause).__name__}")
        self.stage = stage
        self.verb = verb


@attrs.frozen(kw_only=True)
class Mistake:
    """One thing wrong with a configuration: where (`backends[0].zone`, `line 7`), what, and the nearest known word."""

    place: str
    message: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f" (did you mean {self.nearest!r}?)" if self.nearest else ""
        return f"{self.place}: {self.message}{hint}"


class ConfigError(NexusError):
    """Every mistake of a configuration at once.  `path` is the file, None where there is none."""

    def __init__(self, mistakes: Sequence[Mistake], path: Path | None = None) -> None:
        super().__init__("\n".join(str(m) for m in mistakes))
        self.mistakes = tuple(mistakes)
        self.path = path


class StartupError(NexusError):
    """Nexus cannot start; the message is one clear sentence (a port in use, a locked state directory)."""
