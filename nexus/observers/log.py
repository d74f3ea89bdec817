"""The request log: one line per answered request, through the logger `nexus.request`.  How a line looks is in `format`.

Names, numbers and codes only: never what was asked or answered, never a key (its name only).
"""

from __future__ import annotations

import logging
import math

from nexus.api import Clock, Observer
from nexus.model import UNANSWERED, Answered, Attempt, Event
from nexus.observers.format import REQUESTS, LineHandler, RequestFormatter, lines_of
from nexus.observers.line import Line, clip, line_of

NO_FAILURE = (
    "ok",
    "left",
)  # an attempt that was left because the client went has met nothing, but for one that had not begun to answer
LOOK_SECONDS = 0.1
_log = logging.getLogger(REQUESTS)
_new_record = logging.LogRecord.__new__


class RequestLog(Observer):
    """Logs every `Answered`: at WARNING where Nexus or a backend failed, else at INFO.  The record carries the line's facts as `fields`;
    nothing is made where nobody listens.

    Beside the facts of the live feed there is `met`, where attempts failed: what each ran into (`b: connect_refused`).
    Where our handler is the only one, its line is written without a record, which costs 3.4 µs less (6 µs for all).  Whether it is, is
    looked up at most once in LOOK_SECONDS: `logging` tells nobody that a handler or a filter has come.
    """

    sees = (Answered,)

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._alone: tuple[LineHandler, RequestFormatter] | None = None
        self._look_at = -math.inf
        # Process and thread never change: asking for them again costs a record 3.9 µs instead of 2.1.
        self._same = _log.makeRecord(REQUESTS, logging.INFO, __file__, 0, "", (), None).__dict__

    def see(self, event: Event) -> None:
        if type(event) is not Answered:
            return
        level = logging.WARNING if event.status >= 500 or event.outcome == "broken" else logging.INFO
        if _log.isEnabledFor(level):
            line, now = line_of(event), self._clock.time()
            met = [_met(attempt) for attempt in event.attempts if attempt.outcome not in NO_FAILURE or attempt.code == UNANSWERED]
            if met:
                line.met = met
            if event.at >= self._look_at:
                self._alone, self._look_at = lines_of(_log), event.at + LOOK_SECONDS
            if self._alone is not None:
                handler, formatter = self._alone
                handler.put(formatter.request(now, level, line))
            else:
                _log.handle(self._record(now, level, line))

    def _record(self, now: float, level: int, line: Line) -> logging.LogRecord:
        told = {"levelno": level, "levelname": logging.getLevelName(level), "created": now, "msecs": now % 1 * 1000}
        record = _new_record(logging.LogRecord)
        record.__dict__ = {**self._same, **told, "msg": line, "fields": line.json()}
        return record


def _met(attempt: Attempt) -> str:
    """What one attempt that failed ran into: a code, or the status that the backend answered; of one that a client did not wait for, how
    long it was waited for."""
    if attempt.code == UNANSWERED:
        return f"{clip(attempt.backend)} ({clip(attempt.model)}): silent for {attempt.seconds:.1f} s"
    said = attempt.code if attempt.code not in ("", "status") else attempt.status or attempt.outcome
    return f"{clip(attempt.backend)}: {said}"
