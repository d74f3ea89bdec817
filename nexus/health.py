"""Is one backend well?  Probes decide by streaks, traffic by a share of recent failures.  No clock, no I/O, no routing lives here."""

from __future__ import annotations

from collections import deque

import attrs

from nexus.model import Health

MOST_SAMPLES = 1000


@attrs.frozen(kw_only=True)
class Limits:
    """When a backend counts as down, and as well again (contract §8).  Durations are in seconds."""

    failure_threshold: int = 3
    recovery_threshold: int = 2
    min_samples: int = 10
    failure_ratio: float = 0.5
    window_seconds: float = 30.0
    eject_seconds: float = 15.0


class Pulse:
    """The health of one backend: the probes' verdict, and whether its traffic keeps failing.

    `ejected_until` is when traffic may try again after too many failures (0: not ejected); one exchange at a time is let
    through from then on, and the first that succeeds ends the ejection.
    """

    __slots__ = ("_bad", "_ejections", "_fine", "_good", "_limits", "_times", "ejected_until", "health")

    def __init__(self, limits: Limits) -> None:
        self.health = Health.UNKNOWN
        self.ejected_until = 0.0
        self._limits = limits
        self._good = self._bad = 0
        self._ejections = 0
        self._times: deque[float] = deque(maxlen=MOST_SAMPLES)  # of the last exchanges, and which of them were fine
        self._fine: deque[bool] = deque(maxlen=MOST_SAMPLES)

    def probed(self, ok: bool) -> None:
        """One probe ended."""
        self._good, self._bad = (self._good + 1, 0) if ok else (0, self._bad + 1)
        if self.health is Health.UNKNOWN:
            self.health = Health.HEALTHY if ok else Health.UNHEALTHY
        elif ok and self._good >= self._limits.recovery_threshold:
            self.health = Health.HEALTHY
        elif not ok and self._bad >= self._limits.failure_threshold:
            self.health = Health.UNHEALTHY

    def served(self, ok: bool, now: float) -> None:
        """One exchange of live traffic ended.  Rejections by the backend and clients that left are not told here."""
        if ok and self.ejected_until:
            self.ejected_until = 0.0
            self._ejections = 0
            self._times.clear()
            self._fine.clear()
        if self.ejected_until:
            if now >= self.ejected_until:  # the half-open trial failed
                self._eject(now)
            return
        times, fine = self._times, self._fine
        times.append(now)
        fine.append(ok)
        while times[0] < now - self._limits.window_seconds:
            times.popleft()
            fine.popleft()
        if not ok and len(fine) >= self._limits.min_samples and fine.count(False) >= self._limits.failure_ratio * len(fine):
            self._eject(now)

    def _eject(self, now: float) -> None:
        self.ejected_until = now + self._limits.eject_seconds * 2 ** min(self._ejections, 4)
        self._ejections += 1
