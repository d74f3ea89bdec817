"""The pages for people, and what is in them: blocks, links, commands.  What must hold of them is in `test_docs*.py`.

A block's first line may name the file that it stands for: `# my_stages.py`, and `# my_stages.py, continued` for its next part.
A TOML block that names no other file is a nexus.toml.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *ROOT.glob("plugins/*/README.md"), *ROOT.glob("examples/*/README.md")]
)
BLOCK = re.compile(r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^ *```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (?P<file>[\w./-]+\.(?:py|toml|yml))(?:, continued)?\n")
SHELL = ("sh", "bash", "console")


@attrs.frozen
class Block:
    """One fenced block; `file` is what its first line names, and `text` is without that line."""

    page: str
    line: int
    language: str
    text: str
    file: str | None = None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(*languages: str, page: Path | None = None) -> list[Block]:
    """The blocks of these languages, on all pages or on one."""
    pages = PAGES if page is None else [page]
    return [block for path in pages for block in _blocks(path) if not languages or block.language in languages]


def _blocks(path: Path) -> Iterator[Block]:
    source = path.read_text(encoding="utf-8")
    for found in BLOCK.finditer(source):
        text = re.sub(rf"^{found['indent']}", "", found["text"], flags=re.MULTILINE)
        name = NAMED.match(text)
        line = source.count("\n", 0, found.start()) + 1
        page = str(path.relative_to(ROOT))
        yield Block(page, line, found["language"], text[name.end() :] if name else text, name["file"] if name else None)


def files(page: Path) -> dict[str, str]:
    """The files that a tutorial builds: the blocks that name one, its parts joined as the formatter would."""
    parts: dict[str, list[str]] = {}
    for block in blocks(page=page):
        if block.file:
            parts.setdefault(block.file, []).append(block.text.strip("\n"))
    return {name: "\n\n\n".join(texts) + "\n" for name, texts in parts.items()}


def commands(block: Block) -> list[str]:
    """The command lines of a shell block, continued lines joined, comments left out."""
    text = re.sub(r"\\\n\s*", " ", block.text)
    return [line for line in (line.strip() for line in text.splitlines()) if line and not line.startswith("#")]


def prose(path: Path) -> str:
    """A page without its blocks."""
    return BLOCK.sub("", path.read_text(encoding="utf-8"))


def anchors(path: Path) -> set[str]:
    """The fragments that a link may point to, as the usual sites make them from headings."""
    return {_slug(heading) for heading in re.findall(r"^#{1,6} (.*)$", prose(path), re.MULTILINE)}


def _slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def forgotten(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Let a test import a local module as a gateway does, and leave neither it nor its directory behind."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setitem(sys.modules, module, None)  # noted as absent, so that it is taken out again
    del sys.modules[module]


def ids(items: Sequence[object]) -> list[str]:
    """Names for parametrised cases."""
    return [str(item) for item in items]
