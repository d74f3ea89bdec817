"""What must hold between tables: names, aliases, policies, the way in.  What holds within one table is said by its class."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from typing import Any

from nexus.catalog import Catalog
from nexus.config.installed import suspected
from nexus.config.mistakes import Mistakes, join, quoted, shown
from nexus.config.tables import ServerConfig
from nexus.config.written import Names

MAX_ALIAS_STEPS = 3
WILD = re.compile(r"[*?]")
POLICY_WORDS = ("zone", "min_tier")


def unique(place: str, key: str, values: Names, mistakes: Mistakes) -> None:
    """No two tables with the same value under `key`.  The value itself is shown where it is a name."""
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        if value is not None and seen.setdefault(value, index) != index:
            what = f"{shown(value)} is" if key == "name" else "is"
            mistakes.add(f"{place}[{index}].{key}", f"{what} already that of {place}[{seen[value]}]")


def servers(backends: Sequence[Any], mistakes: Mistakes) -> None:
    """One server in two tables counts its slots twice, unless each has another key."""
    seen: dict[tuple[str, Any], int] = {}
    for index, item in enumerate(backends):
        if isinstance(item, Mapping) and isinstance(url := item.get("url"), str):
            server = (re.sub(r"(?i)(?<=\w)(/v\d+\w*)?/*$", "", url).lower(), str(item.get("api_key_env")))
            if seen.setdefault(server, index) != index:
                mistakes.warn(f"backends[{index}].url", f"is also that of backends[{seen[server]}]: one server needs one table")


def names(aliases: Mapping[str, Names], fallbacks: Mapping[str, Names], mistakes: Mistakes) -> None:
    """Aliases that end, fallbacks that lead elsewhere."""
    for name, ids in aliases.items():
        _listed(join("routing.aliases", quoted(name)), name, ids, mistakes)
        _chain(name, aliases, mistakes)
    for name, others in fallbacks.items():
        place = join("routing.fallbacks", quoted(name))
        _listed(place, name, others, mistakes)
        home = _end(name, aliases)
        for index, other in enumerate(others):
            if other == name:
                mistakes.add(f"{place}[{index}]", f"{shown(name)} falls back to itself")
            elif other is not None and _end(other, aliases) == home:
                mistakes.add(f"{place}[{index}]", f"{shown(other)} and {shown(name)} are one model, by their aliases")


def _listed(place: str, name: str, others: Names, mistakes: Mistakes) -> None:
    texts = [other for other in others if other is not None]
    for odd in (text for text in (name, *texts) if WILD.search(text)):
        mistakes.add(place, f"{shown(odd)} is no name: globs are not known here, so no request would mean it")
    if not name.strip() or not others or not all(other.strip() for other in texts):
        mistakes.add(place, "needs names that are not empty")
    elif len(set(texts)) < len(texts):
        mistakes.add(place, "names a model twice")


def _chain(name: str, aliases: Mapping[str, Names], mistakes: Mistakes) -> None:
    """A list of ids ends the chain, whatever is in it; one name is followed."""
    way = [name]
    while (following := _one(way[-1], aliases)) is not None:
        way.append(following)
        if following in way[:-1]:
            break
    place, chain = join("routing.aliases", quoted(name)), " → ".join(map(quoted, way))
    if way[-1] == name and len(way) > 1:
        mistakes.add(place, f"the alias leads back to itself: {chain}")
    elif len(way) - 1 > MAX_ALIAS_STEPS and way[-1] not in way[:-1]:
        mistakes.add(place, f"the chain of aliases is longer than {MAX_ALIAS_STEPS}: {chain}")


def _one(name: str, aliases: Mapping[str, Names]) -> str | None:
    """The one name that this alias stands for; None where it stands for several, or is none."""
    ids = aliases.get(name, ())
    return ids[0] if len(ids) == 1 else None


def _end(name: str, aliases: Mapping[str, Names]) -> str:
    for _ in range(MAX_ALIAS_STEPS):
        name = _one(name, aliases) or name
    return name


def policies(rules: Sequence[Any], stages: Sequence[str], catalog: Catalog, mistakes: Mistakes) -> None:
    """A policy's word must be enforced by an active stage: privacy cannot be lost by omission."""
    enforced = {word for name in stages if name in catalog.stages for word in catalog.stages[name].policy_words}
    for index, rule in enumerate(rules):
        for word in POLICY_WORDS:
            if isinstance(rule, Mapping) and word in rule and word not in enforced:
                _unenforced(f"policies[{index}].{word}", word, catalog, mistakes)


def _unenforced(place: str, word: str, catalog: Catalog, mistakes: Mistakes) -> None:
    able = sorted(name for name, kind in catalog.stages.items() if word in kind.policy_words)
    if able:
        mistakes.add(place, f"no active stage enforces it: add {able[0]!r} to {mistakes.home('routing', 'stages')}")
    elif not suspected(place, "no active stage enforces it", catalog, mistakes):
        mistakes.add(place, "no active stage enforces it, and no installed stage does")


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
