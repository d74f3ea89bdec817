"""Whose fault a failed answer is, and the lines by which that is told.  They are read in `nexus.outcome`; the core's own are in `nexus.failures`."""

from __future__ import annotations

import enum

import attrs

WILDCARD = "…"  # in the words of a rule: up to 100 characters, whatever they are


class Fault(enum.StrEnum):
    """What a failed answer speaks of.

    request     what the client sent: it goes to the client, as it is
    account     the account or the key, for every model: the backend is suspended
    permission  what this key may do with this model: the pair is suspended
    blocked     an answer that forbids, and does not say whom: the pair comes last for a while
    model       the model, which is not there or cannot run: the pair comes last for a while, and the backend is probed
    path        the path, which the server does not have: it is not asked for this task again for a while
    need        something the request needs, which the model cannot do: another pair is asked
    busy        the moment: the pair pauses and the request may wait for it; no failure
    broken      the server: it counts as a failure
    """

    REQUEST = "request"
    ACCOUNT = "account"
    PERMISSION = "permission"
    BLOCKED = "blocked"
    MODEL = "model"
    PATH = "path"
    NEED = "need"
    BUSY = "busy"
    BROKEN = "broken"


def _words(value: str | tuple[str, ...]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


def _statuses(value: int | tuple[int, ...] | range) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


@attrs.frozen(kw_only=True)
class FailureRule:
    """One line of the table of failures: an answer that fits all that is written here is the fault of `fault`.

    `status` are the statuses it holds for; none written: every status, and none.  `codes` are values of the error's `code`, `type` or
    `status`, one of which must be there.  `words` are beginnings of its message, one of which it must have, in any case of letters; `…`
    stands for anything up to 100 characters, and with `alone` they must be all of it.  A rule with both `codes` and `words` holds where either fits.
    `retry_after` asks for a header that says when to come back.  A rule never holds by what the request itself says.

    `code` is told of the attempt; "" stands for the fault's own word.  A `need` has the refusal's code there (`no_vision`) and holds for requests
    that need it.  `reason` is told to the operator where the server's own message would say less.  `pause` is how long a busy pair is left
    alone where the answer does not say, in seconds.  `source` says who answers so, for the table's page.
    """

    fault: Fault
    status: tuple[int, ...] = attrs.field(default=(), converter=_statuses)
    codes: tuple[str, ...] = attrs.field(default=(), converter=_words)
    words: tuple[str, ...] = attrs.field(default=(), converter=_words)
    alone: bool = False
    retry_after: bool = False
    code: str = ""
    reason: str = ""
    pause: float = 5.0
    source: str = ""
