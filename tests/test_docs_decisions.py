"""Decisions that list rooms of the core: what they name is there, and nothing is listed twice in one half."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "decisions" / "translation-through-ways.md"
HALVES = PAGE.read_text(encoding="utf-8").partition("**What changed in the same days for other reasons.**")


def rooms(text: str) -> list[str]:
    """The rooms in the first column of every table, without the lines of rooms that belong to others."""
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall("`([^`]+)`", cell.partition("; lines of")[0])]


@pytest.mark.parametrize("half", [HALVES[0], HALVES[2]], ids=["for translation", "for other reasons"])
def test_every_room_that_is_named_is_there(half: str) -> None:
    named = [name for line in half.splitlines() if line.startswith("| `") for name in re.findall("`([^`]+)`", line.split("|")[1])]
    assert len(named) > 15
    missing = [name for name in named if not (ROOT / "nexus" / name).is_dir() and not (ROOT / "nexus" / f"{name}.py").is_file()]
    assert not missing


def test_the_files_add_up() -> None:
    first = HALVES[0].partition("What real servers and clients showed afterwards")[0]
    assert len(set(rooms(first))) == len(rooms(first)) == 16, "what came later is in the table below it"
    assert len(set(rooms(HALVES[2])) - set(rooms(first))) == len(set(rooms(HALVES[2]))) == 36
