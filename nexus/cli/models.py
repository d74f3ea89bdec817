"""`nexus models`: every (model, backend) pair of a running gateway, and the aliases."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import asks_gateway, print_json, say_where
from nexus.cli.wrapping import tried_again

if TYPE_CHECKING:
    from nexus.cli.remote import Remote

COLUMNS = ("Model", "Backend", "State", "Zone", "Tier", "Context", "Can", "Speed")


@click.command("models")
@asks_gateway
def command(remote: Remote, as_json: bool) -> None:
    """List models: where each is served, its context, what it can do, its state."""
    answer = remote.get("/nexus/models")
    if as_json:
        print_json(answer)
        return

    from nexus.cli.tables import show_table
    from nexus.cli.wrapping import width, wrapped
    from nexus.plain import plain

    pairs = sorted(answer["models"], key=lambda pair: (pair["name"], pair["location"] == "cloud", pair["backend"]))
    say_where(remote)
    if pairs:
        show_table(COLUMNS, [row(pair) for pair in pairs], ids=2)
    else:
        click.echo("No model is known: `nexus backends` says which servers are connected, and how they are.")
    columns = width()
    for line in (*lacking(pairs), *resting(pairs), *suspensions(pairs)):
        click.echo(wrapped("", plain(line), columns))
    if answer["aliases"]:
        click.echo()
    for alias, ids in answer["aliases"].items():
        click.echo(plain(f"{alias} → {' = '.join(ids)}"))


def lacking(pairs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """What has turned out that some cannot do."""
    for pair in pairs:
        if pair["lacks"]:
            what = ", ".join(f"{need} (asked again in {seconds:g} s)" for need, seconds in pair["lacks"].items())
            yield f"{pair['backend']} ({pair['name']}) does not take, as its server has answered: {what}"


def resting(pairs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Which are asked only where nobody else can serve, and for how long."""
    for pair in pairs:
        name = f"{pair['backend']} ({pair['name']})"
        if pair["ejected_seconds"] is not None:
            yield f"{name} is left out where another can serve ({tried_again(pair['ejected_seconds'])}): {pair['ejected_reason']}"
        if pair["paused_seconds"]:
            yield f"{name} asked for a pause, which lasts {pair['paused_seconds']:g} s more"


def suspensions(pairs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Which are not asked since an account or key was refused: a line for each backend and reason, however many models."""
    found: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for pair in pairs:
        if pair["suspended_reason"]:
            found.setdefault((pair["backend"], pair["suspended_reason"]), []).append(pair)
    for (backend, reason), those in found.items():
        more = f" and {len(those) - 1} more" if len(those) > 1 else ""
        yield f"{backend} ({those[0]['name']}{more}) is suspended ({tried_again(those[0]['suspended_seconds'])}): {reason}"


def row(pair: Mapping[str, Any]) -> tuple[Any, ...]:
    """One pair as a line of the table."""
    can = pair["capabilities"]
    state = pair["state"] if pair["health"] == "healthy" else pair["health"]
    speed = f"{pair['tokens_per_second']:.0f}/s" if pair["tokens_per_second"] else None
    return (
        pair["name"] if pair["name"] == pair["id"] else f"{pair['name']} ({pair['id']})",
        pair["backend"],
        "suspended" if pair["suspended_reason"] and pair["health"] == "healthy" else state,
        pair["zone"] + (", cloud" if pair["location"] == "cloud" else ""),
        pair["tier"] if pair["tier"] > 1 else "",
        context(pair["context"], pair["context_max"]),
        _abilities(can, pair["lacks"]),
        speed,
    )


def _abilities(can: Mapping[str, bool], lacks: Mapping[str, float]) -> str:
    """What it is known to be able to, and what it has turned out not to.  A chat model's plain completion goes without saying."""
    words = [
        need for need, offered in can.items() if offered and need not in lacks and not (need == "completion" and can.get("chat"))
    ]
    words += [f"no {need}" for need in lacks]
    return ", ".join(words) if can or lacks else "unknown"


def context(served: int | None, most: int | None) -> str:
    """Tokens: what is served now, of how many the model could do where that is more."""
    if served is None:
        return f"of {thousands(most)}" if most else ""
    return f"{thousands(served)} of {thousands(most)}" if most and most > served else thousands(served)


def thousands(tokens: int) -> str:
    """8192 is 8k and 128000 is 128k, as people say them; what is round in neither way stays as it is."""
    for thousand in (1000, 1024):
        if tokens and tokens % thousand == 0:
            return f"{tokens // thousand}k"
    return str(tokens)
