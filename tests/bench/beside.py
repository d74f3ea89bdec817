"""An earlier commit to put beside the present tree: checked out and installed for itself, and gone afterwards.  Nothing is measured here."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import sysconfig
import tempfile
import venv
from collections.abc import Iterator
from pathlib import Path

import attrs
from contenders import ROOT, Install


@attrs.frozen
class Earlier:
    """A contender's name, and what to start it with."""

    name: str
    install: Install


def short(commit: str) -> str:
    """The commit's short name.  Raises SystemExit where git knows none by that name."""
    command = ["git", "rev-parse", "--verify", "--quiet", "--short", f"{commit}^{{commit}}"]
    found = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"git knows no commit {commit!r} here: give a hash, a tag or a branch of this checkout")
    return found.stdout.strip()


@contextlib.contextmanager
def checked_out(commit: str) -> Iterator[Earlier]:
    """Its files in a directory of their own, and an interpreter that has its packages and no others of the project."""
    name = short(commit)
    with tempfile.TemporaryDirectory(prefix="nexus-beside-") as directory:
        tree = Path(directory) / "tree"
        print(f"checking out and installing {name} …", flush=True)
        _git("worktree", "add", "--quiet", "--detach", str(tree), name)
        try:
            yield Earlier(f"nexus@{name}", Install(_interpreter(Path(directory) / "venv", tree), tree))
        finally:
            _git("worktree", "remove", "--force", str(tree))


def _git(*arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=ROOT, check=True)


def _interpreter(directory: Path, tree: Path) -> str:
    """A virtual environment with the same third-party packages as this one: only the project's own differ."""
    venv.create(directory, symlinks=True)
    python = directory / "bin" / "python"
    here = Path(sysconfig.get_path("purelib"))
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    there = Path(subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip())
    for entry in here.iterdir():
        if "nexus" not in entry.name and not (there / entry.name).exists():
            (there / entry.name).symlink_to(entry)
    packages = [tree, *sorted(path.parent for path in tree.glob("plugins/*/pyproject.toml"))]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", str(python)]
    options = ["-q", "--no-deps", "--no-index", "--no-build-isolation", *(f"--editable={package}" for package in packages)]
    subprocess.run([*pip, "install", *options], check=True)
    return str(python)
