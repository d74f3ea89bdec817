"""Methods that nobody calls, since they are nearly called like one of the class that they were to override."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from nexus.nearest import nearest

API = "nexus.api."
ALIKE = 0.75  # from here on a name is taken for a misspelt one: `refuze`, `ranks`, `learned`


def misspelt(cls: object) -> Iterator[str]:
    """A sentence for every public method of a component's class whose name is near to a method of the API that it does not override."""
    lineage = inspect.getmro(cls) if isinstance(cls, type) else ()
    bases = [base for base in lineage if base.__module__.startswith(API)]
    own = [base for base in lineage if base not in bases and base is not object]
    known = {name for base in bases for name in dir(base)}
    free = [verb for base in bases for verb in _methods(base) if not any(verb in vars(c) for c in own)]
    for owner in own if bases else ():
        for name in _methods(owner):
            if name not in known and (near := nearest(name.lower(), free, alike=ALIKE)):
                yield f"{owner.__name__}.{name} is called by nobody: did you mean {near[0]!r}?"


def _methods(cls: type) -> list[str]:
    return [name for name, value in vars(cls).items() if inspect.isfunction(value) and not name.startswith("_")]
