"""A gateway whose first choice holds every request back until it dies: its streams begin early, and the client waits.

What a client must do meanwhile, and after it, is told in `scenarios`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

import attrs

from .holding import Holding
from .processes import Ended, until
from .tap import Heard, Tap
from .world import World, backend, configured, gateway

SOON = "[server]\nstream_keepalive_seconds = 0.1"
FIRST = "priority = 1"
GENERATIONS = frozenset({"/v1/chat/completions", "/v1/messages"})


class Program(Protocol):
    """One under way, as a process or in a terminal."""

    @property
    def over(self) -> bool: ...

    def ended(self) -> Ended: ...


@attrs.frozen(kw_only=True)
class SlowWorld(World):
    """Clients meet the gateway through `front`.  Its first choice is `holding`, its second the real server of the usual world;
    DOOMED is served by `holding` alone."""

    front: Tap
    holding: Holding

    def answers(self) -> list[Heard]:
        """What was heard of every generation so far."""
        return [heard for heard in self.front.heard if heard.path in GENERATIONS]

    def waited(self, program: Program, before: int, signs: int) -> None:
        """Return once each request after the first `before` waits, and has heard so many keep-alives."""
        until(lambda: program.over or self._all_wait(before, signs), f"{signs} signs of life")
        assert not program.over, f"it did not wait: {program.ended().all[-400:]}"

    def _all_wait(self, before: int, signs: int) -> bool:
        asked = self.answers()[before:]
        return bool(asked) and all(heard.signs >= signs and not heard.began for heard in asked)


@contextmanager
def slowed(usual: World, folder: Path) -> Iterator[SlowWorld]:
    """Another gateway, before the usual world's server and one that holds its requests back."""
    room = folder / "slow"
    room.mkdir()
    with ExitStack() as stack:
        holding = Holding()
        stack.callback(holding.close)
        tables = [backend("holding", usual.way, holding.url, FIRST), backend("usual", usual.way, usual.tap.url)]
        port = gateway(stack, room, configured(SOON, *tables)).rpartition(":")[2]
        front = Tap(int(port))
        stack.callback(front.close)
        made = SlowWorld(url=front.url, folder=usual.folder, way=usual.way, tap=usual.tap, front=front, holding=holding)
        made.settled(2)
        yield made
