"""`nexus clients`: the lines that point a client at the running gateway, filled with the models that it serves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import attrs
import click

from nexus.cli.clients_recipes import CLIENTS, Client, Setting, picker_aliases
from nexus.cli.failure import Failure
from nexus.cli.options import asks_gateway, print_json
from nexus.model import CHAT, TOOLS
from nexus.nearest import nearest

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

# What a server calls its model ends up in shells and programs of whoever copies the lines.
HARMLESS = re.compile(r"[\w.:/@+-]+", re.ASCII)


@click.command("clients")
@click.argument("name", required=False)
@click.option("--model", help="The model to write down.  [default: one that chats and takes tools, at home if there is one]")
@click.option("--aliases", is_flag=True, help="For claude-code: names for every model that its /model picker shows.")
@asks_gateway
def command(remote: Remote, name: str | None, model: str | None, aliases: bool, as_json: bool) -> None:
    """Print the lines that point the client NAME at a running gateway.

    The names of models in them are the gateway's own.  Without NAME, the
    clients are listed, and no gateway is asked.
    """
    if name is None:
        _list(as_json)
        return
    client = _known(name)
    if aliases:
        _aliases(remote, client, as_json)
        return
    if not client.works and not as_json:
        click.echo(client.note)
        return
    setting = settle(remote, model)
    if as_json:
        print_json(described(client, setting))
        return
    for line in told(client, setting):
        click.echo(line)


def _known(name: str) -> Client:
    if name not in CLIENTS:
        near = nearest(name, CLIENTS)
        meant = f"did you mean {near[0]!r}?" if near else "`nexus clients` lists those that are known."
        raise click.UsageError(f"there is no client {name!r}; {meant}")
    return CLIENTS[name]


def _list(as_json: bool) -> None:
    listed = [{"name": c.name, "title": c.title, "dialect": c.dialect} for c in CLIENTS.values()]
    if as_json:
        print_json({"clients": listed})
        return

    from nexus.cli.tables import show_table

    show_table(("Name", "Client", "Dialect"), [(c["name"], c["title"], c["dialect"]) for c in listed])


def _aliases(remote: Remote, client: Client, as_json: bool) -> None:
    if not client.asks_for:
        raise click.UsageError(f"{client.title} shows every name: --aliases is for claude-code.")
    names = (entry["id"] for entry in remote.get("/v1/models")["data"])
    lines = picker_aliases((name for name in names if HARMLESS.fullmatch(name)), keyed=remote.has_key)
    if as_json:
        print_json(attrs.asdict(lines))
        return
    click.echo(f"{lines.why}\n\nIn {lines.where}:\n\n{lines.text}")


def settle(remote: Remote, model: str | None) -> Setting:
    """What the gateway says of its models, with the one to write down.  Raises Failure where it serves none, or not that one."""
    served = remote.get("/v1/models")["data"]
    names = [entry["id"] for entry in served]
    if model is not None and model not in names:
        raise Failure(f"the gateway at {remote.url} does not serve {model!r}: `nexus models` lists what it serves")
    chosen = model or _best(served)
    if chosen is not None and not HARMLESS.fullmatch(chosen):
        raise Failure(f"the name {chosen!r} would not survive a shell: give that model an alias, see [routing.aliases]")
    if chosen is None:
        raise Failure(f"the gateway at {remote.url} serves no chat model yet: `nexus backends` says which servers are connected")
    context = next(entry.get("context_length") for entry in served if entry["id"] == chosen)
    setting = Setting(url=remote.url, model=chosen, served=frozenset(names), context=context)
    return attrs.evolve(setting, key="YOUR-KEY", keyed=True) if remote.has_key else setting


def _best(served: Iterable[Mapping[str, Any]]) -> str | None:
    """The first that chats, as far as is known: one that may take tools before others, at home before elsewhere, then one that is known to;
    a name that Claude Code asks for last."""
    able = [entry for entry in served if not entry["capabilities"] or CHAT in entry["capabilities"]]
    able = [entry for entry in able if HARMLESS.fullmatch(entry["id"])]
    able.sort(key=_doubt)
    return able[0]["id"] if able else None


def _doubt(entry: Mapping[str, Any]) -> tuple[bool, bool, bool, bool]:
    tools = TOOLS in entry["capabilities"]
    return entry["id"].startswith("claude-"), TOOLS in entry["lacks"], entry["location"] == "cloud", not tools


def described(client: Client, setting: Setting) -> dict[str, Any]:
    """The same as JSON."""
    lines = [attrs.asdict(lines) for lines in client.lines(setting)] if client.works else []
    about = {"name": client.name, "title": client.title, "dialect": client.dialect, "note": client.note or None}
    return {**about, "url": setting.url, "model": setting.model, "lines": lines, "warning": client.warning(setting) or None}


def told(client: Client, setting: Setting) -> Iterable[str]:
    """Where, then the lines, flush left: they are there to be copied."""
    from nexus.plain import plain

    warning = client.warning(setting)
    if warning:
        yield from (click.style("Warning: ", fg="yellow") + warning, "")
    for lines in client.lines(setting):
        if lines.why:
            yield from (lines.why, "")
        yield click.style(f"In {lines.where}:", bold=True)
        yield ""
        yield from map(plain, lines.text.splitlines())
        yield ""
    if setting.keyed:
        yield "YOUR-KEY stands for the client's key; `nexus keys new NAME` makes one."
