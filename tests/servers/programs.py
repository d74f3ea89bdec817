"""The real servers that this machine may have: where they are looked for, and one of them running on loopback.

A program is the one that its variable names (`NEXUS_OLLAMA`, `NEXUS_LLAMA_SERVER`), else the one on the path.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

PATIENCE_SECONDS = 60.0


def program(name: str, variable: str) -> str | None:
    """The path of a program; None where the machine has none."""
    return os.environ.get(variable) or shutil.which(name)


class Running:
    """A server as a process of its own.  `log` is the file with all that it says."""

    def __init__(self, command: list[str], port: int, health: str, folder: Path, variables: Mapping[str, str]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = folder / f"{Path(command[0]).name}.log"
        self._health = self.url + health
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**_environment(folder), **variables}
            )

    def wait(self) -> None:
        """Return once it is well.  Raises RuntimeError, with what it said, where it does not become so."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urllib.request.urlopen(self._health, timeout=5):
                    return
            except (OSError, urllib.error.URLError):
                time.sleep(0.05)
        raise RuntimeError(f"{self.log.stem} did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def close(self) -> None:
        """End it, and the servers that it has started."""
        self._process.terminate()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def free_port() -> int:
    """A port of loopback that nobody has."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        port: int = holder.getsockname()[1]
        return port


def _environment(home: Path) -> dict[str, str]:
    """The tester's, but for a home of its own and without what a server would take for its settings."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OLLAMA_", "LLAMA_", "XDG_"))}
    return {**kept, "HOME": str(home)}
