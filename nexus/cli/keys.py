"""`nexus keys new`: a client's key, shown once, and the table that lets it in.  Nothing is stored here."""

from __future__ import annotations

import json
import sys

import click

from nexus.cli.options import as_json, print_json

LANES = ("high", "normal", "low")


@click.group("keys")
def command() -> None:
    """Make keys for clients."""


@command.command("new")
@click.argument("name")
@click.option("--models", multiple=True, metavar="GLOB", help="A model it may ask for; may be given again.  [default: all]")
@click.option("--priority", type=click.Choice(LANES), help="The highest it may ask for.  [default: normal]")
@click.option("--admin", is_flag=True, help="It opens /nexus/* too, and the commands that ask a running gateway.")
@as_json
def new(name: str, models: tuple[str, ...], priority: str | None, admin: bool, as_json: bool) -> None:
    """Make a key for the client NAME.

    Prints the key once, and the [[keys]] table for nexus.toml, which holds only its hash.  The table goes to stdout and the
    rest to stderr, so that a table that is redirected into a file takes no key along.
    """
    from nexus.config.fields import NAME
    from nexus.keys import new_key

    if not NAME.fullmatch(name):
        raise click.BadParameter("must be 1 to 64 letters, digits or any of . _ : @ - and begin with a letter or digit.")
    key, hashed = new_key()
    table = _table(name, hashed, models, priority, admin)
    if as_json:
        print_json({"name": name, "key": key, "hash": hashed, "toml": table})
        return
    click.echo(f"The key, which is shown only now:\n\n    {click.style(key, bold=True)}\n", err=True)
    if sys.stdout.isatty():
        click.echo("Add this to nexus.toml and restart:\n", err=True)
    else:
        click.echo("Its table was written to stdout: it belongs in nexus.toml, and takes effect at the next start.", err=True)
        click.echo()  # apart from what a file that it is appended to ends with
    click.echo(table)


def _table(name: str, hashed: str, models: tuple[str, ...], priority: str | None, admin: bool) -> str:
    lines = ["[[keys]]", f"name = {json.dumps(name)}", f"hash = {json.dumps(hashed)}"]
    if models:
        lines.append(f"models = {json.dumps(list(models), ensure_ascii=False)}")
    if priority:
        lines.append(f'priority = "{priority}"')
    if admin:
        lines.append("admin = true")
    return "\n".join(lines)
