"""Cases of one test that share what is dear to start: a gateway, its servers.  No test lives here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(*names: object) -> Iterator[None]:
    """One case of a loop: what fails in it says which one it was."""
    try:
        yield
    except BaseException as error:
        error.add_note("in the case: " + ", ".join(map(str, names)))
        raise
