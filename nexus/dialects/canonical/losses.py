"""What a translation drops: the value, and what gathers several.  Which things those are is known where they are dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs


@attrs.frozen(kw_only=True)
class Loss:
    """Something that was said and cannot be carried over.

    `what` is a short stable word, most often the field's own name (`top_k`, `cache_control`); it goes into a header, so it
    never holds a client's text.  Where `meaning_changed`, the answer would be one to another question (a dropped image, a
    dropped tool): the request is refused instead.
    """

    what: str
    meaning_changed: bool = False


Losses = tuple[Loss, ...]

# what may stand in a header: a field that somebody made up is not repeated there
_NAME = re.compile(r"[A-Za-z$][A-Za-z0-9_$-]{0,39}")


MOST_TOLD = 1000
"""Characters of losses in a header; a client may send any number of fields that nobody knows."""


def in_words(losses: Iterable[Loss]) -> str:
    """The words for losses, each once, with commas between them; `more` stands for those that are too many."""
    words = ""
    for word in dict.fromkeys(loss.what for loss in losses):
        if len(words) + len(word) > MOST_TOLD:
            return f"{words}, more"
        words = f"{words}, {word}" if words else word
    return words


class Lost:
    """Each loss once; one that changes the meaning stays so."""

    __slots__ = ("_all",)

    def __init__(self) -> None:
        self._all: dict[str, Loss] = {}

    def add(self, what: str, *, meant: bool = False) -> None:
        """`meant`: without it the answer would be one to another question."""
        before = self._all.get(what)
        self._all[what] = Loss(what=what, meaning_changed=meant or bool(before and before.meaning_changed))

    def field(self, name: str) -> None:
        """A field of the client's that has no place."""
        self.add(name if _NAME.fullmatch(name) else "unknown_field")

    @property
    def all(self) -> Losses:
        return tuple(self._all.values())
