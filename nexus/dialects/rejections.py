"""A server's rejection on its way to the client: its headers, and a prompt that is too long, in words that agents know.

How a sentence is found in an error's body is in `complaints`; which rejections are told anew is decided in `ways` and `translate`.
"""

from __future__ import annotations

import re

from nexus.errors import Problem

Headers = tuple[tuple[str, str], ...]
OF_THE_BODY = frozenset({"content-type", "content-encoding"})

# What servers say of a prompt that is too long: llama.cpp, vLLM (two of its ways), Ollama and others without figures.
_OVERFLOWS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"\((?P<needed>\d+) tokens\) exceeds the available context size \((?P<most>\d+) tokens\)",
        r"\(length (?P<needed>\d+)\) is longer than the maximum model length of (?P<most>\d+)",
        r"(exceeds?|longer than|larger than|too long for) the (available |maximum |model'?s? )*context( size| length| window)?\b",
    )
)
# a bound of the answer, or a picture: a shorter conversation would help nobody
_NOT_THE_PROMPT = re.compile(r"^\W*(max_|num_predict|n_predict|image|audio|picture)", re.IGNORECASE)
_KNOWN_OVERFLOW = re.compile(r"prompt is too long|maximum context length is \d")


def overflow_in(said: str) -> str:
    """A sentence that says the prompt is too long, in words that agents recognise and compact their conversation on; "" for any
    other.  What is in such words already stays as it is.
    """
    if _KNOWN_OVERFLOW.search(said):
        return said
    if _NOT_THE_PROMPT.search(said):
        return ""
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
