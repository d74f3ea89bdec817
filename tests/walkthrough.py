"""Does what a README says: its shell blocks, in its directory, word for word.  What must come of it is each test's to say.

The directory is a copy in which ports are other, free ones, so that tests may run side by side.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import re
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from nexus.testing import until

EXAMPLES = Path(__file__).parent.parent / "examples"
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORTS = ("6398", "7001", "7002", "7077", "7078", "8090")
QUIET_PORTS = range(20000, 30000)  # below the ephemeral ports of Linux (from 32768), macOS and Windows (from 49152)
TEXTS = (".md", ".py", ".toml")
PATIENCE = 60.0  # seconds, for one block


class Failed(AssertionError):
    """A block of the README did not do what it should."""


class Walk:
    """One README being followed.  `ports` says which port stands for which."""

    def __init__(self, directory: Path, ports: Mapping[str, str], env: Mapping[str, str], logs: Path) -> None:
        self.directory = directory
        self.ports = ports
        self.env = env
        self.left = BLOCK.findall((directory / "README.md").read_text())
        self._logs = logs
        self._running: list[tuple[asyncio.subprocess.Process, Path]] = []

    async def run(self, *words: str) -> str:
        """Run the next block, which must hold these words, to its end; what it printed."""
        process, log = await self._start(words)
        try:
            async with asyncio.timeout(PATIENCE):
                code = await process.wait()
        finally:
            await _end(process)
        said = log.read_text()
        if code:
            raise Failed(f"exit code {code} from the block with {words}:\n{said}\n{self.said()}")
        return said

    async def start(self, *words: str, listening: str) -> None:
        """Start the next block, which must hold these words and does not end; return when it listens on that (documented) port."""
        self._running.append(await self._start(words))
        await self.wait_for(listening)

    def skip(self, *words: str) -> None:
        """Leave the next block, which must hold these words, to another test."""
        self._next(words)

    async def wait_for(self, port: str) -> None:
        """Until something listens on the port that stands for this documented one.  Raises Failed with all that was said."""
        try:
            await until(lambda: self._over() or _listens(self.ports[port]), PATIENCE)
        except TimeoutError:
            raise Failed(f"nothing listens on {port}:\n{self.said()}") from None
        if self._over():
            raise Failed(f"it ended by itself:\n{self.said()}")

    def said(self) -> str:
        """What the blocks that run have printed so far."""
        return "\n".join(log.read_text(errors="replace") for _, log in self._running)

    def _over(self) -> bool:
        return any(process.returncode is not None for process, _ in self._running)

    async def _start(self, words: tuple[str, ...]) -> tuple[asyncio.subprocess.Process, Path]:
        block = self._next(words)
        log = self._logs / f"block-{len(self.left)}.log"
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *("bash", "-euo", "pipefail", "-c", block),
                cwd=self.directory,
                env=self.env,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        return process, log

    def _next(self, words: tuple[str, ...]) -> str:
        assert self.left, f"nothing is left that could hold {words}"
        block = self.left.pop(0)
        assert all(word in block for word in words), f"{words} is not what comes next:\n{block}"
        return block

    async def close(self) -> None:
        for process, _ in reversed(self._running):
            await _end(process)


@asynccontextmanager
async def walk(name: str, tmp: Path, env: Mapping[str, str]) -> AsyncIterator[Walk]:
    """Follow the README of the example `name`; every block must have been used at the end, and nothing runs on."""
    ports = dict(zip(PORTS, _free_ports(len(PORTS)), strict=True))
    for example in (path for path in EXAMPLES.iterdir() if path.is_dir()):
        _copy(example, tmp / "examples" / example.name, ports)
    logs = tmp / "logs"
    logs.mkdir()
    own = {"NEXUS_SERVER_PORT": ports["6398"], "NEXUS_URL": f"http://127.0.0.1:{ports['6398']}"}
    it = Walk(tmp / "examples" / name, ports, {**env, **own}, logs)
    try:
        yield it
    finally:
        await it.close()
    assert not it.left, f"the test leaves out what the README says: {it.left}"


def _copy(source: Path, target: Path, ports: Mapping[str, str]) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", "dist", "build"))
    for file in (path for path in target.rglob("*") if path.suffix in TEXTS):
        file.write_text(re.sub(rf"\b({'|'.join(PORTS)})\b", lambda found: ports[found[0]], file.read_text()))


def _free_ports(count: int) -> list[str]:
    """Ports that nobody gets by asking for any free one: between here and the server that is to listen, they stay free."""
    with contextlib.ExitStack() as held:
        return [str(_hold(held)) for _ in range(count)]


def _hold(held: contextlib.ExitStack) -> int:
    for port in random.sample(QUIET_PORTS, len(QUIET_PORTS)):
        one = held.enter_context(socket.socket())
        with contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
    raise AssertionError(f"no port of {QUIET_PORTS} is free")


def _listens(port: str) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        # Where any port may be an ephemeral one, a connect can meet itself.
        return probe.connect_ex(("127.0.0.1", int(port))) == 0 and probe.getsockname() != probe.getpeername()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the block and all that it started: ask, wait, insist."""
    for how, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, how)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await process.wait()
                return
