"""How one pair is spoken to: in the client's own dialect, byte for byte, or translated.  Who is asked, and when, is dispatch's to say."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from nexus.api import Dialect, Reader, Splice
from nexus.dialects.translate import Translation, can_translate, target_of
from nexus.journey import Journey
from nexus.model import CHAT, COMPLETION, Candidate

FORWARDED = frozenset({"accept", "traceparent"})


@attrs.define(kw_only=True)
class Way:
    """What one pair is sent, and how its reply is read.  `translation` is None where both sides speak the same dialect.

    `server` is the dialect that the backend speaks, `backward` the prefixes of its headers that the client may see.
    """

    server: Dialect
    path: str
    body: bytes
    headers: tuple[tuple[str, str], ...]
    backward: tuple[str, ...] = ()
    hide_usage: bool = False
    translation: Translation | None = None

    @property
    def told(self) -> str:
        """What the translation lost, for `X-Nexus-Translation-Loss`."""
        return self.translation.told if self.translation else ""

    def reader(self, journey: Journey, candidate: Candidate, created: int) -> Reader:
        """A reader whose bytes are the client's.  `created` is in seconds since the epoch."""
        if self.translation is not None:
            return self.translation.reader(journey.request.id, candidate.name, created)
        return self.server.reader(journey.endpoint, journey.facts, hide_usage=self.hide_usage)

    def rejection(self, status: int, body: bytes, request_id: str) -> bytes:
        """A backend's rejection as the client reads it: untouched in the same dialect."""
        return self.translation.error(status, body, request_id) if self.translation else body


class Ways:
    """The dialects of one gateway, and who can be put to whom."""

    def __init__(self, dialects: Mapping[str, Dialect]) -> None:
        self._dialects = dialects
        self._reach: dict[tuple[str, str], frozenset[tuple[str, str]]] = {}

    def reach(self, dialect: str, task: str) -> frozenset[tuple[str, str]]:
        """What a server may speak to be of use to a client of `dialect` that asks for `task`."""
        known = self._reach.get((dialect, task))
        if known is None:
            client = self._dialects[dialect]
            others = {(name, task) for name, server in self._dialects.items() if can_translate(client, server, task)}
            known = self._reach[dialect, task] = frozenset({(dialect, task), *others})
        return known

    def to(self, journey: Journey, candidate: Candidate) -> Way:
        """The way to a pair that routing has not refused.

        Raises what translation raises: Problem (400) for a malformed request, Refused where the meaning would be lost.
        """
        client, task = journey.dialect, journey.endpoint.task
        if not candidate.speaks or (client.name, task) in candidate.speaks:
            return _native(journey, candidate)
        server = next(self._dialects[name] for name, _ in sorted(candidate.speaks & self.reach(client.name, task)))
        target = target_of(candidate, journey.facts)
        translation = Translation(client, server, journey.endpoint, journey.payload, journey.facts, target)
        headers = _forwarded(journey.request.headers, ()) + translation.headers
        return Way(server=server, path=translation.endpoint.path, body=translation.body, headers=headers, translation=translation)


def _native(journey: Journey, candidate: Candidate) -> Way:
    dialect, facts, endpoint = journey.dialect, journey.facts, journey.endpoint
    ask_usage = facts.stream and candidate.takes_usage and not facts.wants_usage and endpoint.task in (CHAT, COMPLETION)
    body = journey.payload.body
    model = None if journey.request.model == candidate.model else candidate.model
    if model is not None or ask_usage:
        body = dialect.splice(endpoint, body, Splice(model=model, ask_usage=ask_usage))
    return Way(
        server=dialect,
        path=endpoint.path + journey.query,
        body=body,
        headers=_forwarded(journey.request.headers, dialect.forward),
        backward=dialect.backward,
        hide_usage=ask_usage,
    )


def _forwarded(headers: Mapping[str, str], prefixes: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What a backend gets to see: the body's type, what is accepted, the trace, the dialect's own headers."""
    kept = [(name, _as_sent(value)) for name, value in headers.items() if name in FORWARDED or name.startswith(prefixes)]
    return (("content-type", "application/json"), *kept)


def _as_sent(value: str) -> str:
    """aiohttp reads headers as UTF-8, the upstream writes latin-1: the same bytes."""
    return value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("latin-1")
