"""Every page is true where a machine can tell: links lead somewhere, configurations load, Python compiles, commands exist."""

from __future__ import annotations

import ast
import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import click
import pytest

from nexus.api import BackendKind, SourceKind, opens, replace
from nexus.catalog import Catalog
from nexus.cli.group import cli
from nexus.config import load

from .docs_pages import PAGES, ROOT, SHELL, anchors, blocks, commands, files, forgotten, ids, prose

ENV = dict.fromkeys(("ANTHROPIC_API_KEY", "OPENAI_API_KEY", "VLLM_API_KEY", "LLAMA_API_KEY"), "key")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def test_every_link_leads_somewhere():
    links = [(page, target) for page in PAGES for target in LINK.findall(prose(page))]
    for page, target in links:
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{page}: {target} is not there"
        assert there.is_relative_to(ROOT), f"{page}: {target} is outside of the project"
        if fragment:
            assert fragment in anchors(there), f"{page}: {target}: no such heading; there are {sorted(anchors(there))}"


def test_every_page_can_be_reached_from_the_map():
    reached, todo = set(), [ROOT / "README.md"]
    while todo:
        page = todo.pop()
        if page in reached or page.suffix != ".md" or not page.exists():
            continue
        reached.add(page)
        todo += [(page.parent / link.partition("#")[0]).resolve() for link in LINK.findall(prose(page)) if ":" not in link]
    pages = {p for p in PAGES if p.is_relative_to(ROOT / "docs")}
    assert pages - reached == set(), "pages that nothing links to"


# ---------------------------------------------------------------- blocks

TOML = [block for block in blocks("toml") if block.file in (None, "nexus.toml")]


def installed(disabled: tuple[str, ...] = ()) -> Catalog:
    """What the project brings, and what some pages take for installed: the kinds of the examples, and a source for mDNS."""
    catalog = Catalog.load(disabled=disabled)
    open_ = opens(lambda options, scope: None)
    return replace(
        catalog,
        backends={**catalog.backends, **{name: BackendKind(name=name, open=open_) for name in ("echo", "plain")}},
        sources={**catalog.sources, "mdns": SourceKind(name="mdns", open=open_)},
    )


@pytest.mark.parametrize("block", TOML, ids=ids(TOML))
def test_every_configuration_loads(block, tmp_path, monkeypatch):
    if "plugins = [" in block.text and '"my_stages"' in block.text:
        module = files(ROOT / "docs" / "guide" / "write-a-stage.md")["my_stages.py"]
        (tmp_path / "my_stages.py").write_text(module)
        path = tmp_path / "nexus.toml"
        path.write_text(block.text)
        forgotten(monkeypatch, "my_stages")
        load(path, env=ENV)
        return
    disabled = tuple(tomllib.loads(block.text).get("disabled", ()))
    load(block.text, env=ENV, catalog=installed(disabled))


def test_all_python_compiles():
    for block in blocks("python"):
        compile(block.text, str(block), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def test_all_json_is_json():
    for block in blocks("json"):
        try:
            json.loads(block.text)
        except ValueError as error:
            pytest.fail(f"{block}: {error}")


# ---------------------------------------------------------------- commands

LINES = [(str(block), line) for block in blocks(*SHELL) for line in commands(block)]
NEXUS = [(where, line) for where, line in LINES if re.search(r"(?:^|[;&|] *)(?:python -m )?nexus( |$)", line)]


def words(line: str) -> list[str]:
    """The words after `nexus`, up to a pipe, a redirection or the like."""
    text = re.sub(r"^.*?(?:python -m )?\bnexus\b", "", line, count=1)
    found = shlex.split(text, comments=True)
    ends = [n for n, word in enumerate(found) if word in ("|", "&", "&&", ">", ">>", ";")]
    return found[: ends[0]] if ends else found


def test_there_are_commands_to_judge():
    assert len(NEXUS) > 30


def test_every_command_exists_with_its_flags():
    """Parsed by the command's own parser, and not run."""
    for where, line in NEXUS:
        command: click.Command = cli
        context, given = click.Context(cli, info_name="nexus"), words(line)
        if not given or (given[0].startswith("-") and given[0] != "--version"):
            given = ["serve", *given]
        while isinstance(command, click.Group) and given[0] != "--version":
            name, *given = given
            found = command.get_command(context, name)
            assert found is not None, f"{where}: there is no command {name!r}"
            command, context = found, click.Context(found, info_name=name, parent=context)
        try:
            command.make_parser(context).parse_args(given)
        except click.UsageError as error:
            pytest.fail(f"{where}: {line}: {error}")


MAKE = [(where, line) for where, line in LINES if line.startswith("make ")]


@pytest.mark.parametrize(("where", "line"), MAKE, ids=[f"{where} {line}" for where, line in MAKE])
def test_make_knows_every_target_that_is_named(where, line):
    done = subprocess.run(["make", "-n", *shlex.split(line)[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{where}: {done.stderr}"


def test_the_readme_lists_every_command_and_no_other():
    listed = set(re.findall(r"^\| `nexus ([a-z ]+?)` \|", (ROOT / "README.md").read_text(), re.MULTILINE))
    assert listed == set(_leaves(cli, ()))


def _leaves(command: click.Command, path: tuple[str, ...]):
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from _leaves(found, (*path, name))


def test_the_readme_lists_every_plugin_of_the_tree():
    (row,) = re.findall(r"^\| `plugins/` \|(.*)$", Path(ROOT / "README.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(\w+)`", row)) == {p.parent.name for p in ROOT.glob("plugins/*/pyproject.toml")}


def test_the_architecture_lists_every_room():
    listed = set(re.findall(r"`(nexus/[\w/]+(?:\.py|/))`", (ROOT / "docs" / "architecture.md").read_text()))
    rooms = {f"nexus/{p.name}" for p in (ROOT / "nexus").glob("*.py")}
    rooms |= {f"nexus/{p.name}/" for p in (ROOT / "nexus").iterdir() if (p / "__init__.py").exists()}
    assert listed == rooms
