"""What the package says of itself: its descriptors, its entry point, and the pages that list its codes and options."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import attrs
import nexus_stages
import pytest

from nexus.api import RefusalKind, Stage, StageKind
from nexus.model import CHAT, COMPLETION, EMBEDDING, JSON_SCHEMA, TOOLS, VISION
from nexus.sentences import WORDS

PACKAGE = Path(__file__).parents[1]
ROOT = PACKAGE.parents[1]
NAMES = ("privacy", "budget", "tier", "capability", "balance")
ROW = re.compile(
    r"^\| `(?P<code>\w+)` \| (?P<stage>[\w ]+) \| `(?P<kind>\w+)` \| (?P<meaning>[^|]+) \| (?P<data>[^|]*)\| (?P<do>[^|]+) \|$"
)


def page() -> dict[str, dict[str, str]]:
    """The rows of the codes' table, by code."""
    lines = (ROOT / "docs/reference/refusals.md").read_text().partition("## Codes")[2].splitlines()
    return {row["code"]: row.groupdict() for line in lines if (row := ROW.match(line))}


def written_codes() -> Iterator[tuple[str, str]]:
    """(code, kind) of every `Refusal(kind=RefusalKind.X, code="y")` in the core and in this package."""
    for path in (*ROOT.glob("nexus/**/*.py"), *PACKAGE.glob("src/**/*.py")):
        if "testing" in path.parts:  # stages of the test kit object with codes of their own
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Refusal":
                given = {k.arg: k.value for k in node.keywords}
                code, kind = given.get("code"), given.get("kind")
                if isinstance(code, ast.Constant) and isinstance(kind, ast.Attribute):
                    yield code.value, kind.attr.lower()


def test_the_descriptors_are_the_five_names_in_the_default_order(make: Any) -> None:
    assert tuple(make.kinds) == NAMES
    assert {name: kind.policy_words for name, kind in make.kinds.items() if kind.policy_words} == {
        "privacy": ("zone",),
        "tier": ("min_tier",),
    }


@pytest.mark.parametrize("name", NAMES)
def test_each_stage_opens_with_its_defaults(make: Any, name: str) -> None:
    assert isinstance(make.kinds[name], StageKind)
    assert isinstance(make.stage(name), Stage)


@pytest.mark.parametrize("name", NAMES)
def test_a_stage_that_learns_takes_every_event_calmly(make: Any, name: str) -> None:
    stage, pair = make.stage(name), make.pair()
    for event in (
        make.claimed(pair),
        make.finished(pair),
        make.finished(pair, "failed", session="s"),
        make.finished(pair, session="s"),
    ):
        stage.learn(event)
    assert stage.refuse(make.ask(session="s"), pair) is None


def test_it_is_found_through_its_entry_point() -> None:
    found = [point for point in entry_points(group="nexus.plugins") if point.name == "stages"]
    assert [point.load() for point in found] == [nexus_stages]


def test_the_project_depends_on_the_core_and_declares_its_entry_point() -> None:
    project = tomllib.loads((PACKAGE / "pyproject.toml").read_text())["project"]
    assert project["name"] == "nexus-proxy-stages"
    assert "nexus-proxy" in project["dependencies"]
    assert project["entry-points"]["nexus.plugins"] == {"stages": "nexus_stages"}


# ---------------------------------------------------------------- the refusals page


def test_every_code_that_is_written_somewhere_is_on_the_page_with_its_kind() -> None:
    codes, listed = set(written_codes()), page()
    assert {"zone", "tier", "context", "down", "busy"} <= {code for code, _ in codes}
    missing = {(code, kind) for code, kind in codes if code not in listed or listed[code]["kind"] != kind}
    assert not missing


@pytest.mark.parametrize("need", [CHAT, COMPLETION, EMBEDDING, VISION, TOOLS, JSON_SCHEMA])
def test_every_need_has_its_code_on_the_page(make: Any, need: str) -> None:
    stage = make.stage("capability")
    pair = make.pair(offers={need: False})
    refusal = stage.refuse(make.described(stage, pair, needs=frozenset({need})), pair)
    assert refusal is not None
    row = page()[refusal.code]
    assert (row["stage"], row["kind"]) == ("capability", refusal.kind.value)
    assert all(f"`{key}`" in row["data"] for key in refusal.data)


def test_the_page_lists_just_the_codes_that_have_words_for_people() -> None:
    assert set(page()) == set(WORDS)


def test_every_kind_is_explained() -> None:
    text = (ROOT / "docs/reference/refusals.md").read_text().partition("## Codes")[0]
    assert all(f"| `{kind.value}` |" in text for kind in RefusalKind)


# ---------------------------------------------------------------- the README


def test_the_readme_names_every_stage_code_and_option(make: Any) -> None:
    text = (PACKAGE / "README.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.M | re.S))
    assert tuple(sections) == NAMES
    for code, row in page().items():
        if row["stage"] in NAMES:
            assert f"`{code}`" in sections[row["stage"]], code
    for name in ("capability", "balance"):
        for field in attrs.fields(make.kinds[name].options):
            assert f"{field.name} = " in sections[name], field.name


def test_the_configuration_in_the_readme_is_the_default(make: Any) -> None:
    blocks = re.findall(r"```toml\n(.*?)```", (PACKAGE / "README.md").read_text(), re.S)
    tables = {name: table for block in blocks for name, table in tomllib.loads(block).items()}
    assert tables.pop("routing") == {"stages": list(NAMES)}
    assert set(tables) == {"capability", "balance"}
    for name, table in tables.items():
        kind = make.kinds[name]
        assert kind.options(**table) == kind.options()


def test_every_stage_has_a_file_of_its_own(make: Any) -> None:
    for name in ("privacy", "budget", "tier", "capability"):
        assert inspect.getmodule(type(make.stage(name))).__name__ == f"nexus_stages.{name}"
