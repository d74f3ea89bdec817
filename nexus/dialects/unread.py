"""The objects of a request that know which of their members were read: what nobody has looked at by the end is lost, and is named.

So a field that is new, or that a reader forgot, is never left out in silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

NOTHING: tuple[Any, ...] = (None, False, [], {}, "")


class Read(dict[str, Any]):
    """An object of JSON; what it holds becomes such objects, too, as soon as it is taken out by `get` or `[]`."""

    __slots__ = ("_done", "_seen")

    def __init__(self, value: dict[str, Any]) -> None:
        super().__init__(value)
        self._seen: set[str] = set()
        self._done = False

    def get(self, key: str, default: Any = None) -> Any:
        return self[key] if key in self else default  # noqa: SIM401 - it would ask itself

    def __getitem__(self, key: str) -> Any:
        value = super().__getitem__(key)
        if key not in self._seen:
            self._seen.add(key)
            if type(value) is dict or type(value) is list:
                value = reading(value)
                self[key] = value
        return value

    def done(self) -> None:
        """What is left of it goes, or has gone, elsewhere as a whole."""
        self._done = True

    def unread(self) -> Iterator[str]:
        if self._done:
            return
        for key, value in self.items():
            if key in self._seen:
                yield from unread(value)
            elif not is_nothing(value):
                yield key


def reading(value: Any) -> Any:
    """The value with all its objects as `Read`."""
    if type(value) is dict:
        return Read(value)
    return [reading(inner) for inner in value] if type(value) is list else value


def unread(value: Any) -> Iterator[str]:
    """The names of members that nobody has read and that say something."""
    if isinstance(value, Read):
        yield from value.unread()
    elif isinstance(value, list):
        for inner in value:
            yield from unread(inner)


def taken(value: Any) -> Any:
    """The value as plain JSON, all of it taken."""
    if isinstance(value, Read):
        value.done()
        return {name: taken(inner) for name, inner in value.items()}
    return [taken(inner) for inner in value] if isinstance(value, list) else value


def is_nothing(value: Any) -> bool:
    """Whether a member says no more than if it were not there."""
    return any(value is nothing or (value == nothing and type(value) is type(nothing)) for nothing in NOTHING)
