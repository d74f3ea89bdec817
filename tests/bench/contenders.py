"""Starts, watches and stops what is measured: Nexus, nginx, the bare proxy, LiteLLM's proxy.  No load is made here."""

from __future__ import annotations

import contextlib
import functools
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from canned import KEY, MODEL

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PEERS = ROOT / "build" / "bench-litellm"
PAGE = os.sysconf("SC_PAGE_SIZE")
TICK = os.sysconf("SC_CLK_TCK")
CORES = sorted(os.sched_getaffinity(0))
PROXY_CORE, LOAD_CORE = CORES[0], CORES[-1]

NGINX = """
{user}daemon off; worker_processes 1; worker_rlimit_nofile 16384; pid {dir}/pid; error_log {dir}/error.log warn;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {dir}/body; proxy_temp_path {dir}/proxy; fastcgi_temp_path {dir}/fastcgi;
  uwsgi_temp_path {dir}/uwsgi; scgi_temp_path {dir}/scgi; keepalive_requests 1000000000; client_max_body_size 64m;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{ proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}
"""

NEXUS = """
[server]
host = "127.0.0.1"
port = {port}
state_dir = "{dir}"
{server}

[discovery]
sources = []
{extra}
"""

NEXUS_BACKEND = """
[[backends]]
name = "{name}"
type = "openai-compatible"
url = "http://127.0.0.1:{backend}"
"""

LITELLM = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{backend}/v1", api_key: sk-bench}}
"""


@attrs.frozen
class Install:
    """An interpreter with Nexus in it, and the tree that it comes from."""

    python: str = sys.executable
    tree: Path = ROOT


HERE_AND_NOW = Install()
UNCOMPILED = "PYTHONDONTWRITEBYTECODE"  # where it is set every start would compile every file, which no installation does


@functools.cache
def compile_files(install: Install) -> None:
    """As pip does when it installs: a start that is measured reads bytecode."""
    env = {name: value for name, value in os.environ.items() if name != UNCOMPILED}
    command = [install.python, "-m", "compileall", "-q", "nexus", "plugins"]
    subprocess.run(command, cwd=install.tree, env=env, check=False)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def fetch(port: int, path: str, timeout: float = 5.0) -> tuple[int, bytes]:
    """Status and body of one GET; status 0 where nobody answers."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


class Running:
    """A process with its children, pinned to one core."""

    def __init__(
        self, command: list[str], core: int, log: Path, port: int, env: dict[str, str] | None = None, cwd: Path = ROOT
    ) -> None:
        self.port = port
        self.log = log
        env = {name: value for name, value in (env or os.environ).items() if name != UNCOMPILED}
        self.spawned = time.monotonic()
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                command, stdout=out, stderr=out, cwd=cwd, env=env, preexec_fn=lambda: os.sched_setaffinity(0, {core})
            )

    def wait_ready(self, path: str, seconds: float) -> float:
        """Seconds from the spawn to the first 200 of `path`.  Raises RuntimeError where it does not come."""
        while time.monotonic() < self.spawned + seconds:
            if fetch(self.port, path, 1.0)[0] == 200:
                return time.monotonic() - self.spawned
            if self.process.poll() is not None:
                break
            time.sleep(0.002)
        tail = self.log.read_text(errors="replace")[-2000:]
        raise RuntimeError(f"{self.process.args!r} was not ready within {seconds:g} s; its log ends:\n{tail}")

    def pids(self) -> list[int]:
        found, todo = [], [self.process.pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            with contextlib.suppress(OSError):
                todo += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def rss(self) -> int:
        """Resident bytes of the process and its children."""
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE for pid in self.pids())

    def cpu(self) -> float:
        """Seconds of CPU, user and system, so far."""
        ticks = 0
        for pid in self.pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / TICK

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """Ask, wait, insist: the process and whatever it left behind."""
        pids = self.pids()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()


