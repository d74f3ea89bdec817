"""What a server says when it will not: the sentence in an error's body, and what it admits it cannot do.

How a dialect writes an error of its own is its own; what an error means for the request is decided in `nexus.outcome`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from nexus.dialects.jsontext import dumps_text, loads
from nexus.errors import Problem

Headers = tuple[tuple[str, str], ...]
OF_THE_BODY = frozenset({"content-type", "content-encoding"})
_LONGEST = 500
_CANNOT = r"not support|n't support|unsupported|is not an? |requires --|mmproj"


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


# What servers say of a prompt that is too long: llama.cpp, vLLM (two of its ways), Ollama and others without figures.
_OVERFLOWS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"\((?P<needed>\d+) tokens\) exceeds the available context size \((?P<most>\d+) tokens\)",
        r"\(length (?P<needed>\d+)\) is longer than the maximum model length of (?P<most>\d+)",
        r"(exceeds?|longer than|larger than|too long for) the (available |maximum |model'?s? )*context( size| length| window)?\b",
    )
)
_KNOWN_OVERFLOW = re.compile(r"prompt is too long|maximum context length is \d")


def overflow_in(said: str) -> str:
    """A sentence that says the prompt is too long, in words that agents recognise and compact their conversation on; "" for any
    other.  What is in such words already stays as it is.
    """
    if _KNOWN_OVERFLOW.search(said):
        return said
    found = next((match for pattern in _OVERFLOWS if (match := pattern.search(said))), None)
    if found is None:
        return ""
    figures = found.groupdict()
    return (
        f"prompt is too long: {figures['needed']} tokens > {figures['most']} maximum" if figures else f"prompt is too long: {said}"
    )


def rejected(status: int, said: str) -> Problem:
    """A server's rejection, to be told in a dialect's own form."""
    overflow = overflow_in(said)
    code = "context_length_exceeded" if overflow else "backend_rejected"
    return Problem(status, code, overflow or said or f"the backend rejected the request with {status}")


def is_packed(headers: Headers) -> bool:
    """Whether a body comes in a content encoding, which nobody here unpacks."""
    return any(name == "content-encoding" and value.lower() != "identity" for name, value in headers)


def as_json(headers: Headers) -> Headers:
    """The headers of a reply, for another body than the server's: JSON."""
    return (*((name, value) for name, value in headers if name not in OF_THE_BODY), ("content-type", "application/json"))


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
