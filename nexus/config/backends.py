"""`[[backends]]`: one server's table, its type's own keys, its key from the environment.  What is true between backends is in `checks`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nexus.api import BackendKind, Secret
from nexus.catalog import Catalog
from nexus.config.fields import VARIABLE, WORD
from nexus.config.installed import missing
from nexus.config.mistakes import Mistakes, given, join, shown
from nexus.config.strict import build, keys
from nexus.config.tables import BackendConfig, ModelConfig
from nexus.config.written import texts

AUTO = "auto"
WHERE = "where a server is, is written as `url`, with its scheme and port"
MEANT = {"kind": "the kind of a server is written as `type`"} | dict.fromkeys(
    ("base_url", "api_base", "base", "host", "hostname", "address", "endpoint", "port", "uri"), WHERE
)
LITERAL_KEYS = ("api_key", "apikey", "key", "token", "api_token")


def backend(raw: Any, place: str, env: Mapping[str, str], catalog: Catalog, mistakes: Mistakes) -> BackendConfig | None:
    """One backend, or None where too much is wrong to make one."""
    if not isinstance(raw, Mapping):
        mistakes.add(place, f"expected a table, got {given(raw)}")
        return None
    raw = {key: value for key, value in raw.items() if not _literal_key(key, place, mistakes)}
    kind = _kind(raw.get("type", AUTO), place, catalog, mistakes)
    own, rest, overrides = _split(raw, place, kind, mistakes)
    options = None
    if kind:
        options = build(kind.options, rest, place, mistakes)
    made = build(BackendConfig, own, place, mistakes)
    usual = kind.default_url if kind else None
    located = "url" in raw or any(MEANT.get(key) == WHERE for key in raw)
    if usual is None and not located and (kind or raw.get("type", AUTO) == AUTO):
        mistakes.add(join(place, "url"), f"is missing, and the type {kind.name} has no usual one" if kind else "is missing")
    key, without = _key(raw.get("api_key_env"), join(place, "api_key_env"), env, mistakes)
    if made is None:
        return None
    return attrs.evolve(made, url=made.url or usual, key=key, without_key=without, overrides=overrides, options=options)


def _literal_key(key: str, place: str, mistakes: Mistakes) -> bool:
    if key not in LITERAL_KEYS:
        return False
    mistakes.add(join(place, key), "a key is never written here: put it into an environment variable and name it in api_key_env")
    return True


def _kind(name: Any, place: str, catalog: Catalog, mistakes: Mistakes) -> BackendKind | None:
    """The kind, or None where it is not known (yet).  Another value than a text is reported with the table."""
    if not isinstance(name, str) or not name.strip() or name == AUTO:
        return None
    kind = catalog.backends.get(name)
    if kind is None:
        missing(join(place, "type"), "backend type", name, (*catalog.backends, AUTO), catalog, mistakes)
    return kind


def _split(
    raw: Mapping[str, Any], place: str, kind: BackendKind | None, mistakes: Mistakes
) -> tuple[dict[str, Any], dict[str, Any], tuple[ModelConfig, ...]]:
    """The keys of every backend, the keys of the type, and the tables among `models`.

    A word that neither knows goes where the nearest known word may be either's.  Where the type is unknown, so are its keys.
    """
    known = keys(BackendConfig)
    own = {key: value for key, value in raw.items() if key in known}
    theirs = _option_keys(kind)
    for key in raw:
        if key not in known and key not in theirs and (kind or raw.get("type", AUTO) == AUTO):
            if key in keys(ModelConfig):
                mistakes.add(
                    join(place, key),
                    "there is no such key here: it belongs in a [[backends.models]] table, below the id of its model",
                )
            elif key in MEANT:
                mistakes.add(join(place, key), f"there is no such key: {MEANT[key]}")
            else:
                mistakes.unknown(place, str(key), (*known, *theirs))
    rest = {key: raw[key] for key in theirs if key in raw}
    overrides = _models(own, place, mistakes)
    return own, rest, overrides


def _option_keys(kind: BackendKind | None) -> tuple[str, ...]:
    try:
        return tuple(keys(kind.options)) if kind else ()
    except Exception:  # reported by `build`, with its reason
        return ()


def _models(own: dict[str, Any], place: str, mistakes: Mistakes) -> tuple[ModelConfig, ...]:
    """Takes the tables out of `models`, so that what is left is the allow-list.  TOML has one key for both."""
    models = own.get("models")
    if isinstance(models, Mapping):
        mistakes.add(join(place, "models"), "expected a list of tables, each written [[backends.models]], got a table")
        del own["models"]
    if not isinstance(models, (list, tuple)):
        return ()
    where = join(place, "models")
    if not models:
        mistakes.add(where, "an empty list would leave no model: leave it out to use all")
    made = [build(ModelConfig, m, f"{where}[{i}]", mistakes) for i, m in enumerate(models) if isinstance(m, Mapping)]
    _odd(models, where, mistakes)
    own["models"] = [m for m in models if isinstance(m, str)]
    if not own["models"]:
        del own["models"]
    ids = texts(models, "id")
    for i, m in enumerate(models):
        if isinstance(m, Mapping) and m.get("name") and "*" in (ids[i] or ""):
            mistakes.add(
                f"{where}[{i}].name", f"the id {shown(ids[i] or '')} stands for many models, which cannot all have one name"
            )
    for i, twice in enumerate(ids):
        if twice is not None and twice in ids[:i]:
            mistakes.add(f"{where}[{i}].id", f"the model {shown(twice)} has two tables: {where}[{ids.index(twice)}] is the other")
    return tuple(m for m in made if m)


def _odd(models: Any, where: str, mistakes: Mistakes) -> None:
    for index, model in enumerate(models):
        if not isinstance(model, (str, Mapping)):
            mistakes.add(f"{where}[{index}]", f"expected a glob or a table, got {given(model)}")


def _key(variable: Any, place: str, env: Mapping[str, str], mistakes: Mistakes) -> tuple[Secret | None, str]:
    """The key itself, or why there is none, which keeps no other backend from serving.  A name that could be a key is not repeated."""
    if not isinstance(variable, str) or not WORD.fullmatch(variable):  # which is told with the table
        return None, ""
    text = env.get(variable, "").strip()
    if not text:
        called = f"the variable {variable}" if VARIABLE.fullmatch(variable) else "the variable that api_key_env names"
        return None, f"{called} is {'empty' if variable in env else 'not set'}"
    if not text.isascii() or not text.isprintable() or " " in text:
        mistakes.add(place, f"what {variable} holds cannot be a key: only printable ASCII without spaces can be sent")
        return None, ""
    return Secret(text), ""