def start_upstream(directory: Path, port: int | None = None) -> Running:
    port = port or free_port()
    command = [sys.executable, str(HERE / "canned_server.py"), "--port", str(port)]
    running = Running(command, LOAD_CORE, directory / f"upstream-{port}.log", port)
    running.wait_ready("/v1/models", 10)
    return running


def nexus_command(
    directory: Path, port: int, backends: dict[str, int], extra: str, server: str, python: str = sys.executable
) -> list[str]:
    """The command that serves `backends` (name: port) with everything on; `server` are lines of its `[server]` table."""
    tables = "".join(NEXUS_BACKEND.format(name=name, backend=at) for name, at in backends.items())
    file = directory / f"nexus-{port}.toml"
    file.write_text(NEXUS.format(port=port, dir=directory / f"state-{port}", extra=extra, server=server) + tables)
    return [python, "-m", "nexus", "serve", "-c", str(file)]


def has_nexus() -> bool:
    command = [sys.executable, "-m", "nexus", "--version"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def start_nexus(
    directory: Path, backends: dict[str, int], extra: str = "", server: str = "", install: Install = HERE_AND_NOW
) -> tuple[Running, float]:
    """The gateway, and the seconds until it was ready."""
    compile_files(install)
    port = free_port()
    command = nexus_command(directory, port, backends, extra, server, install.python)
    running = Running(command, PROXY_CORE, directory / f"nexus-{port}.log", port, cwd=install.tree)
    return running, _ready(running, "/health/ready", 20)


def start_bare(directory: Path, backend: int) -> tuple[Running, float]:
    port = free_port()
    command = [sys.executable, str(HERE / "bare_proxy.py"), str(port), f"http://127.0.0.1:{backend}"]
    running = Running(command, PROXY_CORE, directory / "bare.log", port)
    return running, _ready(running, "/v1/models", 20)


def start_nginx(directory: Path, backend: int) -> tuple[Running, float]:
    port = free_port()
    file = directory / f"nginx-{port}.conf"
    user = "user root; " if os.geteuid() == 0 else ""  # who else could not write large bodies into the directory
    file.write_text(NGINX.format(dir=directory, port=port, backend=backend, user=user))
    running = Running([shutil.which("nginx") or "nginx", "-c", str(file)], PROXY_CORE, directory / "nginx.log", port)
    return running, _ready(running, "/v1/models", 20)


def start_litellm(directory: Path, backend: int) -> tuple[Running, float]:
    port = free_port()
    file = directory / f"litellm-{port}.yaml"
    file.write_text(LITELLM.format(model=MODEL, backend=backend))
    command = [str(PEERS / "bin" / "litellm"), "--config", str(file), "--host", "127.0.0.1", "--port", str(port)]
    env = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR", "LITELLM_MASTER_KEY": KEY}
    running = Running([*command, "--num_workers", "1"], PROXY_CORE, directory / "litellm.log", port, env)
    return running, _ready(running, "/health/liveliness", 120)


def install_litellm() -> None:
    """LiteLLM's proxy into a virtual environment of its own, once."""
    if not (PEERS / "bin" / "litellm").exists():
        print(f"installing litellm[proxy] into {PEERS.relative_to(ROOT)} …", flush=True)
        venv.create(PEERS, with_pip=True)
        subprocess.run([str(PEERS / "bin" / "pip"), "install", "-q", "litellm[proxy]"], check=True)


Starter = Callable[[Path, int], tuple[Running, float]]


def starter(install: Install) -> Starter:
    """Starts the gateway of this install before one backend."""
    return lambda directory, backend: start_nexus(directory, {"bench": backend}, install=install)


STARTERS: dict[str, Starter] = {
    "nexus": starter(HERE_AND_NOW),
    "bare": start_bare,
    "nginx": start_nginx,
    "litellm": start_litellm,
}


def _ready(running: Running, path: str, seconds: float) -> float:
    try:
        return running.wait_ready(path, seconds)
    except RuntimeError:
        running.stop()
        raise


@contextlib.contextmanager
def stopping(running: Running) -> Iterator[Running]:
    try:
        yield running
    finally:
        running.stop()
