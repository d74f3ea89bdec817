"""Claude Code as a person has it: in a terminal, from its first start on.  What it is asked to do there is in `agents`."""

from __future__ import annotations

from .processes import until
from .scenarios import SIGNS
from .slow import SlowWorld
from .terminal import Terminal
from .world import ASK, SAYS

ANSWERS = {
    "Choose the text style": "Enter",
    "Press Enter to continue": "Enter",
    "❯ No, exit": "Down",
    "❯ Yes, I trust this folder": "Enter",
}
"""What stands on the screen at its first start in a directory, and the key for it."""
DONE = "· done "
READY = "manual mode on"
ASKED = frozenset({"/v1/messages", "/api/hello"})
"""All that it asks a gateway for.  That nobody serves the second does not matter to it."""


def converse(seat: Terminal, world: SlowWorld) -> None:
    """A greeting, answered after a wait; a question for which it must read a file; and goodbye."""
    heard, answers = len(world.front.heard), len(world.answers())
    _settle_in(seat)
    world.holding.hold()
    seat.say("say hello")
    world.waited(seat, answers, SIGNS)
    assert "keep-alive" not in seat.screen
    world.holding.die()
    seat.shows(SAYS)
    seat.say(ASK)
    seat.shows("Read 1 file")
    seat.shows(SAYS, times=2)
    seat.shows(DONE, times=2)
    seat.say("/exit")
    assert seat.ended().code == 0, seat.screen
    asked = {answer.path for answer in world.front.heard[heard:] if not answer.path.startswith("/nexus/")}
    assert asked <= ASKED, f"it asked for {sorted(asked)}"


def _settle_in(seat: Terminal) -> None:
    """Answer what it asks until it is ready."""
    while READY not in seat.screen:
        until(lambda: _asks(seat) or READY in seat.screen or seat.over, "Claude Code asks something, or is ready")
        assert not seat.over, seat.screen
        if asks := _asks(seat):
            seat.press(ANSWERS[asks])
            _gone(seat, asks)


def _asks(seat: Terminal) -> str | None:
    screen = seat.screen
    return next((asks for asks in ANSWERS if asks in screen), None)


def _gone(seat: Terminal, asks: str) -> None:
    until(lambda: asks not in seat.screen or seat.over, f"{asks!r} is answered")
