"""Client programs as processes: an environment with nothing of the tester's own, a time limit, and nobody left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import attrs

PATIENCE_SECONDS = 150  # an agent's prompt of 30,000 tokens on a machine that is busy otherwise
LOOK_SECONDS = 0.05

# Nothing but the gateway is to be reached: whoever heeds proxies finds a closed port, the others are told to keep quiet.
QUIET = {
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "HTTP_PROXY": "http://127.0.0.1:9",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "DO_NOT_TRACK": "1",
    "NO_COLOR": "1",
    "TERM": "dumb",
    "LANG": "C.UTF-8",
}


def clean(home: Path, env: Mapping[str, str]) -> dict[str, str]:
    """An environment with `env` and nothing of the tester's own."""
    kept = {name: os.environ[name] for name in ("PATH", "SSL_CERT_FILE", "TMPDIR") if name in os.environ}
    return {**kept, **QUIET, "HOME": str(home), **env}


@attrs.frozen
class Ended:
    """A program that has ended."""

    code: int
    out: str
    err: str

    @property
    def all(self) -> str:
        """Everything that it printed, in one line."""
        return " ".join(f"{self.out}\n{self.err}".split())


class Running:
    """A program under way, with everything that it started in a process group of its own."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self._out, self._err = _file(cwd), _file(cwd)
        self._process = subprocess.Popen(
            list(command),
            cwd=cwd,
            env=clean(cwd, env),
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    @property
    def over(self) -> bool:
        return self._process.poll() is not None

    @property
    def out(self) -> str:
        """What it has printed so far."""
        return _text(self._out)

    def interrupt(self) -> None:
        """What Ctrl-C sends: to everything that the program started as well."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGINT)

    def ended(self, seconds: float = PATIENCE_SECONDS) -> Ended:
        """Wait for its end.  Raises AssertionError, with what it said, where that takes too long."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s; it said: {self._said()[-400:]}") from None
        return Ended(code, self.out, _text(self._err))

    def _said(self) -> str:
        return " ".join(f"{self.out}\n{_text(self._err)}".split())

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._out.close()
        self._err.close()


def _file(folder: Path) -> IO[bytes]:
    return tempfile.TemporaryFile(dir=folder)


def _text(file: IO[bytes]) -> str:
    return os.pread(file.fileno(), 1 << 24, 0).decode(errors="replace")


@contextmanager
def running(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Iterator[Running]:
    """A program that is killed, with all its children, where it has not ended by itself."""
    program = Running(command, cwd, env)
    try:
        yield program
    finally:
        program.kill()


def until(predicate: Callable[[], object], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    """Return once `predicate()` is true.  Raises AssertionError that says what did not come about."""
    ends = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < ends, f"{what}: not within {seconds:g} s"
        time.sleep(LOOK_SECONDS)
