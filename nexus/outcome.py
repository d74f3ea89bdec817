"""The outcome table: what each way an attempt can end means for the request and for the backend.  Data and pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parsedate_to_datetime

import attrs

from nexus.errors import BackendError

LONGEST_PAUSE_SECONDS = 3600.0


@attrs.frozen(kw_only=True)
class Verdict:
    """`outcome` as in `Finished`; `next` says whether another pair is tried.  `probe` asks for a probe.  `avoid` is a pair that would
    say the same to the next request; `blame` names what is wrong with its backend."""

    outcome: str
    next: bool
    probe: bool = False
    avoid: bool = False
    blame: str = ""


SERVED = Verdict(outcome="ok", next=False)
REJECTED = Verdict(outcome="rejected", next=False)
NO_MODEL = Verdict(outcome="rejected", next=True, probe=True, avoid=True)
NO_ACCESS = Verdict(outcome="rejected", next=True, avoid=True, blame="refuses the configured key (api_key_env)")
# some say that they cannot by a 500 or 501; who is asked for what it does not do is not unwell
CANNOT = Verdict(outcome="rejected", next=True)
MOVED = Verdict(outcome="rejected", next=True, probe=True)
SLOW_DOWN = Verdict(outcome="rate", next=True)
FAILED = Verdict(outcome="failed", next=True)
TIMED_OUT = Verdict(outcome="timeout", next=True)


def of_status(status: int) -> Verdict:
    """Contract §6, by the status of the answer."""
    if 200 <= status < 300:
        return SERVED
    if status == 404:
        return NO_MODEL
    if status in (401, 403):
        return NO_ACCESS
    if status == 429:
        return SLOW_DOWN
    if status == 408 or status >= 500 or status < 400:  # a redirect is not followed: it is no answer
        return FAILED
    return REJECTED


def of_error(error: BackendError) -> Verdict:
    """Contract §6, by what the exchange broke off with."""
    if error.code == "address_moved":  # what has been asked is no worse for it
        return MOVED
    return TIMED_OUT if error.timed_out else FAILED


def retry_after(headers: Iterable[tuple[str, str]], wall: float) -> float | None:
    """Seconds a 429 asks to wait, from its number or date; `wall` is the present in seconds since the epoch."""
    value = next((v for name, v in headers if name == "retry-after"), None)
    if value is None:
        return None
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - wall
        except (ValueError, TypeError, OverflowError):
            return None
    return min(max(seconds, 0.0), LONGEST_PAUSE_SECONDS) if seconds == seconds else None
