"""Virtual environments for tests: an empty one, and one that lies over the environment the tests run in.

Neither needs ensurepip: this environment's pip installs into both.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from collections.abc import Mapping
from pathlib import Path

import attrs

# What could make another environment see this one, or the developer's own settings.
FOREIGN = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "COVERAGE_PROCESS_START")

CURL = '''#!{python}
"""As much of curl as the examples need, for machines without it: -s, -i, -H, -d and a URL."""
import sys, urllib.error, urllib.request

words, headers, data, shown = sys.argv[1:], {{}}, None, False
while len(words) > 1:
    word = words.pop(0)
    if word == "-H":
        name, _, value = words.pop(0).partition(":")
        headers[name] = value.strip()
    elif word == "-d":
        data = words.pop(0).encode()
    else:
        shown = shown or "i" in word
try:
    answer = urllib.request.urlopen(urllib.request.Request(words[0], data, headers))
except urllib.error.HTTPError as error:
    answer = error
if shown:
    print(f"HTTP/1.1 {{answer.status}}\\n{{answer.headers}}")
sys.stdout.write(answer.read().decode())
'''


@attrs.frozen
class Environment:
    """A virtual environment at `root`."""

    root: Path

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def python(self) -> str:
        return str(self.bin / "python")

    @property
    def packages(self) -> Path:
        """Its site-packages."""
        return Path(sysconfig.get_path("purelib", "venv", {"base": str(self.root), "platbase": str(self.root)}))

    def variables(self, **more: str) -> Mapping[str, str]:
        """The process environment as it is when this one is activated: no setting of Nexus, a home of its own."""
        home = self.root / "home"
        home.mkdir(exist_ok=True)
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN and not name.startswith("NEXUS_")}
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return {**kept, "PATH": path, "HOME": str(home), "VIRTUAL_ENV": str(self.root), "PYTHONDONTWRITEBYTECODE": "1", **more}

    def install(self, *arguments: str) -> None:
        """`pip install`.  Raises AssertionError with pip's words."""
        command = [sys.executable, "-m", "pip", "--python", self.python, "install", "-q", "--no-input", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def script(self, name: str, text: str) -> None:
        """A command of this name."""
        file = self.bin / name
        file.write_text(text)
        file.chmod(0o755)


def empty(root: Path) -> Environment:
    """An environment that holds nothing, not even pip."""
    venv.create(root, with_pip=False, symlinks=True)
    return Environment(root)


def overlay(root: Path) -> Environment:
    """An environment that has all that this one has; what is installed into it stays in it."""
    environment = empty(root)
    below = sysconfig.get_path("purelib")
    environment.packages.joinpath("below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
    for name, module in (("nexus", "nexus"), ("pip", "pip")):
        environment.script(name, f'#!/bin/sh\nexec "{environment.python}" -m {module} "$@"\n')
    if not shutil.which("curl"):
        environment.script("curl", CURL.format(python=environment.python))
    return environment
