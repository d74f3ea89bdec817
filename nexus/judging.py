"""A failed answer on its way through the table of failures: what of it counts.  The table is in `nexus.outcome`, what follows in `attempt`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexus.dialects.complaints import Complaint
from nexus.echoes import echoed
from nexus.fleet import Claim
from nexus.journey import Journey
from nexus.outcome import Answer, FailureTable, Judged

if TYPE_CHECKING:
    from nexus.dialects.ways import Way

Headers = Iterable[tuple[str, str]]


async def judged(
    table: FailureTable, journey: Journey, claim: Claim, way: Way, status: int | None, complaint: Complaint, *, says_when: bool
) -> Judged:
    """What the table says of the answer, by nothing that the request itself has said."""
    request = journey.request
    answer = Answer(
        status=status,
        message=complaint.message,
        codes=complaint.codes,
        says_when=says_when,
        needs=request.needs | {request.task},
        path_known=claim.asked in claim.standing.served,
    )
    for found in table.judge(claim.candidate.kind, answer):
        if found.words is None or not await echoed(found.words, _sent(journey, way)):
            return found
    raise AssertionError("the last line always holds")


def _sent(journey: Journey, way: Way) -> tuple[bytes, ...]:
    """All that a server could repeat of what the client has sent."""
    headers = "\n".join(journey.request.headers.values()).encode("utf-8", "replace")
    body = journey.payload.body
    return (body, *(() if way.body is body else (way.body,)), headers, journey.query.encode("utf-8", "replace"))
