"""A routing stage in a module of one's own: at night, machines that stand in a bedroom stay quiet.

`nexus.toml` beside this file loads it (`plugins`), gives it its place (`[routing] stages`) and its options (`[quiet]`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable

import attrs

from nexus.api import Ask, Candidate, Refusal, RefusalKind, Scope, Stage, StageKind, hookimpl, opens


def _hour(options: QuietOptions, attribute: attrs.Attribute[int], value: int) -> None:
    if not 0 <= value <= 23:
        raise ValueError(f"{attribute.name} must be an hour from 0 to 23, not {value}")


@attrs.frozen(kw_only=True)
class QuietOptions:
    """The `[quiet]` table: which backends are quiet `from_hour` until `to_hour`, local time.  Equal hours: never."""

    backends: tuple[str, ...] = ()
    from_hour: int = attrs.field(default=22, validator=_hour)
    to_hour: int = attrs.field(default=7, validator=_hour)


class Quiet(Stage):
    """Refuses the quiet hours' backends, with code `quiet`.  Another backend takes the request, or nobody."""

    def __init__(self, options: QuietOptions, scope: Scope) -> None:
        self.options = options
        self.clock = scope.clock

    def refuse(self, ask: Ask, candidate: Candidate) -> Refusal | None:
        if candidate.backend not in self.options.backends or not self.is_quiet():
            return None
        until = f"{self.options.to_hour:02}:00"
        return Refusal(
            kind=RefusalKind.POLICY,
            code="quiet",
            data={"sentence": f"{candidate.backend} is quiet until {until}.", "hint": "Name a backend in another room."},
        )

    def is_quiet(self) -> bool:
        now, begin, end = time.localtime(self.clock.time()).tm_hour, self.options.from_hour, self.options.to_hour
        return begin <= now < end if begin <= end else now >= begin or now < end


@hookimpl
def nexus_stages() -> Iterable[StageKind]:
    yield StageKind(name="quiet", open=opens(Quiet), options=QuietOptions)
