"""Is a backend well, and each of its models?  Probes decide by streaks, traffic by a share of recent failures.  No clock, no I/O, no
routing lives here."""

from __future__ import annotations

from collections import deque

import msgspec

from nexus.model import Health

MOST_SAMPLES = 1000
MOST_APART_SECONDS = 600.0  # of two timeouts that count as in a row, from the end of the one to the begin of the other
# codes of a BackendError
NO_CONNECTION = frozenset({"address_moved", "connect_refused", "connect_timeout", "connect_failed", "tls_failed", "reset"})


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a backend counts as down, and as well again (contract §8).  Durations are in seconds."""

    failure_threshold: int = 3
    recovery_threshold: int = 2
    timeout_threshold: int = 3
    min_samples: int = 10
    failure_ratio: float = 0.5
    window_seconds: float = 30.0
    eject_seconds: float = 15.0


class Pulse:
    """The probes' verdict on one backend."""

    __slots__ = ("_bad", "_good", "_limits", "health")

    def __init__(self, limits: Limits) -> None:
        self.health = Health.UNKNOWN
        self._limits = limits
        self._good = self._bad = 0

    def probed(self, ok: bool) -> None:
        """One probe ended."""
        self._good, self._bad = (self._good + 1, 0) if ok else (0, self._bad + 1)
        if self.health is Health.UNKNOWN:
            self.health = Health.HEALTHY if ok else Health.UNHEALTHY
        elif ok and self._good >= self._limits.recovery_threshold:
            self.health = Health.HEALTHY
        elif not ok and self._bad >= self._limits.failure_threshold:
            self.health = Health.UNHEALTHY


class Record:
    """What live traffic shows of one domain of health: of a server by its connections, of a pair by what it answers.

    `ejected_until` is when traffic may try again after too many failures (0: not ejected), `reason` says after which, for people; one
    exchange at a time is let through from then on, and the first that succeeds ends the ejection.

    Timeouts are counted by themselves too: whoever waits for each of them to pass never has many within the window.
    """

    __slots__ = ("_ejections", "_failed", "_limits", "_timed_out_at", "_timeouts", "_times", "ejected_until", "reason")

    def __init__(self, limits: Limits) -> None:
        self.ejected_until = 0.0
        self.reason = ""
        self._limits = limits
        self._ejections = 0
        self._timeouts, self._timed_out_at = 0, 0.0  # without a success between, and when the last of them ended
        self._times: deque[float] = deque(maxlen=MOST_SAMPLES)  # of the last exchanges, and of those that failed
        self._failed: deque[float] = deque(maxlen=MOST_SAMPLES)

    def served(self, ok: bool, now: float, why: str = "", *, waited: float | None = None) -> None:
        """One exchange ended, well or by this domain's fault; `why` is how.  `waited` is for how many seconds, where that was too long."""
        if ok:
            self._timeouts = 0
            if self.ejected_until:
                self._clear()
            self._times.append(now)
        elif not self.ejected_until:
            self._times.append(now)
            self._failed.append(now)
            if waited is not None:
                self._timeouts = self._timeouts + 1 if now - waited - self._timed_out_at <= MOST_APART_SECONDS else 1
                self._timed_out_at = now
            self._judge(now, why)
        elif now >= self.ejected_until:  # the half-open trial failed
            self._eject(now, f"the request that tried it again failed, too: {why}")

    def _clear(self) -> None:
        self.ejected_until = 0.0
        self.reason = ""
        self._ejections = 0
        self._timeouts = 0
        self._times.clear()
        self._failed.clear()

    def _judge(self, now: float, why: str) -> None:
        if self._timeouts >= self._limits.timeout_threshold:
            self._eject(now, f"{_requests(self._timeouts)} got no answer in time, the last of them so: {why}")
            return
        times, failed = self._times, self._failed
        while times[0] < now - self._limits.window_seconds:
            times.popleft()
        while failed[0] < times[0]:
            failed.popleft()
        if len(times) >= self._limits.min_samples and len(failed) >= self._limits.failure_ratio * len(times):
            self._eject(now, f"{len(failed)} of its last {len(times)} requests failed, the last of them so: {why}")

    def _eject(self, now: float, reason: str) -> None:
        self.ejected_until = now + self._limits.eject_seconds * 2 ** min(self._ejections, 4)
        self._ejections += 1
        self.reason = reason


def _requests(count: int) -> str:
    return f"{count} requests in a row" if count > 1 else "a request"


def is_of_the_server(code: str, *, sent: bool) -> bool:
    """Whether a failure is the server's and not the model's: no connection came about, or it broke before anything was answered.  A
    connection that stands and an answer that does not come, or is broken, speak of the model: others may be served well."""
    return code in NO_CONNECTION or (not sent and code.endswith("_timeout"))
