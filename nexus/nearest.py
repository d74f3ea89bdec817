"""The known words that a mistyped one is nearest to.  `difflib` is loaded by the first mistake: a run without one never pays for it."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(word: str, known: Iterable[str], *, n: int = 1, alike: float = 0.6) -> list[str]:
    """At most `n` of the `known`, best first, that are at least so much `alike` (0 to 1)."""
    import difflib

    return difflib.get_close_matches(word, list(known), n=n, cutoff=alike)
