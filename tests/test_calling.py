"""What the reader is told to type can be typed where he is."""

import os
import subprocess
import sys

import pytest

from nexus.cli.calling import calling
from nexus.cli.clients import _best


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An environment with a program of its own, in a directory of ours; nothing on the PATH."""
    program = tmp_path / "home" / ".venv" / "bin" / "nexus"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho $*\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.chdir(tmp_path)
    return program


def test_what_the_path_finds_is_called_by_its_name(installed, monkeypatch, tmp_path):
    elsewhere = tmp_path / "bin"
    elsewhere.mkdir()
    (elsewhere / "nexus").symlink_to(installed)
    monkeypatch.setenv("PATH", str(elsewhere))
    assert calling() == "nexus"


def test_another_program_of_that_name_is_not_meant(installed, monkeypatch, tmp_path):
    (tmp_path / "nexus").write_text("#!/bin/sh\n")
    (tmp_path / "nexus").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert calling() == "home/.venv/bin/nexus"


@pytest.mark.parametrize("here", [".", "home", "/"])
def test_what_the_path_does_not_find_is_called_by_its_own(installed, monkeypatch, tmp_path, here):
    monkeypatch.chdir(tmp_path / here)
    told = calling()
    assert told == (str(installed) if here == "/" else os.path.relpath(installed))
    assert subprocess.check_output(f"{told} explain", shell=True, env={}, text=True) == "explain\n"


def test_without_a_program_it_is_python(installed):
    installed.unlink()
    assert calling() == f"{sys.executable} -m nexus"


def entry(id: str, *can: str, lacks=(), cloud=False):
    return {"id": id, "capabilities": list(can), "lacks": list(lacks), "location": "cloud" if cloud else "local"}


AWAY = entry("away", "chat", "tools", cloud=True)


@pytest.mark.parametrize(
    ("served", "best"),
    [
        ([AWAY, entry("home", "chat", "tools")], "home"),
        ([AWAY, entry("home")], "home"),  # nothing is known of it
        ([AWAY, entry("home", "chat", lacks=["tools"])], "away"),
        ([AWAY, entry("home", "embedding")], "away"),
        ([AWAY, entry("claude-home", "chat", "tools")], "away"),
        ([entry("far", "chat", cloud=True), AWAY], "away"),
        ([entry("first", "chat"), entry("tools", "chat", "tools")], "tools"),
    ],
)
def test_a_client_is_given_a_model_at_home_that_may_take_tools(served, best):
    assert _best(served) == best
