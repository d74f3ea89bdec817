"""What a server says when it will not: the sentence in an error's body, and what it admits it cannot do.

How a dialect writes an error of its own is its own; what an error means for the request is decided in `nexus.outcome`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nexus.dialects.jsontext import dumps_text, loads

_LONGEST = 500
_CANNOT = r"not support|n't support|unsupported|is not an? |requires --|mmproj|must be a base64|only base64"


def sentence_of(body: bytes) -> str:
    """The sentence in an error's body, whatever shape it has."""
    try:
        value = loads(body)
    except ValueError:
        return body[:200].decode("utf-8", "replace").strip()
    return sentence_in(value)


def sentence_in(value: Any) -> str:
    """The sentence in a value that is an error, in the shapes that servers are known to use; at most 500 characters."""
    while isinstance(value, dict):
        told = next((value[key] for key in ("error", "message", "detail") if value.get(key)), None)
        if told is None:
            break
        value = told
    return (value if isinstance(value, str) else dumps_text(value))[:_LONGEST]


class Admissions:
    """What sentences admit that a model cannot do.

    `words` has for each refusal code (`no_vision`) a regular expression of what the sentence speaks of (`image|vision`).
    """

    def __init__(self, words: Mapping[str, str]) -> None:
        self._patterns = [
            (code, re.compile(f"({about}).*({_CANNOT})|({_CANNOT}).*({about})", re.IGNORECASE | re.DOTALL))
            for code, about in words.items()
        ]

    def in_(self, said: str) -> str:
        """The first code that the sentence admits; "" for any other sentence."""
        return next((code for code, pattern in self._patterns if pattern.search(said)), "")
