"""Errors in Anthropic's form, both ways: what a client is told, and what a server said."""

from __future__ import annotations

import re
from typing import Any

from nexus.api import EMPTY, Problem
from nexus_anthropic.jsontext import dumps, dumps_text, loads

# The types of Anthropic's API reference by status; there is none for an answer that took too long.
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
KNOWN = frozenset(TYPES.values()) | {"invalid_request_error", "api_error"}

# What servers that speak this dialect say when a model cannot: llama.cpp ("image input is not supported - hint: … mmproj", "tools
# param requires --jinja flag"), Ollama ("… does not support tools"), Anthropic ("'claude-…' does not support image input").
_CANNOT = r"not support|n't support|unsupported|is not an? |requires --|mmproj"
_LACKS = (
    ("no_vision", re.compile(rf"(image|vision|multimodal).*({_CANNOT})|({_CANNOT}).*(image|vision|multimodal)", re.I | re.S)),
    ("no_documents", re.compile(rf"(pdf|document).*({_CANNOT})|({_CANNOT}).*(pdf|document)", re.I | re.S)),
    ("no_tools", re.compile(rf"\btool.*({_CANNOT})|({_CANNOT}).*\btool", re.I | re.S)),
    (
        "no_json_schema",
        re.compile(rf"(structured output|output_config|output_format).*({_CANNOT})|({_CANNOT}).*(structured output)", re.I | re.S),
    ),
)


def error_body(problem: Problem, request_id: str) -> bytes:
    """A whole error: the shape of Anthropic's API, with the gateway's own code and context beside the message."""
    error: dict[str, Any] = {"type": _type(problem), "message": problem.message, "code": problem.code}
    if problem.param is not None:
        error["param"] = problem.param
    if problem.context is not EMPTY:
        error["context"] = problem.context
    return dumps({"type": "error", "error": error, "request_id": request_id})


def read(body: bytes) -> str:
    """The sentence in an error's body, whatever shape it has."""
    try:
        value = loads(body)
    except ValueError:
        return body[:200].decode("utf-8", "replace").strip()
    return said_in(value)[:500]


def said_in(value: Any) -> str:
    """The sentence in a value that is an error, in the shapes that servers are known to use."""
    if isinstance(value, dict):
        for key in ("error", "message", "detail"):
            if value.get(key):
                return said_in(value[key])
    return value if isinstance(value, str) else dumps_text(value)


def lacks(said: str) -> str:
    """What the sentence admits the model cannot do, as a refusal code."""
    return next((code for code, words in _LACKS if words.search(said)), "")


def _type(problem: Problem) -> str:
    if problem.type in KNOWN:
        return problem.type
    return TYPES.get(problem.status) or ("invalid_request_error" if problem.status < 500 and problem.status != 408 else "api_error")
