"""The pages that repeat the code say what it says: every hook, contract, value and tool of the kit, with its signature and its words."""

from __future__ import annotations

import ast

import pytest

import nexus.testing
import nexus.testing.conformance
import nexus.testing.contracts
from nexus import api, hookspecs, model
from nexus.dialects import canonical, checks, complaints, decoding, fields, jsontext, lines, members, sse, unread, watching

from .reference_pages import PAGES, ROOT, rendered, renewed, sections

DIALECTS = (canonical, fields, checks, jsontext, members, complaints, unread, watching, decoding, sse, lines)
ERRORS = {"Problem", "BackendError", "Refused"}


def classes_of(module, *further) -> set[str]:
    """The public classes of a module or package, and what else is defined there of these kinds."""
    path = ROOT / module.__name__.replace(".", "/")
    files = path.rglob("*.py") if path.is_dir() else [path.with_suffix(".py")]
    nodes = [node for file in files for node in ast.parse(file.read_text()).body]
    return {node.name for node in nodes if isinstance(node, (ast.ClassDef, *further)) and not node.name.startswith("_")}


EXPECTED = {
    "hooks.md": {name for name in vars(hookspecs) if name.startswith("nexus_")} | classes_of(api) | ERRORS | {"opens"},
    "values.md": classes_of(model) | {"replace"},
    "dialects.md": set().union(*(classes_of(module, ast.FunctionDef) for module in DIALECTS)),
    "testing.md": set(nexus.testing.__all__)
    | set(nexus.testing.contracts.__all__)
    | {"upstream", "nexus_gateway", "aioresponses_fixed", "RunningGateway", "Knobs"},
    "conformance.md": {name for name in nexus.testing.conformance.__all__ if not name.isupper()},
}


@pytest.mark.parametrize("page", PAGES)
def test_every_name_has_its_section_and_no_other(page):
    assert set(sections(page)) == EXPECTED[page]


@pytest.mark.parametrize("page", PAGES)
def test_every_section_says_what_the_code_says(page):
    code = rendered(page)
    for name, told in sections(page).items():
        assert told == code[name], f"{name}: run python tests/reference_pages.py"


@pytest.mark.parametrize("page", PAGES)
def test_writing_a_page_anew_changes_nothing(page):
    assert renewed(page) == (ROOT / "docs" / "reference" / page).read_text(encoding="utf-8")


def test_everything_that_a_plugin_imports_is_on_a_page():
    told = {name for page in ("hooks.md", "values.md") for name in sections(page)}
    constants = {"ANYTHING", "EMPTY", "NO_DEMAND", "Open", "hookimpl"}
    assert set(api.__all__) - told == constants
