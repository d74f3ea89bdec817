"""`nexus backends`: the servers of a running gateway, and on what evidence their zone and their health rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import asks_gateway, print_json, say_where
from nexus.cli.wrapping import beside, tried_again

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

COLUMNS = ("Backend", "Type", "Health", "Zone", "Where", "In flight", "Models")
SHOWN_RESTING = 5


@click.command("backends")
@asks_gateway
def command(remote: Remote, as_json: bool) -> None:
    """List backends, with the evidence for their zone and health."""
    answer = remote.get("/nexus/backends")
    if as_json:
        print_json(answer)
        return

    from nexus.cli.tables import show_table

    backends = answer["backends"]
    say_where(remote)
    if not backends:
        click.echo("No backend is connected: start a server such as Ollama or llama.cpp, or write [[backends]] in nexus.toml.")
        return
    show_table(COLUMNS, [row(backend) for backend in backends])
    click.echo()
    for line in evidence(backends):
        click.echo(line)


def row(b: Mapping[str, Any]) -> tuple[Any, ...]:
    """One backend as a line of the table."""
    held = f"{b['in_flight']} of {b['capacity']}" if b["capacity"] else b["in_flight"]
    return b["name"], b["type"], _state(b), b["zone"], b["location"], held, len(b["models"])


def evidence(backends: list[Mapping[str, Any]]) -> Iterator[str]:
    """Where each is, and why it is believed to be what the table says."""
    from nexus.cli.wrapping import width, wrapped
    from nexus.plain import plain

    columns = width()
    first: dict[tuple[str, str], str] = {}  # who has the same evidence for the same zone; said once
    for b in backends:
        same = first.setdefault((b["zone"], b["zone_evidence"]), b["name"])
        evidence = f"as {same}" if same != b["name"] else b["zone_evidence"]
        yield f"{click.style(plain(b['name']), bold=True)}  {plain(b['url'])}"
        yield wrapped("  zone    ", f"{b['zone']}: {plain(evidence)}", columns)
        if b["omitted"]:
            yield wrapped("  models  ", _omitted(b["omitted"]), columns)
        if b["no_path"]:
            yield wrapped("  paths   ", plain(_no_path(b["no_path"])), columns)
        if b["resting"]:
            yield wrapped("  models  ", plain(_resting(b["resting"])), columns)
        yield wrapped("  health  ", f"{_how(b)}: {plain(_health(b))}", columns)


def _state(b: Mapping[str, Any]) -> str:
    """Whose account or key was refused is not asked, though its probes are fine."""
    return "suspended" if b["health"] == "healthy" and b["suspended_reason"] else str(b["health"])


def _how(b: Mapping[str, Any]) -> str:
    """One failed probe does not make a backend unhealthy; what it met is told all the same."""
    state = _state(b)
    return f"{state} so far" if state == "healthy" and b["problem"] else state


def _omitted(count: int) -> str:
    """Why its list is shorter here than there."""
    what = "1 more of its list is" if count == 1 else f"{count} more of its list are"
    return f"{what} left out: no request could ask for such an id, or there are too many; the log says which of it"


def _no_path(tasks: Mapping[str, float]) -> str:
    """What it has said not to have, though its probes are fine."""
    return f"it has none for {', '.join(f'{what} (tried again in {seconds:g} s)' for what, seconds in tasks.items())}"


def _resting(names: list[str]) -> str:
    """Which of its models are asked only where nobody else can serve, shortly."""
    more = f" and {len(names) - SHOWN_RESTING} more" if len(names) > SHOWN_RESTING else ""
    return f"{', '.join(names[:SHOWN_RESTING])}{more}: paused, suspended or left out for a while; `nexus models` says why"


def _health(b: Mapping[str, Any]) -> str:
    if b["last_probe_seconds_ago"] is None:
        return f"{b['problem']}; it is not asked until then" if b["problem"] else "not probed yet"
    version = f", version {b['version']}" if b["version"] else ""
    said = beside(b["problem"] or "", b["url"]) or f"answered{version}"
    ejected, suspended = b["ejected_seconds"], b["suspended_seconds"]
    resting = "" if ejected is None else f"; left out where another can serve ({tried_again(ejected)}): {b['ejected_reason']}"
    waiting = "" if suspended is None else f"; {tried_again(suspended)}"
    return f"{said}; probed {b['last_probe_seconds_ago']:g} s ago; found by {b['source']}{resting}{waiting}"
