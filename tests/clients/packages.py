"""Which clients are installed, in which versions, and where to: a directory each, so that none sees another's dependencies.

What is asked of them is in `sdks` and `agents`.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
CACHE = Path(os.environ.get("NEXUS_CLIENTS_DIR") or ROOT / ".clients")
PATIENCE_SECONDS = 600

NPM = {
    "js": (
        "openai@7.57.0",
        "@anthropic-ai/sdk@1.12.0",
        "ai@7.0.173",
        "@ai-sdk/openai-compatible@3.0.92",
        "@ai-sdk/openai@4.0.118",
        "@ai-sdk/anthropic@4.0.105",
    ),
    # A native program.  Asked for without a version, npm gives an older one where Node is older than 22.
    "claude-code": ("@anthropic-ai/claude-code@2.1.330",),
    "continue": ("@continuedev/cli@1.5.47",),
    "opencode": ("opencode-ai@1.18.33",),
    "codex": ("@openai/codex@0.169.0",),
}
PYPI = {
    "langchain": ("langchain-openai==1.7.3", "langchain-anthropic==1.7.7"),
    "llm": ("llm==0.36",),
    "aider": ("aider-chat==0.86.2",),
}


class NotInstalled(Exception):
    """A client could not be installed; the text says why."""


def npm(name: str) -> Path:
    """The directory with the `node_modules` of this set, installed where it is not.  Raises NotInstalled."""

    def install(directory: Path) -> None:
        # The prefix is named: without a package.json here, npm would look for one further up.
        (directory / "package.json").write_text(json.dumps({"private": True}))
        _run(["npm", "install", "--no-audit", "--no-fund", "--loglevel=error", "--prefix", str(directory), *NPM[name]])

    return _installed(name, NPM[name], install)


def venv(name: str) -> Path:
    """The virtual environment of this set, made where there is none.  Raises NotInstalled."""

    def install(directory: Path) -> None:
        _run([sys.executable, "-m", "venv", "--without-pip", str(directory)])
        _run([sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install", "-q", *PYPI[name]])

    return _installed(name, PYPI[name], install)


def _installed(name: str, packages: tuple[str, ...], install: Callable[[Path], None]) -> Path:
    """A set counts as installed once its stamp names these very packages: an install that broke off is begun anew."""
    directory, stamp = CACHE / name, CACHE / f"{name}.stamp"
    with _only_one(name):
        if not stamp.exists() or stamp.read_text() != "\n".join(packages):
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir(parents=True)
            install(directory)
            stamp.write_text("\n".join(packages))
    return directory


@contextmanager
def _only_one(name: str) -> Iterator[None]:
    """One process installs a set, others wait for it."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS)
    except FileNotFoundError:
        raise NotInstalled(f"{command[0]} is not installed on this machine") from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{command[0]} did not end within {PATIENCE_SECONDS} s") from None
    if done.returncode:
        raise NotInstalled(f"{command[0]} failed: {(done.stderr or done.stdout).strip()[-800:]}")
