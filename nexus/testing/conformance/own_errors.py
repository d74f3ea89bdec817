"""What the gateway itself has to say to a client: each status that it uses, in the client's dialect.  No socket is opened here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from nexus.api import Dialect, Problem
from nexus.testing.conformance.cells import SENTENCE, WORDS, Nonconforming
from nexus.testing.conformance.golden import GoldenTable

STATUSES = (400, 401, 403, 404, 405, 408, 413, 426, 429, 500, 502, 503, 504)
CODE, REFUSED = "golden_code", "a golden refusal"
ID = "golden-request"


def own_errors(table: GoldenTable, dialects: Mapping[str, Dialect]) -> None:
    """Has the dialect tell each status, as an answer and as the last event of a stream that has begun.  Raises Nonconforming for a
    type that does not go with its status, and where the sentence, the gateway's code or its context is missing."""
    wrong = [f"{table.dialect}: an error of its own: {said}" for said in _wrong(table, dialects[table.dialect])]
    if wrong:
        raise Nonconforming("\n".join(wrong))


def _wrong(table: GoldenTable, dialect: Dialect) -> Iterator[str]:
    for status in STATUSES:
        problem = Problem(status, CODE, SENTENCE, context={"refusals": [REFUSED]})
        body, event = dialect.error(problem, ID), dialect.error_event(problem, ID)
        try:
            if table.error(status, body) != SENTENCE:
                yield f"{status} has another sentence: {body!r}"
            if table.broken(b"".join(table.begun(WORDS)) + event) != (WORDS, SENTENCE):
                yield f"{status} has another sentence as an event: {event!r}"
        except (ValueError, LookupError, TypeError) as error:
            yield f"{status}: {type(error).__name__}: {error}"
        yield from (f"{status} without {part!r}" for part in (CODE, REFUSED) if part.encode() not in body)
