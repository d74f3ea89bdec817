"""The head of an answer, as bytes, and an answer to what is no request yet.  Which headers a head has is decided elsewhere."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from nexus.errors import Problem


def head_of(status: int, headers: Mapping[str, str], framing: str) -> bytes:
    """Status line and headers, `framing` (whole lines) and the date last.  Raises ValueError for a header with a line break."""
    text = "\r\n".join([_opening(status), *map(": ".join, headers.items())])
    if text.count("\n") != len(headers) or text.count("\r") != len(headers) or "\0" in text:
        raise ValueError("a header must not hold a line break")
    head = f"{text}\r\n{framing}Date: {_date(int(time.monotonic()))}\r\n\r\n"
    return head.encode("latin-1", "replace")


def error_of(problem: Problem) -> bytes:
    """A whole answer behind which the connection closes, for a client whose dialect is not known yet: in OpenAI's form."""
    error = {"message": problem.message, "type": "server_error", "param": None, "code": problem.code}
    body = json.dumps({"error": error}).encode()
    headers = {"Content-Type": "application/json", "Retry-After": str(problem.retry_after or 1)}
    return head_of(problem.status, headers, f"Connection: close\r\nContent-Length: {len(body)}\r\n") + body


@lru_cache(maxsize=64)
def _opening(status: int) -> str:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}"


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    """Now, as HTTP writes it; made anew when `second` is another."""
    return formatdate(usegmt=True)
