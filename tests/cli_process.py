"""The real command line as a process of its own: `await nexus("check")`, `async with serving(...)`.  Tests are in `test_cli_*`."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import attrs

# Enough for a busy machine; nothing waits this long when all is well.
PATIENCE = 60.0
LISTENING = re.compile(r"listening on (http://\S+?)[\"\s]")


@attrs.frozen
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(home: Path, extra: Mapping[str, str]) -> dict[str, str]:
    """Nothing of the tester's own settings: an empty home, no NEXUS_ variable, a terminal of no colours."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("NEXUS_", "XDG_", "COLUMNS", "PYTHON"))}
    return {**kept, "HOME": str(home), "PYTHONWARNINGS": "error", "PYTHONIOENCODING": "utf-8", **extra}


async def start(*args: str, cwd: Path, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
    """The command, started in `cwd`, which is also its home."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "nexus",
        *args,
        cwd=cwd,
        env=environment(cwd, env or {}),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def nexus(*args: str, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "") -> Ended:
    """Run a command to its end."""
    process = await start(*args, cwd=cwd, env=env)
    try:
        async with asyncio.timeout(PATIENCE):
            out, err = await process.communicate(stdin.encode())
    finally:
        await kill(process)
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())


async def kill(process: asyncio.subprocess.Process) -> None:
    """Nothing of a test outlives it."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.communicate()


class Serving:
    """A gateway in a process of its own.  `log` is what it has written to stderr so far."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = ""
        self.url = ""

    async def until_logged(self, pattern: str | re.Pattern[str]) -> re.Match[str]:
        """Read the log until it has a match."""
        async with asyncio.timeout(PATIENCE):
            while (found := re.search(pattern, self.log)) is None:
                assert self.process.stderr is not None
                line = await self.process.stderr.readline()
                assert line, f"it ended before it logged {pattern!r}: {self.log}"
                self.log += line.decode()
        return found

    async def ended(self) -> int:
        """Its exit code, once it has ended; the rest of the log is read."""
        async with asyncio.timeout(PATIENCE):
            _, err = await self.process.communicate()
        self.log += err.decode()
        assert self.process.returncode is not None
        return self.process.returncode


@contextlib.asynccontextmanager
async def serving(*args: str, cwd: Path, env: Mapping[str, str] | None = None) -> AsyncIterator[Serving]:
    """`nexus ARGS` on a free port, with its state below `cwd`, once it listens; nothing is discovered unless `env` says so."""
    defaults = {
        "NEXUS_SERVER_PORT": "0",
        "NEXUS_SERVER_STATE_DIR": str(cwd / "state"),
        "NEXUS_DISCOVERY_SOURCES": "",
        "PYTHONUNBUFFERED": "1",
    }
    running = Serving(await start(*args, cwd=cwd, env={**defaults, **(env or {})}))
    try:
        running.url = (await running.until_logged(LISTENING))[1]
        yield running
    finally:
        await kill(running.process)
