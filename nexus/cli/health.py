"""`nexus health`: does a gateway run, and how is it?  For people, and for a container's health check by the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import asks_gateway, print_json

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

COLOURS = {"healthy": "green", "degraded": "yellow"}


@click.command("health")
@asks_gateway
def command(remote: Remote, as_json: bool) -> None:
    """Say how a running gateway is.

    Exit code 0: some backend can serve (healthy or degraded).  1: none can, it is stopping, or no gateway runs.
    """
    answer = remote.get("/health")
    if as_json:
        print_json(answer)
    else:
        from nexus.cli.wrapping import width, wrapped
        from nexus.plain import plain

        status = answer["status"]
        click.echo(wrapped(f"{click.style(status, fg=COLOURS.get(status, 'red'), bold=True)}: ", line(answer, remote.url), width()))
        for what, problem in answer["problems"].items():
            click.echo(wrapped(f"  {plain(what)}: ", plain(problem), width()))
    if answer["status"] not in COLOURS:
        raise click.exceptions.Exit(1)


def line(answer: Mapping[str, Any], url: str) -> str:
    """What comes after the status, in one sentence."""
    counts = answer["backends"]
    unwell = "".join(f", {counts[word]} {word}" for word in ("unhealthy", "unknown", "suspended") if counts.get(word))
    backends = f"{counts['healthy']} of {counts['total']} backend{'s' * (counts['total'] != 1)} healthy{unwell}"
    models = f"{answer['models']} model{'s' * (answer['models'] != 1)}"
    return f"{backends}; {models}; nexus {answer['version']} at {url}, up {span(answer['uptime_seconds'])}"


def span(seconds: float) -> str:
    """A duration as people say it."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"
