"""One llama.cpp server as a process of its own, which a test may kill and start again on the same port."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent


def make_model(path: Path, *arguments: str) -> None:
    """Write the tiny model to `path`, all at once: whoever sees the file sees all of it."""
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished")
    subprocess.run([sys.executable, str(HERE / "make_model.py"), str(unfinished), *arguments], check=True)
    unfinished.replace(path)


class LlamaCpp:
    """A running llama.cpp server.  Its verbs block for up to a second: call them by `asyncio.to_thread` beside live traffic."""

    model = "tiny-llama"

    def __init__(self, gguf: Path, log: Path, arguments: list[str], port: int = 0) -> None:
        self._holder = _hold(port)
        self.port: int = self._holder.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = log
        self._command = [sys.executable, str(HERE / "serve.py"), str(gguf), "--port", str(self.port), *arguments]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it serves.  Raises RuntimeError, with what it said, where it does not."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        assert self._process.stdout is not None
        if not any(line.strip() == b"ready" for line in self._process.stdout):
            self.kill()
            raise RuntimeError(f"llama.cpp did not start:\n{self._log.read_text(errors='replace')[-3000:]}")

    def kill(self) -> None:
        """SIGKILL: connections are reset, and the port refuses until `restart()`."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def restart(self) -> None:
        """Start it again on the same port, after killing it where it still runs."""
        self.kill()
        self.start()

    def close(self) -> None:
        """Kill it and give the port back."""
        self.kill()
        self._holder.close()

    def __repr__(self) -> str:
        return f"<LlamaCpp {self.url} {'alive' if self.alive else 'dead'}>"


def _hold(port: int) -> socket.socket:
    """A bound socket that does not listen: the port stays ours while the server is down (the server sets the same options)."""
    holder = socket.socket()
    options: list[Any] = [socket.SO_REUSEADDR, getattr(socket, "SO_REUSEPORT", socket.SO_REUSEADDR)]
    for option in options:
        holder.setsockopt(socket.SOL_SOCKET, option, 1)
    holder.bind(("127.0.0.1", port))
    return holder
