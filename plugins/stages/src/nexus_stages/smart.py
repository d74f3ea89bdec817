"""The `smart` strategy: the pair that is expected to cost the least time.  Plain strategies are in `balance`.

A score is the seconds a request is expected to lose on a pair.  The parts, and why they weigh what they weigh:

work       `first_byte` + tokens / `speed`, both measured on real requests.  An answer is taken to be 256 tokens, or fewer if
           the client allows no more: limits like 64,000 are caps, not expectations.  Without a speed the measured seconds of
           whole exchanges stand in.  A pair that was never measured counts 1 s, less than most pairs really need, so that it
           gets requests, is measured, and stops being special; the load term keeps it from being flooded meanwhile.
wait       work x share of the capacity in use.  At a full server a newcomer loses about one request's time; beyond that it
           grows with the queue there, without bound.
state      ready costs nothing; unknown half a second, so that it comes after ready; loading and asleep the server's own ETA,
           else 10 and 20 s, which is about what loading 8 to 30 GB from disk takes.
swap       60 s for a model that is not resident on a busy server where others are: loading it would evict or starve a running
           one, the most reported harm of shared home servers.  Strong, but no refusal: where there is no other pair the
           request may still go.  None where this pair has requests in flight, since then its model is loaded or loading.
failures   30 s x the share of recent exchanges that failed: a failed attempt costs a timeout and a new start.
priority   0.1 s for each step from 50, so at most 5 s either way: a wish that real differences overrule.
session    -(0.25 s + 1 ms per prompt token), at most -5 s, where the session was served last within 15 minutes: the prompt is
           likely still in the server's cache, and reading it again costs about that much at home.  It shrinks as the server
           fills and is gone when the server is full, so a popular session's server is never flooded.
turn       at most 1 ms: pairs that are equal otherwise take turns.
"""

from __future__ import annotations

from collections import OrderedDict

from nexus.api import Ask, Candidate, Claimed, Event, Finished, Left, Request, Scope, State
from nexus.model import EMBEDDING
from nexus_stages.fairness import Turns, fill

ANSWER_TOKENS = 256
UNMEASURED_SECONDS = 1.0
# A stalled stream can leave a measured speed next to nothing; a score must stay a number that can be compared and shown.
LONGEST_WORK_SECONDS = 3600.0
STATE_SECONDS = {State.UNKNOWN: 0.5, State.LOADING: 10.0, State.ASLEEP: 20.0, State.OFF: 60.0}
SWAP_SECONDS = 60.0
FAILURE_SECONDS = 30.0
PRIORITY_SECONDS = 0.1
SESSION_SECONDS, SESSION_SECONDS_PER_TOKEN, SESSION_SECONDS_MAX = 0.25, 0.001, 5.0
SESSION_KEPT_SECONDS = 900.0
MAX_SESSIONS = 4096
TURN_SECONDS = 0.001
# Outcomes after which the pair's cache is worth nothing; a rejected request or a client that left says nothing about it.
LOST = frozenset({"failed", "timeout"})


class Smart(Turns):
    """Ranks by expected seconds lost.  Keeps the last pair of each recent session, at most 4096 of them."""

    hears = (Claimed, Finished, Left)

    def __init__(self, scope: Scope) -> None:
        super().__init__(scope)
        self._clock = scope.clock
        self._sessions: OrderedDict[str, tuple[str, str, float]] = OrderedDict()

    def rank(self, ask: Ask, candidate: Candidate) -> float:
        """Expected seconds lost: the parts are explained at the top of this file."""
        measured = candidate.speed or candidate.seconds is not None or candidate.first_byte is not None
        score = work = _work(ask.request, candidate) if measured else UNMEASURED_SECONDS
        share = fill(candidate)
        if share:
            score += work * share
            if candidate.resident:
                score += _swap(candidate)
        if candidate.state is not State.READY:
            score += STATE_SECONDS[candidate.state] if candidate.eta is None else candidate.eta
        if candidate.failures:
            score += candidate.failures * FAILURE_SECONDS
        if ask.request.session is not None:
            score -= self._session(ask.request, candidate) * max(0.0, 1.0 - share)
        return score + (candidate.priority - 50) * PRIORITY_SECONDS + self.turn(candidate) * TURN_SECONDS

    def learn(self, event: Event) -> None:
        """Note whose turn it was, and which pair has a session's prompt in its cache."""
        if not isinstance(event, Finished):
            super().learn(event)
        elif event.request.session is not None and event.request.takes_slot:
            self._note(event.request.session, event)

    def _note(self, session: str, event: Finished) -> None:
        pair = (event.candidate.backend, event.candidate.model)
        if event.outcome == "ok":
            self._sessions[session] = (*pair, event.at)
            self._sessions.move_to_end(session)
            if len(self._sessions) > MAX_SESSIONS:
                self._sessions.popitem(last=False)
        elif event.outcome in LOST and self._sessions.get(session, ())[:2] == pair:
            del self._sessions[session]

    def _session(self, request: Request, candidate: Candidate) -> float:
        """What the prompt in the server's cache saves: 0 unless the session was served there last, and lately."""
        last = self._sessions.get(request.session or "")
        if last is None or last[0] != candidate.backend or last[1] != candidate.model:
            return 0.0
        if self._clock.now() - last[2] > SESSION_KEPT_SECONDS:
            return 0.0
        return min(SESSION_SECONDS_MAX, SESSION_SECONDS + request.tokens_high * SESSION_SECONDS_PER_TOKEN)


def _work(request: Request, candidate: Candidate) -> float:
    """Expected seconds of one exchange on an idle server."""
    if candidate.speed and request.task != EMBEDDING:
        asked = request.max_output_tokens
        tokens = ANSWER_TOKENS if asked is None or asked > ANSWER_TOKENS else asked
        return min((candidate.first_byte or 0.0) + tokens / candidate.speed, LONGEST_WORK_SECONDS)
    if candidate.seconds is not None:
        return candidate.seconds
    return UNMEASURED_SECONDS if candidate.first_byte is None else candidate.first_byte


def _swap(candidate: Candidate) -> float:
    """The harm of bringing this model to a busy server whose memory holds others."""
    return 0.0 if candidate.in_flight or candidate.model in candidate.resident else SWAP_SECONDS
