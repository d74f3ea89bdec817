"""A frozen value with some of its fields changed."""

from __future__ import annotations

from typing import Any, TypeVar

import attrs
import msgspec

T = TypeVar("T")


def replace(value: T, **changes: Any) -> T:
    """Return a copy of a frozen value with these fields changed; the value stays as it is.

    Takes Nexus' own values (`msgspec.Struct`) and attrs classes alike.  Raises TypeError for a field that the value has not.
    """
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.replace(value, **changes)
    return attrs.evolve(value, **changes)  # type: ignore[misc]
