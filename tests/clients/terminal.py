"""A terminal of tmux with a program in it: what a person types, and what a person sees."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from .processes import PATIENCE_SECONDS, Ended, clean, until

COLUMNS, ROWS = "100", "45"
CODE = "exit-code"


class Terminal:
    """`screen` is what stands there now."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        assert shutil.which("tmux"), "tmux is not installed on this machine"
        self._socket = cwd / "tmux"
        self._env, self._cwd = clean(cwd, env), cwd
        # tmux does not always hear how a program ended: the shell does.  The option keeps its last screen.
        heard = ("sh", "-c", f'"$@"; echo $? > {CODE}', "sh", *command)
        kept = (";", "set-option", "-g", "remain-on-exit", "on")
        self._tmux("-f", "/dev/null", "new-session", "-d", "-x", COLUMNS, "-y", ROWS, *heard, *kept)

    @property
    def screen(self) -> str:
        return self._tmux("capture-pane", "-p")

    @property
    def over(self) -> bool:
        return bool(self._code)

    @property
    def _code(self) -> str:
        """How the program ended; "" while it runs."""
        file = self._cwd / CODE
        return file.read_text().strip() if file.exists() else ""

    def shows(self, text: str, times: int = 1) -> None:
        """Return once the text is to be seen, so many times.  Raises AssertionError with what there is instead."""
        self._wait(lambda: self.screen.count(text) >= times or self.over, f"{text!r} on the screen")
        assert self.screen.count(text) >= times, f"it ended without {text!r}: {self._seen()}"

    def say(self, text: str) -> None:
        """Type a line, and Enter once it is to be seen."""
        self._tmux("send-keys", "-l", text)
        self.shows(text)
        self.press("Enter")

    def press(self, *keys: str) -> None:
        """Keys by tmux's names."""
        self._tmux("send-keys", *keys)

    def ended(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Wait for its end."""
        self._wait(lambda: self.over, "the program ends", seconds)
        return Ended(int(self._code), self.screen, "")

    def kill(self) -> None:
        self._tmux("kill-server")

    def _wait(self, predicate: Callable[[], bool], what: str, seconds: float = PATIENCE_SECONDS) -> None:
        try:
            until(predicate, what, seconds)
        except AssertionError as problem:
            raise AssertionError(f"{problem}; there is: {self._seen()}") from None

    def _seen(self) -> str:
        return " ".join(self.screen.split())[-600:]

    def _tmux(self, *arguments: str) -> str:
        command = ["tmux", "-S", str(self._socket), *arguments]
        done = subprocess.run(command, cwd=self._cwd, env=self._env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"tmux: {done.stderr.strip()}"
        return done.stdout


@contextmanager
def terminal(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """A terminal that is closed in the end, with what still runs in it."""
    made = Terminal(command, cwd, env)
    try:
        yield made
    finally:
        made.kill()
