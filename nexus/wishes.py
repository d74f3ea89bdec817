"""What a client asks of Nexus itself, by `X-Nexus-*` request headers.  Pure; what a wish leads to is decided where it is read."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import msgspec

from nexus.errors import Problem
from nexus.model import Lane, Zone

_HEADERS = frozenset({"x-nexus-strict", "x-nexus-flexible", "x-nexus-zone", "x-nexus-priority", "x-nexus-session"})
_LANES = tuple(Lane)
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """`priority` None is no wish.  `session` is a hash: stages need to recognise it, nobody needs to read it."""

    strict: bool = False
    flexible: bool = False
    zone: Zone = Zone.OPEN
    priority: Lane | None = None
    session: str | None = None


_NONE = Wishes()


def wishes_of(headers: Mapping[str, str]) -> Wishes:
    """The wishes in lower-case headers.  Raises Problem (400) for a word that is not understood."""
    if _HEADERS.isdisjoint(headers):
        return _NONE
    return Wishes(
        strict=_flag(headers, "x-nexus-strict"),
        flexible=_flag(headers, "x-nexus-flexible"),
        zone=_zone(headers),
        priority=_priority(headers),
        session=_session(headers),
    )


def lane_of(wishes: Wishes, highest: Lane | None) -> Lane:
    """The lane of the queue: the one wished for, else `normal`; never above the `highest` that the key allows (None: any)."""
    wanted = wishes.priority or Lane.NORMAL
    return wanted if highest is None else max(wanted, highest, key=_LANES.index)


def _flag(headers: Mapping[str, str], name: str) -> bool:
    """Of several words for one header yes counts.  A word that is not understood is an error: it may have meant either."""
    words = [word.strip() for word in headers.get(name, "").lower().split(",")]
    if not {*_YES, *_NO}.issuperset(words):
        shown = "-".join(map(str.capitalize, name.split("-")))
        raise Problem(400, "invalid_request", f"{shown} must be 'true' or 'false'", param=shown)
    return not set(words).isdisjoint(_YES)


def _zone(headers: Mapping[str, str]) -> Zone:
    """A header can only tighten, so a word that is not understood is an error: it may have meant to.  Of several the stricter counts."""
    value = headers.get("x-nexus-zone")
    if value is None:
        return Zone.OPEN
    try:
        zones = {Zone(word.strip()) for word in value.lower().split(",")}
    except ValueError:
        raise Problem(400, "invalid_request", "X-Nexus-Zone must be 'restricted' or 'open'", param="X-Nexus-Zone") from None
    return Zone.RESTRICTED if Zone.RESTRICTED in zones else Zone.OPEN


def _priority(headers: Mapping[str, str]) -> Lane | None:
    value = headers.get("x-nexus-priority")
    if value is None:
        return None
    try:
        return Lane(value.strip().lower())
    except ValueError:
        raise Problem(400, "invalid_request", "X-Nexus-Priority must be high, normal or low", param="X-Nexus-Priority") from None


def _session(headers: Mapping[str, str]) -> str | None:
    value = headers.get("x-nexus-session")
    return hashlib.blake2b(value.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest() if value else None
