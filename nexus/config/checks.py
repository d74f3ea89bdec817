"""What must hold between tables: names, aliases, policies, the way in.  What holds within one table is said by its class."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence

from nexus.catalog import Catalog
from nexus.config.mistakes import Mistakes, join, quoted
from nexus.config.tables import BackendConfig, KeyConfig, PolicyConfig, RoutingConfig, ServerConfig

MAX_ALIAS_STEPS = 3
POLICY_WORDS = ("zone", "min_tier")


def unique(place: str, key: str, items: Sequence[BackendConfig | KeyConfig | None], mistakes: Mistakes) -> None:
    """No two tables with the same `key`.  The value itself is shown where it is a name."""
    seen: dict[str, int] = {}
    for index, item in enumerate(items):
        if item is None:
            continue
        value = getattr(item, key)
        if seen.setdefault(value, index) != index:
            what = f"{value!r} is" if key == "name" else "is"
            mistakes.add(f"{place}[{index}].{key}", f"{what} already that of {place}[{seen[value]}]")


def names(routing: RoutingConfig, mistakes: Mistakes) -> None:
    """Aliases that end, fallbacks that lead elsewhere."""
    for name, ids in routing.aliases.items():
        _listed(join("routing.aliases", quoted(name)), name, ids, mistakes)
        _chain(name, routing.aliases, mistakes)
    for name, others in routing.fallbacks.items():
        place = join("routing.fallbacks", quoted(name))
        _listed(place, name, others, mistakes)
        home = _end(name, routing.aliases)
        for index, other in enumerate(others):
            if other == name:
                mistakes.add(f"{place}[{index}]", f"{name!r} falls back to itself")
            elif _end(other, routing.aliases) == home:
                mistakes.add(f"{place}[{index}]", f"{other!r} and {name!r} are one model, by their aliases")


def _listed(place: str, name: str, others: Sequence[str], mistakes: Mistakes) -> None:
    if not name.strip() or not others or not all(other.strip() for other in others):
        mistakes.add(place, "needs names that are not empty")
    elif len(set(others)) < len(others):
        mistakes.add(place, "names a model twice")


def _chain(name: str, aliases: Mapping[str, tuple[str, ...]], mistakes: Mistakes) -> None:
    """A list of ids ends the chain, whatever is in it; one name is followed."""
    way = [name]
    while len(aliases.get(way[-1], ())) == 1:
        way.append(aliases[way[-1]][0])
        if way[-1] in way[:-1]:
            break
    place, shown = join("routing.aliases", quoted(name)), " → ".join(way)
    if way[-1] == name and len(way) > 1:
        mistakes.add(place, f"the alias leads back to itself: {shown}")
    elif len(way) - 1 > MAX_ALIAS_STEPS and way[-1] not in way[:-1]:
        mistakes.add(place, f"the chain of aliases is longer than {MAX_ALIAS_STEPS}: {shown}")


def _end(name: str, aliases: Mapping[str, tuple[str, ...]]) -> str:
    for _ in range(MAX_ALIAS_STEPS):
        ids = aliases.get(name, ())
        if len(ids) != 1:
            break
        name = ids[0]
    return name


def policies(rules: Sequence[PolicyConfig | None], stages: Sequence[str], catalog: Catalog, mistakes: Mistakes) -> None:
    """A policy's word must be enforced by an active stage: privacy cannot be lost by omission."""
    enforced = {word for name in stages if name in catalog.stages for word in catalog.stages[name].policy_words}
    for index, rule in enumerate(rules):
        for word in POLICY_WORDS:
            if rule is not None and getattr(rule, word) is not None and word not in enforced:
                able = sorted(name for name, kind in catalog.stages.items() if word in kind.policy_words)
                todo = f"add {able[0]!r} to stages in [routing]" if able else "no installed stage does"
                mistakes.add(f"policies[{index}].{word}", f"no active stage enforces it: {todo}")


def way_in(server: ServerConfig, has_keys: bool, mistakes: Mistakes) -> None:
    """Beyond loopback only with keys, or with the operator's word that it is meant."""
    if not has_keys and not server.insecure and not loopback(server.host):
        mistakes.add(
            "server.host",
            "listening beyond loopback needs [[keys]] (`nexus keys new NAME` makes one); insecure = true allows it without",
        )


def loopback(host: str) -> bool:
    """Whether only this machine can reach an address; a name other than localhost is not taken for it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().rstrip(".") == "localhost"
