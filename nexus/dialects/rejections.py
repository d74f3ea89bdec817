"""A server's rejection on its way to the client: its headers, and a prompt that is too long, in words that agents know.

How a sentence is found in an error's body is in `complaints`; which rejections are told anew is decided in `ways` and `translate`.
"""

from __future__ import annotations

import re

from nexus.errors import Problem

Headers = tuple[tuple[str, str], ...]
LOSS_HEADER = "X-Nexus-Translation-Loss"
OF_THE_BODY = frozenset({"content-type", "content-encoding"})

# What servers say of a prompt that is too long: llama.cpp (two of its ways), vLLM, OpenAI and OpenRouter (all that begin so; what is
# asked for in all, where they say it, else the prompt), SGLang, others without figures.
_OVERFLOWS = tuple(
    re.compile(pattern, re.IGNORECASE | re.DOTALL)
    for pattern in (
        r"\((?P<needed>\d+) tokens\) exceeds the available context size \((?P<most>\d+) tokens\)",
        r"\(length (?P<needed>\d+)\) is longer than the maximum model length of (?P<most>\d+)",
        r"maximum context length is (?P<most>\d+) tokens.*\btotal of (at least )?(?P<needed>\d+) tokens",
        r"maximum context length is (?P<most>\d+) tokens\W+however\W+your?\b[^0-9]*\b(?P<needed>\d+) ((input|prompt) )?tokens",
        r"\((?P<needed>\d+) tokens\) is longer than the model's context length \((?P<most>\d+) tokens\)",
        r"input \((?P<needed>\d+) tokens\) is too large to process",
        r"(exceeds?|longer than|larger than|too long for) the (available |maximum |model'?s? )*context( size| length| window)?\b",
        r"input is too large to process",
        r"trying to keep the first (?P<needed>\d+) tokens when context the overflows.*context length of only (?P<most>\d+)",
        r"must be <= (?P<most>\d+)\W+given: (?P<needed>\d+) `inputs` tokens",
        r"prompt contains (?P<needed>\d+) tokens.*too large for model with (?P<most>\d+) maximum context",
        r"input token count \(?(?P<needed>\d+)?\)? ?exceeds the maximum number of tokens allowed \(?(?P<most>\d+)",
    )
)
_LIMIT = re.compile(
    r"\bbatch size: (\d+)|\bn_ctx\W+(\d+)", re.IGNORECASE
)  # llama.cpp says the most that it takes at once at the end
# a bound of the answer, or a picture: a shorter conversation would help nobody
_NOT_THE_PROMPT = re.compile(r"^\W*(max_|num_predict|n_predict|image|audio|picture)", re.IGNORECASE)
_OF_THE_ANSWER = re.compile(r"(\d+) (?:output tokens|(?:in|for) the (?:completion|output|answer))", re.IGNORECASE)
_OPENAI_SAYS = re.compile(r"maximum context length is \d")
_AS_AGENTS_KNOW = "prompt is too long"
_KNOWN_CODE = re.compile(rb'"code"\s*:\s*"context_length_exceeded"')


def overflow_in(said: str) -> str:
    """A sentence that says the prompt is too long, in words that agents recognise and compact their conversation on; "" for any
    other.  What is in such words already stays as it is.
    """
    if _AS_AGENTS_KNOW in said:
        return said
    if _NOT_THE_PROMPT.search(said):
        return ""
    found = next((match for pattern in _OVERFLOWS if (match := pattern.search(said))), None)
    if found is None:
        return said if _OPENAI_SAYS.search(said) else ""
    figures = found.groupdict()
    needed, most = figures.get("needed"), figures.get("most") or _limit(said)
    answer = _OF_THE_ANSWER.search(said)
    if answer and most and int(answer[1]) >= int(most):
        return ""  # no prompt would be short enough
    return f"{_AS_AGENTS_KNOW}: {needed} tokens > {most} maximum" if needed and most else f"{_AS_AGENTS_KNOW}: {said}"


def is_known_overflow(body: bytes) -> bool:
    """Whether an error has the code by which clients of OpenAI's API know a prompt that is too long."""
    return _KNOWN_CODE.search(body) is not None


def _limit(said: str) -> str | None:
    found = _LIMIT.search(said)
    return (found[1] or found[2]) if found else None


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
