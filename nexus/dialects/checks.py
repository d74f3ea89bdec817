"""Values of a request's JSON, checked as they are taken; what is wrong is named with its place.  No field is known here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.errors import Problem


def bad(message: str, param: str | None = None, *, see: str = "") -> Problem:
    """A request that cannot be understood: status 400."""
    return Problem(400, "invalid_request", message, param=param, see=see)


def text(value: Any, place: str) -> str | None:
    """A text or null.  This and the others raise Problem (400)."""
    if value is not None and not isinstance(value, str):
        raise bad(f"{place!r} must be a string", place)
    return value


def flag(value: Any, place: str) -> bool | None:
    """True, false or null."""
    if value is not None and not isinstance(value, bool):
        raise bad(f"{place!r} must be true or false", place)
    return value


def number(value: Any, place: str) -> float | None:
    """A number or null."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise bad(f"{place!r} must be a number", place)
    return value


def integer(value: Any, place: str) -> int | None:
    """A whole number or null."""
    found = number(value, place)
    if found is not None and found != found // 1:
        raise bad(f"{place!r} must be a whole number", place)
    return None if found is None else int(found)


def whole(value: Any, place: str) -> int | None:
    """A whole number that is not negative, or null."""
    found = number(value, place)
    if found is not None and (found < 0 or found != found // 1):
        raise bad(f"{place!r} must be a whole number that is not negative", place)
    return None if found is None else int(found)


def members(value: Any, place: str) -> Mapping[str, Any]:
    """An object; null has no members."""
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise bad(f"{place!r} must be an object", place)
    return value


def items(value: Any, place: str) -> list[Any]:
    """An array; null has no items."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise bad(f"{place!r} must be an array", place)
    return value


def objects(value: Any, place: str) -> list[tuple[str, Mapping[str, Any]]]:
    """The objects of an array, each with its place."""
    found = items(value, place)
    for at, item in enumerate(found):
        if not isinstance(item, dict):
            raise bad(f"{place}[{at}] must be an object", f"{place}[{at}]")
    return [(f"{place}[{at}]", item) for at, item in enumerate(found)]
