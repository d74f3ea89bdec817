"""`nexus models`: every (model, backend) pair of a running gateway, and the aliases."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import asks_gateway, print_json

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

COLUMNS = ("Model", "Backend", "State", "Health", "Zone", "Tier", "Context", "Can", "Unknown", "Speed")


@click.command("models")
@asks_gateway
def command(remote: Remote, as_json: bool) -> None:
    """List models: where each is served, its context, what it can do, its state."""
    answer = remote.get("/nexus/models")
    if as_json:
        print_json(answer)
        return

    from nexus.cli.tables import show_table
    from nexus.observers.format import plain

    pairs = sorted(answer["models"], key=lambda pair: (pair["name"], pair["location"] == "cloud", pair["backend"]))
    if pairs:
        show_table(COLUMNS, [row(pair) for pair in pairs])
    else:
        click.echo("No model is known: `nexus backends` says which servers are connected, and how they are.")
    for alias, ids in answer["aliases"].items():
        click.echo(plain(f"{alias} → {' = '.join(ids)}"))


def row(pair: Mapping[str, Any]) -> tuple[Any, ...]:
    """One pair as a line of the table."""
    can = pair["capabilities"]
    speed = f"{pair['tokens_per_second']:g} tok/s" if pair["tokens_per_second"] else None
    return (
        pair["name"] if pair["name"] == pair["id"] else f"{pair['name']} ({pair['id']})",
        pair["backend"] + (" (cloud)" if pair["location"] == "cloud" else ""),
        pair["state"],
        pair["health"],
        pair["zone"],
        pair["tier"],
        context(pair["context"], pair["context_max"]),
        ", ".join(need for need, offered in can.items() if offered),
        "" if can else "all",
        speed,
    )


def context(served: int | None, most: int | None) -> str:
    """Tokens: what is served now, and what could be where that is more."""
    if served is None:
        return f"up to {most}" if most else ""
    return f"{served} (up to {most})" if most and most > served else str(served)
