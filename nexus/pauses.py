"""How long a server asks to be left alone: headers and bodies in the forms that servers use.  What follows from it is decided elsewhere."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Iterable
from email.utils import parsedate_to_datetime
from typing import Any

LONGEST_PAUSE_SECONDS = 3600.0
LEAST_PAUSE_SECONDS = 0.25  # "at once" is not taken at its word: the server has just said that it has no room

_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_RESETS = re.compile(r"(?:x-|anthropic-)?ratelimit-(?:reset|reset-[a-z-]+|[a-z-]+-reset)")
_EPOCH = 1e9  # what is larger is a moment, in seconds or milliseconds, and no span


def asked_for(headers: Iterable[tuple[str, str]], wall: float, value: Any = None) -> float | None:
    """Seconds until the server wants to be asked again; None where it does not say, or says nothing sensible.

    `wall` is the present in seconds since the epoch, `value` the error's body.  Headers go first: `retry-after-ms`, `retry-after` as a
    number or a date, then the reset of a limit that is used up.  At most an hour.  What the error's sentence says does not count: it may
    repeat the client's words, who could then send the server to sleep.
    """
    named = dict(headers)
    found = _milliseconds(named.get("retry-after-ms"))
    if found is None:
        found = _number_or_date(named.get("retry-after"), wall)
    if found is None:
        found = _reset(named, wall)
    if found is None:
        found = _in_body(value)
    if found is None or math.isnan(found) or found < 0:
        return None
    return min(max(found, LEAST_PAUSE_SECONDS), LONGEST_PAUSE_SECONDS)


def _milliseconds(text: str | None) -> float | None:
    number = _number(text)
    return None if number is None else number / 1000


def _number(text: Any) -> float | None:
    if isinstance(text, bool) or not isinstance(text, str | int | float):
        return None
    try:
        return float(text)
    except ValueError:
        return None


def _number_or_date(text: str | None, wall: float) -> float | None:
    if text is None:
        return None
    number = _number(text)
    if number is not None:
        return number
    try:
        return max(parsedate_to_datetime(text).timestamp() - wall, 0.0)
    except (ValueError, TypeError, OverflowError):
        return None


def _reset(named: dict[str, str], wall: float) -> float | None:
    """The latest reset among the limits of which nothing remains."""
    found = []
    for name, text in named.items():
        if _RESETS.fullmatch(name) and _number(named.get(name.replace("reset", "remaining"))) == 0:
            seconds = _moment(text, wall)
            if seconds is not None:
                found.append(seconds)
    return max(found, default=None)


def _moment(text: str, wall: float) -> float | None:
    """`6m0s`, `350ms`, `20`, a moment since the epoch in seconds or milliseconds, or one as RFC 3339 has it."""
    number = _number(text)
    if number is not None:
        moment = number / 1000 if number > _EPOCH * 1000 else number
        return max(moment - wall, 0.0) if moment > _EPOCH else number
    if (span := _span(text)) is not None:
        return span
    try:
        return max(datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp() - wall, 0.0)
    except (ValueError, OverflowError):
        return None


def _span(text: str) -> float | None:
    match = _SPAN.fullmatch(text.replace(" ", ""))
    if not match or not any(match.groups()):
        return None
    hours, minutes, seconds, thousandths = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + thousandths / 1000


def _in_body(value: Any) -> float | None:
    """LocalAI's `loading.eta_seconds`, Hugging Face's `estimated_time`, Google's `retryDelay`."""
    error = value.get("error") if isinstance(value, dict) else None
    for place in (value, error):
        if isinstance(place, dict):
            loading = place.get("loading")
            seconds = _number(loading.get("eta_seconds") if isinstance(loading, dict) else place.get("estimated_time"))
            if seconds is not None:
                return seconds
            details = place.get("details")
            for detail in details if isinstance(details, list) else ():
                if isinstance(detail, dict) and isinstance(detail.get("retryDelay"), str):
                    return _span(detail["retryDelay"])
    return None
