"""Which context an Ollama serves a model with, so far as it can be known while the model is not in memory.  No I/O."""

from __future__ import annotations

from nexus_ollama.models import Shown

KEPT_SECONDS = 3600.0  # settings change with a restart, which not every probe notices


class Contexts:
    """What was seen in `/api/ps`, by what the models' contents are known by, and what follows from it for others.

    A model whose file sets no `num_ctx` gets the server's default, cut to what it was trained for: so one that was seen with less than
    that tells the default, and what all the others get.
    """

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float]] = {}
        self._default: tuple[int, float] | None = None

    def see(self, key: str, facts: Shown, served: int, now: float) -> None:
        """A loaded model is served with so many tokens."""
        self._seen[key] = (served, now)
        if facts.num_ctx is None and (facts.context_max is None or served < facts.context_max):
            self._default = (served, now)

    def of(self, key: str, facts: Shown, now: float) -> int | None:
        """The tokens that the model was last served with, or will be; None where nothing tells."""
        seen = _fresh(self._seen.get(key), now)
        if seen is not None:
            return seen
        given = facts.num_ctx or _fresh(self._default, now)
        return given if given is None or facts.context_max is None else min(given, facts.context_max)

    def keep(self, keys: set[str]) -> None:
        """These are the models that there are."""
        self._seen = {key: seen for key, seen in self._seen.items() if key in keys}

    def forget(self) -> None:
        """The server may have been started anew, with other settings."""
        self._seen.clear()
        self._default = None


def _fresh(seen: tuple[int, float] | None, now: float) -> int | None:
    return seen[0] if seen is not None and now - seen[1] < KEPT_SECONDS else None
