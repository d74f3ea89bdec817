"""What a server says when it will not: the sentence in an error's body, and its codes.

How a dialect writes an error of its own is its own; what an error means for the request is decided in `nexus.outcome`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import attrs

from nexus.dialects.jsontext import dumps_text, loads
from nexus.dialects.weight import weigh

_LONGEST = 500
_MOST_VALUES = 50_000  # an error is read more than once, each time in the loop; of one with more only the beginning is told
_WORD = "".join(map(chr, range(33, 127))).translate({ord('"'): None, ord(","): None})  # what a key, however it is spelt, is made of
_TOLD = ("error", "message", "detail", "msg")
_CODES = ("code", "type", "status", "error_type", "reason")
_DEEPEST = 8
_HEAD = re.compile(r"<(head|script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"<[^<>]*>")
# The statuses of errors that come with a 200, by their type, where they name no number.
_TYPES = {
    "invalid_request_error": 400,
    "badrequesterror": 400,
    "authentication_error": 401,
    "permission_error": 403,
    "not_found_error": 404,
    "notfounderror": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "api_error": 500,
    "server_error": 500,
    "overloaded_error": 529,
    "timeout_error": 504,
}


@attrs.frozen(kw_only=True)
class Complaint:
    """An error as a server has said it.  `message` is its sentence, at most 500 characters; `codes` are the words of its code, type and
    status, in small letters; `status` is the number of a status that it names, or that goes with its type; `value` is its JSON."""

    message: str = ""
    codes: frozenset[str] = frozenset()
    status: int | None = None
    value: Any = None


def complaint_of(body: bytes) -> Complaint:
    """What an error's body says, whatever shape it has."""
    try:
        weigh(body, _MOST_VALUES)
        value = loads(body)
    except ValueError:
        return Complaint(message=_text_of(body))
    return complaint_in(value)


def complaint_in(value: Any) -> Complaint:
    """What a value says that is an error."""
    layers = tuple(_layers(value))
    codes = frozenset(code.lower() for layer in layers for key in _CODES if isinstance(code := layer.get(key), str))
    return Complaint(
        message=sentence_in(value) if value not in ({}, [], None) else "", codes=codes, status=_status(layers), value=value
    )


def complaint_in_stream(head: bytes, sentence: str = "") -> Complaint:
    """What the error with this sentence says in a stream's beginning: server-sent events, or a value to a line.  More may stand behind
    it, and before it; without a sentence it is the last value."""
    found = Complaint(message=sentence)
    for line in head.splitlines():
        text = line.partition(b":")[2] if line.startswith((b"data:", b"error:")) else line
        try:
            value = loads(text)
        except ValueError:
            continue
        if isinstance(value, dict):
            said = complaint_in(value)
            if sentence and said.message == sentence:
                return said
            if not sentence or (
                found.value is None and (value.get("error") or "error" in (value.get("type"), value.get("object")))
            ):
                found = attrs.evolve(said, message=sentence or said.message)
    return found


def sentence_of(body: bytes) -> str:
    """The sentence in an error's body, whatever shape it has."""
    return complaint_of(body).message


def sentence_in(value: Any) -> str:
    """The sentence in a value that is an error, in the shapes that servers are known to use; at most 500 characters, in whole words."""
    for _ in range(_DEEPEST):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            told: Any = value[0]
        elif isinstance(value, dict):
            told = next((value[key] for key in _TOLD if value.get(key)), None)
        else:
            told = _inner(value)
        if told is None:
            break
        value = told
    return shortened(value if isinstance(value, str) else dumps_text(value), _LONGEST)


def shortened(text: str, most: int) -> str:
    """At most so many characters, without the word that would be cut: half a key is found by nobody who looks for the whole one."""
    return text if len(text) <= most else text[:most].rstrip(_WORD) or "…"


def _layers(value: Any) -> Iterator[dict[str, Any]]:
    """The objects of an error, from the outside in."""
    for _ in range(_DEEPEST):
        if isinstance(value, list) and value:
            value = value[0]
        if isinstance(value, str):
            value = _inner(value)
        if not isinstance(value, dict):
            return
        yield value
        value = next((value[key] for key in _TOLD if value.get(key)), None)


def _inner(value: Any) -> Any:
    """The error that is quoted as JSON within a sentence: Ollama passes on what its runner says."""
    if not isinstance(value, str) or not value.lstrip().startswith("{"):
        return None
    try:
        inner = loads(value.encode("utf-8", "replace"))
    except ValueError:
        return None
    return inner if isinstance(inner, dict) and any(inner.get(key) for key in _TOLD) else None


def _status(layers: tuple[dict[str, Any], ...]) -> int | None:
    said = [layer.get(key) for layer in reversed(layers) for key in (*_CODES, "status_code")]
    for code in said:
        if isinstance(code, str) and code.isdecimal() and len(code) == 3:
            code = int(code)
        if type(code) is int and 400 <= code <= 599:
            return code
    return next((_TYPES[code.lower()] for code in said if isinstance(code, str) and code.lower() in _TYPES), None)


def _text_of(body: bytes) -> str:
    """The words of what is no JSON; of a page, what a browser would show."""
    head = body if len(body) <= 16 * _LONGEST else body[: 16 * _LONGEST].rstrip(_WORD.encode())
    text = head.decode("utf-8", "replace").strip()
    if text[:1] == "<" and (shown := " ".join(_TAG.sub(" ", _HEAD.sub(" ", text)).split())):
        text = shown
    return shortened(text, 200)
