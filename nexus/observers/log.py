"""The request log: one line per answered request, through the logger `nexus.request`.  How a line looks is in `format`.

Names, numbers and codes only: never what was asked or answered, never a key (its name only).
"""

from __future__ import annotations

import logging
from typing import Any

from nexus.api import Clock, Observer
from nexus.model import Answered, Attempt, Event
from nexus.observers.format import REQUESTS, lines_of, plain, request_json
from nexus.observers.line import clip, line_of

_log = logging.getLogger(REQUESTS)
_new_record = logging.LogRecord.__new__


class RequestLog(Observer):
    """Logs every `Answered` at INFO.  The record carries the line's facts as `fields`; nothing is made where nobody listens.

    Beside the facts of the live feed there is `met`, where attempts failed: what each ran into (`b: connect_refused`).
    """

    sees = (Answered,)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Process and thread never change, and asking for them again for each record costs more than the rest of the line.
        self._same = _log.makeRecord(REQUESTS, logging.INFO, __file__, 0, "", (), None).__dict__

    def see(self, event: Event) -> None:
        if type(event) is Answered and _log.isEnabledFor(logging.INFO):
            line, now = line_of(event), self._clock.time()
            met = [_met(attempt) for attempt in event.attempts if attempt.outcome != "ok"]
            if met:
                line.met = met
            if (lines := lines_of(_log)) is not None:
                lines.put(request_json(now, line))
            else:
                _log.handle(self._record(now, line.json()))

    def _record(self, now: float, fields: dict[str, Any]) -> logging.LogRecord:
        record = _new_record(logging.LogRecord)
        record.__dict__ = {**self._same, "msg": _Line(fields), "created": now, "msecs": now % 1 * 1000, "fields": fields}
        return record


def _met(attempt: Attempt) -> str:
    """What one attempt that failed ran into: a code, or the status that the backend answered."""
    said = attempt.code if attempt.code not in ("", "status") else attempt.status or attempt.outcome
    return f"{clip(attempt.backend)}: {said}"


class _Line:
    """The facts as one readable line, made only if a formatter wants it."""

    __slots__ = ("_fields",)

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = fields

    def __str__(self) -> str:
        return plain(" ".join(part for part in self._parts() if part))

    def _parts(self) -> list[str]:
        facts = self._fields
        return [
            f"{facts['status']} {facts['outcome']}",
            facts["code"] or "",
            f"{facts['dialect']}/{facts['task']}",
            self._models(),
            f"on {facts['backend']} ({facts['zone']})" if facts["backend"] else "",
            facts["reason"] or "",
            f"{facts['attempts']} attempts" if facts["attempts"] > 1 else "",
            f"({', '.join(facts['met'])})" if "met" in facts else "",
            self._times(),
            self._spent(),
            f"key {facts['key']}" if facts["key"] else "",
            f"[{facts['id']}]",
        ]

    def _models(self) -> str:
        asked, answered = self._fields["model"], self._fields["answered_model"]
        return asked if answered in (None, asked) else f"{asked} → {answered}"

    def _times(self) -> str:
        facts = self._fields
        queued = f"queued {facts['queue_ms']:.0f} ms, " if facts["queue_ms"] else ""
        first = f"first byte {facts['first_byte_ms']:.0f} ms, " if facts["first_byte_ms"] is not None else ""
        return f"{queued}{first}total {facts['total_ms']:.0f} ms"

    def _spent(self) -> str:
        facts = self._fields
        if facts["tokens_source"] == "unknown":
            return ""
        cost = f", ${facts['cost_usd']:.4f}" if facts["cost_usd"] is not None else ""
        return f"{facts['input_tokens']}+{facts['output_tokens']} tokens {facts['tokens_source']}{cost}"
