"""A failed answer on its way through the table of failures: what of it counts, and what follows for the backend and the pair.

The table is in `nexus.outcome`; what follows for the request is decided in `attempt`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from nexus.api import Clock
from nexus.context import RequestContext
from nexus.dialects.complaints import Complaint
from nexus.echoes import echoed
from nexus.failures import KEY_REFUSED
from nexus.fleet import Claim, Fleet
from nexus.model import Fault
from nexus.outcome import BY_STATUS, Answer, FailureTable, Judged
from nexus.pauses import asked_for

if TYPE_CHECKING:
    from nexus.dialects.ways import Way

Headers = Iterable[tuple[str, str]]
# where a bare status may mean the one request: whoever dislikes it may say so by each of these
_TOLD_TWICE = frozenset({Fault.ACCOUNT, Fault.BLOCKED, Fault.MODEL})


class Judge:
    """Reads the table, and tells the fleet."""

    def __init__(self, table: FailureTable, fleet: Fleet, clock: Clock) -> None:
        self._table = table
        self._fleet = fleet
        self._clock = clock

    async def judge(
        self, context: RequestContext, claim: Claim, way: Way, status: int | None, headers: Headers, said: Complaint
    ) -> Judged:
        """What the table says of an answer, by nothing that the request itself has said.  `status` is None where it has none."""
        request = context.request
        answer = Answer(
            status=status,
            message=said.message,
            codes=said.codes,
            says_when=asked_for(headers, self._clock.time(), said.value) is not None,
            needs=request.needs | {request.task},
            path_known=claim.asked in claim.standing.served,
        )
        for found in self._table.judge(claim.candidate.kind, answer):
            if found.words is None or not await echoed(found.words, _sent(context, way)):
                return found
        raise AssertionError("the last line always holds")

    def pause(self, found: Judged, headers: Headers, said: Complaint) -> float | None:
        """Seconds for which a pair that is busy is left alone; None for any other fault."""
        if found.rule.fault is not Fault.BUSY:
            return None
        asked = asked_for(headers, self._clock.time(), said.value)
        return found.rule.pause if asked is None else asked

    def tell(self, found: Judged, claim: Claim, status: int | None) -> None:
        """What the fleet must know before the slot is given back, for who waits for it chooses at once."""
        fault, problem = found.rule.fault, _problem(found, claim, status)
        if fault is Fault.PATH:
            self._fleet.lack(claim)
            return
        of_a_model = fault is not Fault.ACCOUNT
        if _may_be_the_requests(found, claim) and self._fleet.is_news(claim, fault, problem, model_only=of_a_model):
            return
        if fault in (Fault.ACCOUNT, Fault.PERMISSION):
            self._fleet.suspend(claim, problem, model_only=of_a_model)
        elif found.verdict.avoid:
            self._fleet.blame(claim, problem)


def _has_key(claim: Claim) -> bool:
    return any(claim.standing.member.backend.secrets())


def _may_be_the_requests(found: Judged, claim: Claim) -> bool:
    """Whether nothing but a status says so, of a server, or a model, that has served the like before."""
    if found.words is not None or found.rule.fault not in _TOLD_TWICE:
        return False
    return claim.asked in claim.standing.served if found.rule.fault is Fault.ACCOUNT else claim.pair.seconds is not None


def _problem(found: Judged, claim: Claim, status: int | None) -> str:
    """What people read of it; "" where the fault says all."""
    reason, answered = found.rule.reason, f"it answered {status}" if status else "it said so in its answer"
    if found.rule.fault is Fault.BLOCKED:
        whom = "perhaps to the configured key (api_key_env)" if _has_key(claim) else "and no key is configured (api_key_env)"
        return f"forbids requests, {whom}: {answered}"
    if reason == KEY_REFUSED and not _has_key(claim):
        reason = "wants a key, and none is configured (api_key_env)"
    return f"{reason} ({answered})" if reason else ""


def code_of(found: Judged, claim: Claim, otherwise: str) -> str:
    """The code of the attempt; `otherwise` where nothing but the status said what it is."""
    if found.rule.fault is Fault.PATH:
        return f"no_{claim.asked[1]}"
    return otherwise if found.code == BY_STATUS else found.code


def _sent(context: RequestContext, way: Way) -> tuple[bytes, ...]:
    """All that a server could repeat of what the client has sent."""
    headers = "\n".join(context.request.headers.values()).encode("utf-8", "replace")
    body = context.payload.body
    return (body, *(() if way.body is body else (way.body,)), headers, context.query.encode("utf-8", "replace"))
