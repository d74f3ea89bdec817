"""`nexus check`: is the configuration fine, and what does it say?  Opens nothing: no port, no server, no file but its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nexus.cli.options import as_json, config_file, print_json
from nexus.cli.wrapping import width, wrapped

if TYPE_CHECKING:
    from nexus.catalog import Catalog
    from nexus.config import BackendConfig, Config


@click.command("check")
@config_file
@as_json
def command(file: Path | None, as_json: bool) -> None:
    """Judge the configuration, and open nothing.

    Prints what it says, or every mistake with its place and the nearest known word (exit code 1).
    """
    from nexus.config import load
    from nexus.errors import ConfigError

    try:
        config, catalog = load(file, env=os.environ)
    except ConfigError as error:
        if not as_json:
            raise
        found = [{"place": m.place, "message": m.message, "nearest": m.nearest} for m in error.mistakes]
        print_json({"ok": False, "mistakes": found})
        raise click.exceptions.Exit(1) from None
    if as_json:
        print_json({"ok": True, "mistakes": [], **summary(config, catalog)})
        return
    for line in lines(summary(config, catalog), width()):
        click.echo(line)


def summary(config: Config, catalog: Catalog) -> dict[str, Any]:
    """What a reader wants to see confirmed.  No secret is in it."""
    return {
        "file": None if config.path is None else str(config.path),
        "listen": f"{config.server.host}:{config.server.port}",
        "backends": [{"name": b.name, "type": b.type, "zone": b.zone and b.zone.value} for b in config.backends],
        "sources": list(config.discovery.sources or ()),
        "stages": list(config.routing.stages or ()),
        "aliases": {name: list(ids) for name, ids in config.routing.aliases.items()},
        "fallbacks": {name: list(names) for name, names in config.routing.fallbacks.items()},
        "policies": [{"models": list(p.models), "zone": p.zone and p.zone.value, "min_tier": p.min_tier} for p in config.policies],
        "warnings": warnings(config, catalog),
        "keys": [{"name": k.name, "admin": k.admin} for k in config.keys],
        "broken_plugins": {p.distribution or p.name: p.problem for p in catalog.broken},
    }


def warnings(config: Config, catalog: Catalog) -> list[str]:
    """What is allowed, and hardly meant; one for each backend."""
    backends = [said for b in config.backends if (said := "; ".join(_of_backend(b, config)))]
    plugins = [f"the plugin {p.distribution or p.name}: {warning}" for p in catalog.packages for warning in p.warnings]
    return [*backends, *config.warnings, *plugins]


def _of_backend(backend: BackendConfig, config: Config) -> Iterator[str]:
    """What will not go well with it, though nothing is wrong in form."""
    if backend.without_key:
        yield f"{backend.name} cannot be used: {backend.without_key}"
    others = len(config.backends) > 1
    for setting in ("first_byte_timeout_seconds", "answer_timeout_seconds") if others else ():
        total = getattr(config.upstream, setting)
        models = [(getattr(model, setting), f" for {model.id}") for model in backend.overrides]
        said = [(getattr(backend, setting), ""), *models]
        longest, where = max(((seconds, where) for seconds, where in said if seconds is not None), default=(0.0, ""))
        if longest >= total:
            yield (
                f"{backend.name} leaves no time to try another backend when it hangs: its {setting} = {longest:g}{where}, and [upstream] {setting} = "
                f"{total:g} is for all attempts together. Write less at {backend.name}, or more there"
            )


def lines(said: dict[str, Any], columns: int | None = None) -> Iterator[str]:
    """The summary for people, wrapped where `columns` says how wide the terminal is."""
    count = len(said["warnings"])
    warned = f", with {count} warning{'s' * (count != 1)}" if count else ""
    yield click.style(f"configuration is fine{warned}", fg="yellow" if warned else "green")
    for warning in said["warnings"]:
        yield click.style(wrapped("  ", warning, columns), fg="yellow")
    for title, text in _facts(said):
        yield wrapped(f"  {title:<10} ", text, columns)
    for name, problem in said["broken_plugins"].items():
        told = f"the plugin {name} is broken, but not needed: {problem}"
        yield click.style(wrapped("  ", told, columns), fg="yellow")


def _facts(said: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Titles, and what is to be confirmed under each."""
    yield "file", said["file"] or "none: all defaults, but for the environment"
    yield "listen", said["listen"]
    yield "backends", _listed(_backend(b) for b in said["backends"]) or "none written"
    yield "sources", _listed(said["sources"]) or "none: discovery is off"
    yield "stages", " → ".join(said["stages"]) or "none"
    yield from _if_any("aliases", (f"{name} → {' = '.join(ids)}" for name, ids in said["aliases"].items()))
    yield from _if_any("fallbacks", (f"{name} → {' → '.join(names)}" for name, names in said["fallbacks"].items()))
    yield from _if_any("policies", (_policy(p) for p in said["policies"]))
    keys = (k["name"] + (" (admin)" if k["admin"] else "") for k in said["keys"])
    yield "keys", _listed(keys) or "none: every client is let in"


def _listed(words: Any) -> str:
    return ", ".join(words)


def _if_any(title: str, values: Iterator[str]) -> Iterator[tuple[str, str]]:
    if text := "; ".join(values):
        yield title, text


def _backend(backend: dict[str, Any]) -> str:
    zone = f", {backend['zone']}" if backend["zone"] else ""
    return f"{backend['name']} ({backend['type']}{zone})"


def _policy(policy: dict[str, Any]) -> str:
    words = [f"zone {policy['zone']}" if policy["zone"] else "", f"tier ≥ {policy['min_tier']}" if policy["min_tier"] else ""]
    return f"{', '.join(policy['models'])}: {' and '.join(word for word in words if word)}"
