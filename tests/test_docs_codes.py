"""Error codes and headers: what the code can send is on its page, and what is on the page can be sent."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nexus import decision
from nexus.errors import BackendError
from nexus.testing.builders import FINISHED_OUTCOMES

from .docs_pages import ROOT

REFERENCE = ROOT / "docs" / "reference"
NAMED = {"QUEUE_FULL": decision.QUEUE_FULL, "QUEUE_TIMEOUT": decision.QUEUE_TIMEOUT}
SKIPPED = ("testing", "cli")  # what a test double or a command says is no answer of the gateway
HEADER = re.compile(r"x-nexus-[a-z-]+", re.IGNORECASE)


@cache
def trees() -> tuple[tuple[Path, ast.Module], ...]:
    files = [*(ROOT / "nexus").rglob("*.py"), *ROOT.glob("plugins/*/src/**/*.py")]
    kept = [f for f in files if not set(f.relative_to(ROOT).parts) & set(SKIPPED)]
    return tuple((f, ast.parse(f.read_text(encoding="utf-8"))) for f in kept)


def section(page: str, title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", (REFERENCE / page).read_text(encoding="utf-8"), re.M | re.S)
    assert found, f"{page} has no section {title}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the rows that begin with a word in code."""
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `")]


def first_words(text: str) -> list[str]:
    return [cells[0].strip("`") for cells in rows(text)]


# ---------------------------------------------------------------- error codes


def strings(node: ast.expr | None) -> Iterator[str]:
    """The texts that an expression can come to."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.Name) and node.id in NAMED:
        yield NAMED[node.id]
    elif isinstance(node, ast.IfExp):
        yield from strings(node.body)
        yield from strings(node.orelse)
    elif isinstance(node, ast.BoolOp):
        for value in node.values:
            yield from strings(value)


def said(call: ast.Call) -> Iterator[tuple[object, str]]:
    """(status, code) of a call that makes a problem, as far as both are written there; a status None is not."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    places = {"Problem": (0, 1), "_problem": (1, 2), "decide_at_last": (None, 1), "problem": (None, 2)}
    if name not in places:
        return
    at_status, at_code = places[name]
    status = call.args[at_status] if at_status is not None and len(call.args) > at_status else None
    for code in strings(call.args[at_code]) if len(call.args) > at_code else ():
        yield status.value if isinstance(status, ast.Constant) else None, code


def assigned(tree: ast.Module) -> Iterator[tuple[object, str]]:
    """Codes that get a name before they are used, and those in literal bodies."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
            yield from ((None, text) for text in strings(node.value))
        elif isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == "code":
                    yield from ((None, text) for text in strings(value))


@cache
def sent() -> dict[str, set[object]]:
    """Every code that the gateway can answer with, and the statuses it is written with."""
    found: dict[str, set[object]] = {}
    for path, tree in trees():
        calls = (pair for node in ast.walk(tree) if isinstance(node, ast.Call) for pair in said(node))
        named = assigned(tree) if path.name in ("verdict.py", "webserver.py", "control.py", "rejections.py") else ()
        for status, code in (*calls, *named):
            found.setdefault(code, set())
            if status is not None:
                found[code].add(status)
    return found


def test_the_codes_are_found():
    assert {"invalid_request", "queue_full", "tier", "malformed_http", "backend_broke_off"} <= set(sent())


def test_every_error_code_is_documented_and_no_other():
    assert sorted(first_words(section("errors.md", "Codes"))) == sorted(sent())


def test_every_status_is_as_the_page_says():
    for code, status, *_ in rows(section("errors.md", "Codes")):
        written = sent()[code.strip("`")]
        assert {str(s) for s in written} <= {status}, f"{code} is sent with {written}"


def test_the_codes_are_in_order():
    words = first_words(section("errors.md", "Codes"))
    assert words == sorted(words)


def test_every_code_of_an_attempt_is_documented_and_no_other():
    text, _, outcomes = section("errors.md", "Why an attempt failed").partition("What an attempt ends in")
    assert first_words(text) == list(BackendError.CODES)
    named = {cells.split("|")[2].strip(" `") for cells in outcomes.splitlines() if cells.startswith("| ") and "`" in cells}
    assert named == set(FINISHED_OUTCOMES)


# ---------------------------------------------------------------- headers


@cache
def headers() -> set[str]:
    """Every X-Nexus header that is named in the code, in lower case; sentences and docstrings do not count."""
    constants = (node.value for _, tree in trees() for node in ast.walk(tree) if isinstance(node, ast.Constant))
    return {text.lower() for text in constants if isinstance(text, str) and HEADER.fullmatch(text)}


def test_every_header_is_documented_and_no_other():
    asked = first_words(section("api.md", "Request headers"))
    answered = first_words(section("api.md", "Response headers"))
    assert {name.lower() for name in (*asked, *answered)} == headers()
    assert not set(asked) & set(answered)


def test_request_headers_are_those_that_are_read():
    read = {
        node.value
        for path, tree in trees()
        if path.name == "wishes.py"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and HEADER.fullmatch(node.value) and node.value.islower()
    }
    assert {name.lower() for name in first_words(section("api.md", "Request headers"))} == read


def test_no_page_names_a_header_that_there_is_not():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        named = {name.lower() for name in re.findall(r"X-Nexus-[A-Z][A-Za-z-]+[a-z]", page.read_text(encoding="utf-8"))}
        assert named <= headers(), page
