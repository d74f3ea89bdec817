"""What of a written table can be judged although something else in it is wrong.  What is wrong by itself is `strict`'s to say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Names = tuple[str | None, ...]  # a None is something else than a text, kept so that the others have their places


def names(value: Any) -> Names | None:
    """A list of names, or one alone; None for what is neither."""
    if isinstance(value, str):
        return (value,)
    return tuple(n if isinstance(n, str) else None for n in value) if isinstance(value, list) else None


def listed(raw: Mapping[str, Any], table: str, key: str) -> Names | None:
    """The names in the list `key` of a table; None where there is no list."""
    value = within(raw, table).get(key)
    return names(value) if isinstance(value, list) else None


def named_lists(raw: Mapping[str, Any], table: str, key: str) -> dict[str, Names]:
    """Name → names, of what is written so."""
    entries = within(raw, table).get(key)
    pairs = entries.items() if isinstance(entries, Mapping) else ()
    return {name: found for name, value in pairs if isinstance(name, str) and (found := names(value)) is not None}


def within(raw: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    """The table; an empty one where there is none."""
    value = raw.get(table)
    return value if isinstance(value, Mapping) else {}


def texts(items: Sequence[Any], key: str) -> Names:
    """What each of the tables has under `key`."""
    values = (item.get(key) if isinstance(item, Mapping) else None for item in items)
    return tuple(value if isinstance(value, str) else None for value in values)
