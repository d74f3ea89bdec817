"""One answered request on one line: what the log and the live feed say of it.  How a line gets into a log is in `format`.

Names, numbers and codes only.  Names that are longer than any honest one are cut.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.model import Answered
from nexus.model.attempt import tries
from nexus.plain import plain

LONGEST = 200


class Line(msgspec.Struct, gc=False):
    """Its facts, in the order in which they are said; as text, one readable line.

    Every request makes one: a struct is made in 0.2 µs, a dictionary in 1.3.
    """

    id: str
    key: str | None
    dialect: str
    task: str
    model: str
    answered_model: str | None
    backend: str | None
    zone: str | None
    status: int
    code: str | None
    outcome: str
    reason: str | None
    attempts: int
    queue_ms: float
    first_byte_ms: float | None
    total_ms: float
    input_tokens: int
    output_tokens: int
    tokens_source: str
    cost_usd: float | None
    met: list[str] | msgspec.UnsetType = msgspec.UNSET

    def json(self) -> dict[str, Any]:
        facts = msgspec.structs.asdict(self)
        if self.met is msgspec.UNSET:
            del facts["met"]
        return facts

    def __str__(self) -> str:
        on = f" on {self.backend} ({self.zone})" if self.backend else ""
        reason = f" {self.reason}" if self.reason else ""
        attempts = f" {self.attempts} attempts" if self.attempts > 1 else ""
        met = f" ({', '.join(self.met)})" if self.met else ""
        queued = f" queued {self.queue_ms:.0f} ms," if self.queue_ms else ""
        first = f" first byte {self.first_byte_ms:.0f} ms," if self.first_byte_ms is not None else ""
        key = f" key {self.key}" if self.key else ""
        return plain(
            f"{self.status} {self._ended()} {self.dialect}/{self.task}{self._models()}{on}{reason}{attempts}{met}"
            f"{queued}{first} total {self.total_ms:.0f} ms{self._spent()}{key} [{self.id}]"
        )

    def _ended(self) -> str:
        """How, in a word, and why: what ends with a 5xx was no refusal of ours, and a 200 may still have been broken off."""
        code = "" if self.code in (None, self.outcome) else f" {self.code}"
        if self.outcome == "broken":
            return f"broken off{code}"
        return f"failed{code}" if self.outcome == "refused" and self.status >= 500 else f"{self.outcome}{code}"

    def _models(self) -> str:
        asked, answered = self.model, self.answered_model
        if answered is None or answered == asked:
            return asked and f" {asked}"
        return f" {asked} → {answered}"

    def _spent(self) -> str:
        if self.tokens_source == "unknown":
            return ""
        cost = "" if self.cost_usd is None else f", ${self.cost_usd:.4f}"
        return f", {self.input_tokens}+{self.output_tokens} tokens {self.tokens_source}{cost}"


def line_of(event: Answered) -> Line:
    request, candidate, usage = event.request, event.candidate, event.usage
    key = request.key
    return Line(
        clip(request.id),
        key and clip(key),
        request.dialect,
        request.task,
        clip(request.model),
        clip(candidate.name) if candidate else None,
        clip(candidate.backend) if candidate else None,
        candidate.zone if candidate else None,
        event.status,
        event.code or None,
        event.outcome,
        event.reason or None,
        tries(event.attempts),
        milliseconds(event.queue_seconds) if event.queue_seconds else 0.0,
        None if event.first_byte is None else milliseconds(event.first_byte),
        milliseconds(event.seconds),
        usage.input_tokens,
        usage.output_tokens,
        usage.source,
        event.cost,
    )


def clip(text: str) -> str:
    """The text, cut where it is longer than any honest name."""
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def milliseconds(seconds: float) -> float:
    return round(seconds * 1_000_000) / 1000
