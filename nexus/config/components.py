"""Which components are active, and the options of each from the table that carries its name.  Backends have their own table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

from nexus.api import NoOptions
from nexus.catalog import Catalog
from nexus.config.installed import PUBLISHED, missing, suspected
from nexus.config.mistakes import Mistakes, given, nearest, quoted
from nexus.config.strict import build, keys
from nexus.config.tables import ARRAYS, FIXED, OWN, STAGES, ModelConfig


def active_stages(written: Sequence[str] | None, catalog: Catalog) -> tuple[str, ...]:
    """The pipeline: the stages written in the file, or the standard ones and what else is installed to be on by default."""
    if written is not None:
        return tuple(written)
    return (*STAGES, *(name for name, kind in catalog.stages.items() if kind.default and name not in STAGES))


def default_options(catalog: Catalog) -> dict[str, type]:
    """The options class of every component that is active where the configuration says nothing, by the name of its table."""
    return active(active_stages(None, catalog), tuple(catalog.sources), catalog)


def options(
    raw: Mapping[str, Any], stages: Sequence[str], sources: Sequence[str], catalog: Catalog, mistakes: Mistakes
) -> dict[str, object]:
    """The options of every active component; a table that serves no active component is a mistake."""
    classes = active(stages, sources, catalog)
    tables = {name: value for name, value in raw.items() if name not in OWN}
    made = {}
    for name, cls in classes.items():
        made[name] = _one(name, cls, tables, mistakes)
    for name, value in tables.items():
        _misplaced(name, value, classes, stages, catalog, mistakes)
    return {name: value for name, value in made.items() if value is not None}


def active(stages: Sequence[str], sources: Sequence[str], catalog: Catalog) -> dict[str, type]:
    """The options class of every active component.  Those of one name share it; the catalog saw to that."""
    kinds: Iterator[Any] = chain(
        (catalog.stages[n] for n in stages if n in catalog.stages),
        (catalog.sources[n] for n in sources if n in catalog.sources),
        catalog.observers.values(),
        catalog.dialects.values(),
        catalog.routes.values(),
    )
    classes: dict[str, type] = {}
    for kind in kinds:
        if kind.options is not NoOptions or kind.name not in classes:
            classes[kind.name] = kind.options
    return classes


def _one(name: str, cls: type, tables: Mapping[str, Any], mistakes: Mistakes) -> object | None:
    if name in tables:
        if _not_yet(name, cls, mistakes):
            return None
        return build(cls, tables[name], name, mistakes)
    before = len(mistakes.found)
    made: object | None = build(cls, {}, name, mistakes)
    if any(m.place.startswith(f"{name}.") for m in mistakes.found[before:]):
        mistakes.add(name, f"is installed and needs a table [{name}]; `disabled` names packages not to use")
    return made


def _not_yet(name: str, options: type, mistakes: Mistakes) -> bool:
    """Whether the name is kept for something to come, active or not; then that is said."""
    sentence = getattr(options, "not_yet", None)
    if sentence:
        mistakes.add(name, sentence)
    return bool(sentence)


def _misplaced(
    name: str, value: Any, active: Mapping[str, type], stages: Sequence[str], catalog: Catalog, mistakes: Mistakes
) -> None:
    """What is wrong with a table, or key, at the top of the file that is not the core's own."""
    if name in catalog.stages and name not in stages:
        if not _not_yet(name, catalog.stages[name].options, mistakes):
            mistakes.add(name, f"configures a stage that is not active: add {name!r} to {mistakes.home('routing', 'stages')}")
    elif name in active:
        return
    elif name in catalog.sources:
        mistakes.add(name, f"configures a source that is not active: add {name!r} to {mistakes.home('discovery', 'sources')}")
    elif name in catalog.backends:
        mistakes.add(name, f"{name} is a backend type: its keys are written in a [[backends]] table with type = {name!r}")
    elif name in PUBLISHED or catalog.package(name):
        missing(name, "component", name, active, catalog, mistakes)
    else:
        tables = isinstance(value, Mapping) or (
            isinstance(value, list) and bool(value) and all(isinstance(v, Mapping) for v in value)
        )
        what = "table" if tables else f"key (it holds {given(value)})"
        belongs = ["[[backends]], as [[backends.models]]"] if tables and name == "models" else homes(name, active)
        near = None if belongs else nearest(name, (*OWN, *active))
        if tables and not near and not belongs and suspected(quoted(name), "there is no such table", catalog, mistakes):
            return
        where = f" at the top of the file: write it below {' or '.join(belongs)}" if belongs else ""
        mistakes.add(quoted(name), f"there is no such {what}{where}", near)


def homes(key: str, active: Mapping[str, type]) -> list[str]:
    """The tables that know this key, which stands at the top of the file, as each is begun."""
    single = {f"[{name}]": cls for name, cls in {**FIXED, **active}.items()}
    many = {f"[[{name}]]": cls for name, cls in ARRAYS.items()} | {"[[backends.models]]": ModelConfig}
    return [begun for begun, cls in {**single, **many}.items() if key in keys(cls)]
