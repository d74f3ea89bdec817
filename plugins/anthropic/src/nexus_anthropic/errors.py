"""Errors in Anthropic's form, both ways: what a client is told, and what a server said."""

from __future__ import annotations

from typing import Any

from nexus.api import EMPTY, Problem
from nexus.dialects.jsontext import dumps, loads

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


def error_body(problem: Problem, request_id: str) -> bytes:
    """A whole error: the shape of Anthropic's API, with the gateway's own code and context beside the message."""
    error: dict[str, Any] = {"type": _type(problem), "message": problem.message, "code": problem.code}
    if problem.param is not None:
        error["param"] = problem.param
    if problem.context is not EMPTY:
        error["context"] = problem.context
    return dumps({"type": "error", "error": error, "request_id": request_id})


def is_error(body: bytes) -> bool:
    """Whether the body is `{"type": "error", "error": {"type": …, "message": …}}`."""
    try:
        value = loads(body)
    except ValueError:
        return False
    error = value.get("error") if isinstance(value, dict) and value.get("type") == "error" else None
    return isinstance(error, dict) and isinstance(error.get("type"), str) and isinstance(error.get("message"), str)


def _type(problem: Problem) -> str:
    if problem.type in KNOWN:
        return problem.type
    return TYPES.get(problem.status) or ("invalid_request_error" if problem.status < 500 and problem.status != 408 else "api_error")
