"""A stream that ended in an error, and what kind of one.  Dialects have their own words for the kinds; the statuses are HTTP's."""

from __future__ import annotations

import enum
from typing import Any

import attrs


class FailureKind(enum.StrEnum):
    """What went wrong, by whose fault and for how long: it tells a client whether to try again."""

    INVALID_REQUEST = "invalid_request"
    AUTHENTICATION = "authentication"
    PERMISSION = "permission"
    NOT_FOUND = "not_found"
    TOO_LARGE = "too_large"
    RATE_LIMIT = "rate_limit"
    OVERLOADED = "overloaded"
    TIMEOUT = "timeout"
    SERVER = "server"

    @property
    def status(self) -> int:
        """The status of an answer that fails so: each dialect has its word for each of them."""
        return _STATUS[self]

    @classmethod
    def of_status(cls, status: Any) -> FailureKind | None:
        """The kind that goes with a status, which some servers put into an error as its code; None for what is no such status."""
        if isinstance(status, str) and status.isdecimal():
            status = int(status)
        if type(status) is not int or not 400 <= status <= 599:
            return None
        return _KINDS.get(status) or (cls.INVALID_REQUEST if status < 500 else cls.SERVER)


_STATUS = {
    FailureKind.INVALID_REQUEST: 400,
    FailureKind.AUTHENTICATION: 401,
    FailureKind.PERMISSION: 403,
    FailureKind.NOT_FOUND: 404,
    FailureKind.TOO_LARGE: 413,
    FailureKind.RATE_LIMIT: 429,
    FailureKind.OVERLOADED: 503,
    FailureKind.TIMEOUT: 504,
    FailureKind.SERVER: 502,
}
_KINDS = {status: kind for kind, status in _STATUS.items()} | {408: FailureKind.TIMEOUT, 529: FailureKind.OVERLOADED}


@attrs.frozen(kw_only=True)
class Failure:
    """The server ended the stream with an error, or sent what cannot be read (`code` "malformed").  Nothing comes after it."""

    message: str
    code: str = "error_event"
    kind: FailureKind = FailureKind.SERVER
