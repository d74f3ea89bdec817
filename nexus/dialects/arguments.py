"""The arguments of a tool call as they are streamed.  Nothing here knows a dialect."""

from __future__ import annotations

import re

from nexus.dialects.held import Held
from nexus.dialects.jsontext import object_of

_NULL = "null"
_SIGNS = re.compile(r'[\\"{}\[\]]')


def say_nothing(text: str) -> bool:
    """Whether the arguments of a call say that there are none: no text, blanks, or null."""
    return text.strip() in ("", _NULL)


def may_say_nothing(text: str) -> bool:
    """Whether what begins so may still say that there are none."""
    said = text.lstrip()
    return _NULL.startswith(said) or say_nothing(said)


class Arguments:
    """The arguments of one call as they grow, and whether they are a whole JSON object: then only blanks can follow.

    Every character is looked at once, however small the pieces.  `held` is what the stream keeps altogether.
    """

    __slots__ = ("_complete", "_depth", "_held", "_looked", "_pieces", "_quoted", "_skip")

    def __init__(self, held: Held) -> None:
        self._held = held
        self._complete: bool | None = None  # None: it may still become one
        self._depth = 0
        self._looked = 0  # pieces
        self._pieces: list[str] = []
        self._quoted = False
        self._skip = 0  # characters of the next piece, which a backslash before them makes plain

    def add(self, piece: str) -> None:
        """One more piece.  Raises as `Held.add`."""
        self._held.add(piece)
        self._pieces.append(piece)

    def let_go(self) -> None:
        """Nobody asks for them any more."""
        for piece in self._pieces:
            self._held.let_go(piece)
        self._pieces = []

    @property
    def text(self) -> str:
        return "".join(self._pieces)

    @property
    def complete(self) -> bool:
        """Pieces are looked at only when this is asked: mostly nothing waits for a call."""
        while self._complete is None and self._looked < len(self._pieces):
            piece = self._pieces[self._looked]
            self._looked += 1
            if self._depth or piece.lstrip()[:1] == "{":
                self._look(piece)
            elif piece.strip():
                self._complete = False
        return self._complete is True

    def _look(self, piece: str) -> None:
        skip = self._skip
        for sign in _SIGNS.finditer(piece):
            at = sign.start()
            if at < skip:
                continue
            if self._quoted and sign[0] == "\\":
                skip = at + 2
            elif sign[0] == '"':
                self._quoted = not self._quoted
            elif not self._quoted and sign[0] != "\\":
                self._depth += 1 if sign[0] in "{[" else -1
                if not self._depth:
                    self._complete = object_of(self.text) is not None
                    return
        self._skip = max(skip - len(piece), 0)
