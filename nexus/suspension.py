"""Who is not asked for a while because its account, or a key's permission, says no: no free probe could tell when that is over.

One request tries it again after 1, 2, 4 … and at most 30 minutes.  Who is suspended when is the fleet's to write.
"""

from __future__ import annotations

FIRST_SECONDS = 60.0
LONGEST_SECONDS = 1800.0


class Suspension:
    """`reason` is for people, `until` a moment of the gateway's clock from which one request may try."""

    __slots__ = ("_times", "reason", "until")

    def __init__(self, reason: str, now: float) -> None:
        self._times = 0
        self.reason = reason
        self.until = now + self.seconds

    @property
    def seconds(self) -> float:
        """How long nobody is let through."""
        return min(FIRST_SECONDS * 2.0**self._times, LONGEST_SECONDS)

    def try_again(self, now: float) -> bool:
        """Whether the request that asks at this moment is the one that tries.  The next may when as long has passed again."""
        if now < self.until:
            return False
        self.until = now + self.seconds
        return True

    def failed_again(self, reason: str, now: float) -> None:
        """The one that tried was told the same: the next waits twice as long."""
        self._times = min(self._times + 1, 5)
        self.reason = reason
        self.until = now + self.seconds
