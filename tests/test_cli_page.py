"""docs/reference/cli.md says what `--help` says, of every command, and nothing of commands that there are not."""

import re
from pathlib import Path

import click
import pytest

from nexus.cli.group import cli

from .cli_process import nexus

PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
HEADING = re.compile(r"^## `(nexus[^`]*)`$", re.MULTILINE)
BLOCK = re.compile(r"```text\n(.*?)\n```", re.DOTALL)


def commands(group, path=("nexus",)):
    """Every command and subcommand, as people type it."""
    yield " ".join(path), group
    if isinstance(group, click.Group):
        ctx = click.Context(group)
        for name in group.list_commands(ctx):
            yield from commands(group.get_command(ctx, name), (*path, name))


COMMANDS = dict(commands(cli))


def section(name):
    start = PAGE.index(f"## `{name}`\n")
    return PAGE[start : PAGE.find("\n## ", start + 1)]


def test_the_page_has_every_command_in_its_order_and_no_other():
    assert HEADING.findall(PAGE) == list(COMMANDS)


@pytest.mark.parametrize("name", tuple(COMMANDS))
async def test_the_page_shows_the_real_help(tmp_path, name):
    ended = await nexus(*name.split()[1:], "--help", cwd=tmp_path, env={"COLUMNS": "80"})
    assert ended.code == 0
    assert BLOCK.findall(section(name)) == [ended.out.rstrip()]


def test_every_command_that_prints_takes_json():
    without = {name for name, command in COMMANDS.items() if not any("--json" in param.opts for param in command.params)}
    assert without == {"nexus", "nexus config", "nexus keys", "nexus completion"}
