"""From a source to a Config, in two steps, since the file names the plugins that the rest of it is judged by.

`read` needs no plugin; `finish` needs the catalog; `load` does both.  Every mistake is reported at once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import attrs
import msgspec

from nexus.api import EMPTY
from nexus.catalog import Catalog
from nexus.config import checks, installed, written
from nexus.config.backends import backend
from nexus.config.components import active, active_stages, homes, options
from nexus.config.fields import MODULE
from nexus.config.lines import Lines
from nexus.config.mistakes import Mistakes, given
from nexus.config.overlay import from_environment, from_flags
from nexus.config.source import plain
from nexus.config.strict import build
from nexus.config.tables import ARRAYS, FIXED, Config, DiscoveryConfig, KeyConfig, PolicyConfig, RoutingConfig, ServerConfig
from nexus.errors import ConfigError, Mistake

T = TypeVar("T")


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """A configuration that was read but not yet judged.  `plugins` and `disabled` decide the catalog."""

    plugins: tuple[str, ...]
    disabled: tuple[str, ...]
    path: Path | None
    raw: Mapping[str, Any]
    env: Mapping[str, str]
    text: str | None
    origins: Mapping[str, str]
    mistakes: tuple[Mistake, ...]


def load(
    source: Path | str | Mapping[str, Any] | None,
    *,
    env: Mapping[str, str],
    flags: Mapping[str, Any] = EMPTY,
    catalog: Catalog | None = None,
    extra: Sequence[object] = (),
) -> tuple[Config, Catalog]:
    """The configuration and what is installed.

    `source` is a file, TOML text, a mapping of tables, or None for ./nexus.toml where it exists.  `flags` are named by place
    (`server.port`) and win over `env`, which wins over the source.  Without a `catalog` one is made, with `extra` plugins.
    Raises ConfigError with every mistake.
    """
    draft = read(source, env=env, flags=flags)
    if catalog is None:
        catalog = Catalog.load(draft.plugins, extra, draft.disabled, draft.path)
    return finish(draft, catalog), catalog


def read(source: Path | str | Mapping[str, Any] | None, *, env: Mapping[str, str], flags: Mapping[str, Any] = EMPTY) -> Draft:
    """What the source, the environment and the flags say, laid over each other.

    Raises ConfigError where the source cannot be read as TOML at all; other mistakes wait for `finish`.
    """
    found = plain(source)
    mistakes = Mistakes()
    origins = from_environment(found.raw, env, mistakes, named=_key_variables(found.raw))
    from_flags(found.raw, flags)
    return Draft(
        plugins=_words(found.raw, "plugins", mistakes),
        disabled=_words(found.raw, "disabled", mistakes),
        path=found.path,
        raw=found.raw,
        env=env,
        text=found.text,
        origins=origins | {place: place for place, value in flags.items() if value is not None},
        mistakes=tuple(mistakes.found),
    )


def finish(draft: Draft, catalog: Catalog) -> Config:
    """Judge a draft by what is installed.  Raises ConfigError with every mistake."""
    mistakes = Mistakes(draft.mistakes, draft.origins)
    config = _config(draft, catalog, mistakes)
    if mistakes.found:
        raise ConfigError(_located(draft, mistakes.found), draft.path)
    return attrs.evolve(config, warnings=tuple(str(warning) for warning in _located(draft, mistakes.warnings)))


def _config(draft: Draft, catalog: Catalog, mistakes: Mistakes) -> Config:
    raw = draft.raw
    installed.check_packages(draft.plugins, draft.disabled, catalog, mistakes)
    sources = _asked(raw, "discovery", "sources", catalog.sources, catalog, mistakes)
    stages = _asked(raw, "routing", "stages", active_stages(None, catalog), catalog, mistakes)
    mistakes.homes = functools.partial(homes, active=active(stages, sources, catalog))
    tables: dict[str, Any] = {name: build(cls, _table(raw, name), name, mistakes) or cls() for name, cls in FIXED.items()}
    discovery: DiscoveryConfig = tables["discovery"]
    routing: RoutingConfig = tables["routing"]
    server: ServerConfig = tables["server"]
    arrays = {name: _array(raw, name, mistakes) for name in ARRAYS}
    policies = [build(PolicyConfig, item, place, mistakes) for place, item in arrays["policies"].items()]
    keys = [build(KeyConfig, item, place, mistakes) for place, item in arrays["keys"].items()]
    backends = [backend(item, place, draft.env, catalog, mistakes) for place, item in arrays["backends"].items()]
    opened = options(raw, stages, sources, catalog, mistakes)
    _between_tables(raw, {name: [*items.values()] for name, items in arrays.items()}, stages, server, catalog, mistakes)
    return Config(
        plugins=draft.plugins,
        disabled=draft.disabled,
        server=server,
        upstream=tables["upstream"],
        health=tables["health"],
        discovery=attrs.evolve(discovery, sources=sources),
        routing=attrs.evolve(routing, stages=stages),
        policies=_made(policies),
        queue=tables["queue"],
        translation=tables["translation"],
        backends=_made(backends),
        keys=_made(keys),
        options=opened,
        path=draft.path,
    )


def _between_tables(
    raw: Mapping[str, Any],
    arrays: Mapping[str, Sequence[Any]],
    stages: Sequence[str],
    server: ServerConfig,
    catalog: Catalog,
    mistakes: Mistakes,
) -> None:
    """Judged as they are written, so that a mistake within a table hides none between it and another."""
    for place, key in (("backends", "name"), ("keys", "name"), ("keys", "hash")):
        checks.unique(place, key, written.texts(arrays[place], key), mistakes)
    aliases, fallbacks = (written.named_lists(raw, "routing", key) for key in ("aliases", "fallbacks"))
    checks.names(aliases, fallbacks, mistakes)
    checks.servers(arrays["backends"], mistakes)
    checks.policies(arrays["policies"], stages, catalog, mistakes)
    checks.way_in(server, bool(raw.get("keys")), mistakes)


def _asked(
    raw: Mapping[str, Any], table: str, key: str, usual: Iterable[str], catalog: Catalog, mistakes: Mistakes
) -> tuple[str, ...]:
    """The stages, or sources, that the file asks for; each must be installed."""
    names = written.listed(raw, table, key)
    asked: written.Names = tuple(usual) if names is None else names
    installed.all_there(f"{table}.{key}", asked, catalog, mistakes)
    return tuple(name for name in asked if name is not None)


def _made(items: Sequence[T | None]) -> tuple[T, ...]:
    return tuple(item for item in items if item is not None)


def _table(raw: Mapping[str, Any], name: str) -> Any:
    """A fixed table as its class wants it: one alias may be written as a text."""
    table = raw.get(name, {})
    if name == "routing" and isinstance(table, dict) and isinstance(table.get("aliases"), dict):
        aliases = {k: [v] if isinstance(v, str) else v for k, v in table["aliases"].items()}
        return {**table, "aliases": aliases}
    return table


def _array(raw: Mapping[str, Any], name: str, mistakes: Mistakes) -> dict[str, Any]:
    """The tables of an array, by their places."""
    items = raw.get(name, [])
    if not isinstance(items, list):
        mistakes.add(name, f"expected a list of tables, each written [[{name}]], got {given(items)}")
        return {}
    return {f"{name}[{index}]": item for index, item in enumerate(items)}


def _words(raw: Mapping[str, Any], name: str, mistakes: Mistakes) -> tuple[str, ...]:
    """One of the two lists at the top of the file; what is no name in it is left out, since the others are still meant."""
    build(Config, {name: raw[name]} if name in raw else {}, "", mistakes)
    value = raw.get(name)
    names = written.names(value) if isinstance(value, list) else None
    good = MODULE.fullmatch if name == "plugins" else str.strip
    return tuple(dict.fromkeys(word for word in names or () if word and good(word)))


def _key_variables(raw: Mapping[str, Any]) -> set[str]:
    """The variables that backends name: their names are the operator's own."""
    backends = raw.get("backends")
    tables = [b for b in backends if isinstance(b, dict)] if isinstance(backends, list) else []
    return {name for b in tables if isinstance(name := b.get("api_key_env"), str)}


def _located(draft: Draft, found: Sequence[Mistake]) -> list[Mistake]:
    """Mistakes with the variable or the flag they came from as their place, or with the line of the file; in the file's order."""
    lines = Lines(draft.text or "")
    located = [_at(mistake, draft.origins, lines) for mistake in found]
    return [mistake for _, mistake in sorted(located, key=lambda pair: pair[0])]


def _at(mistake: Mistake, origins: Mapping[str, str], lines: Lines) -> tuple[int, Mistake]:
    bare = mistake.place.partition("[")[0]
    if bare in origins:
        return 0, attrs.evolve(mistake, place=origins[bare] + mistake.place.removeprefix(bare))
    line = lines.find(mistake.place) or 0
    return line, attrs.evolve(mistake, message=f"{mistake.message} (line {line})") if line else mistake
