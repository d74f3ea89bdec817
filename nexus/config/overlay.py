"""What the environment and the command line say on top of the file.  Neither knows arrays of tables or components' tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from nexus.config.mistakes import Mistakes, nearest
from nexus.config.strict import keys
from nexus.config.tables import FIXED
from nexus.nearest import nearest as nearest_words

PREFIX = "NEXUS_"
# Variables of the commands, not of a table.  NEXUS_CONFIG: the file.  NEXUS_URL: the gateway that a command asks.
# NEXUS_KEY: the key it shows there.  NEXUS_LOG: the level of the log.
OTHER_VARIABLES = ("NEXUS_CONFIG", "NEXUS_KEY", "NEXUS_LOG", "NEXUS_URL")
# What Kubernetes sets in every container for a service called nexus (or nexus-…).
SERVICE_LINK = re.compile(r"NEXUS_(\w+_)?(SERVICE_HOST|SERVICE_PORT\w*|PORT_\d+_\w+)|NEXUS_PORT")
TYPO = 0.85  # difflib's measure, above which a stranger is taken for a typing error
TRUTHS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def variables() -> dict[str, tuple[str, str, Any]]:
    """Every variable that stands for a key: its table, key and type."""
    return {
        f"{PREFIX}{table}_{key}".upper(): (table, key, field.type)
        for table, cls in FIXED.items()
        for key, field in keys(cls).items()
        if not _is_table(field.type)
    }


def from_environment(
    raw: dict[str, Any], env: Mapping[str, str], mistakes: Mistakes, *, named: Iterable[str] = ()
) -> dict[str, str]:
    """Put NEXUS_<TABLE>_<KEY> variables into `raw`; returns which place came from which variable.

    A variable near a known word is a mistake; another NEXUS_ variable is somebody else's, as are those `named` by the file.
    """
    known = variables()
    origins: dict[str, str] = {}
    for name in sorted(n for n in env if n.startswith(PREFIX) and n not in OTHER_VARIABLES):
        if name in known:
            table, key, kind = known[name]
            if env[name] or _is_list(kind):
                _put(raw, table, key, _value(env[name], kind))
                origins[f"{table}.{key}"] = name
        elif name not in named and not SERVICE_LINK.fullmatch(name):
            _stranger(name, known, mistakes)
    return origins


def _stranger(name: str, known: Iterable[str], mistakes: Mistakes) -> None:
    """The prefix is everybody's, so only what follows it is compared."""
    table = next((t for t in FIXED if name.startswith(f"{PREFIX}{t.upper()}_")), None)
    word = name.removeprefix(PREFIX).lower()
    near = nearest(word, [k.removeprefix(PREFIX).lower() for k in (*known, *OTHER_VARIABLES)])
    if table or (near and nearest_words(word, [near], alike=TYPO)):
        what = f"[{table}] has no such key that a variable can set" if table else "there is no such variable"
        mistakes.add(name, what, PREFIX + near.upper() if near else None)


def from_flags(raw: dict[str, Any], flags: Mapping[str, Any]) -> None:
    """Put flags, named by place (`server.port`), into `raw`.  None is a flag that was not given."""
    for place, value in flags.items():
        table, dot, key = place.partition(".")
        if value is None:
            continue
        if dot:
            _put(raw, table, key, value)
        else:
            raw[table] = value


def _put(raw: dict[str, Any], table: str, key: str, value: Any) -> None:
    """A table that is no table stays what it is: it will be reported."""
    into = raw.setdefault(table, {})
    if isinstance(into, dict):
        into[key] = value


def _value(text: str, kind: Any) -> Any:
    """The text as the key's type where that is possible; otherwise the text, which will be reported as what it is."""
    if _is_list(kind):
        return [part.strip() for part in text.split(",") if part.strip()]
    if kind is bool:
        return TRUTHS.get(text.strip().lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def _is_list(kind: Any) -> bool:
    return "tuple[" in str(kind) and not _is_table(kind)


def _is_table(kind: Any) -> bool:
    return "Mapping[" in str(kind)
