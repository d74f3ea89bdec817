"""Anthropic's usage objects: tokens of a message, of which a stream says one part at its start and the other near its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.dialects.figures import count_of, figure_of
from nexus.model import NO_USAGE, Usage

_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


def merged(known: Mapping[str, int], said: Any) -> dict[str, int]:
    """What is known after another usage object: totals, so the last figure holds; a nought never replaces a figure, since
    servers put one where they do not know yet."""
    found = dict(known)
    if isinstance(said, dict):
        for name in _COUNTS:
            if (count := figure_of(said.get(name))) is not None:
                found[name] = count or found.get(name, 0)
        details = said.get("output_tokens_details")
        if isinstance(details, dict) and (count := count_of(details.get("thinking_tokens"))):
            found["thinking_tokens"] = count
    return found


def tells_output(said: Any) -> bool:
    """Whether a usage object tells what was written."""
    return isinstance(said, dict) and figure_of(said.get("output_tokens")) is not None


def usage_of(counts: Mapping[str, int], *, begins: bool = False) -> Usage:
    """As Nexus counts: the input holds the cached part, which Anthropic counts apart.  Where only a part is known it is to be
    `completed`: no prompt is of no tokens, and what a stream says of its output where it `begins` is not all of it."""
    cached = counts.get("cache_read_input_tokens", 0)
    tokens = counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0)
    if not any(counts.values()):
        return NO_USAGE
    return Usage(
        input_tokens=tokens,
        output_tokens=0 if begins else counts.get("output_tokens", 0),
        cached_tokens=cached,
        reasoning_tokens=counts.get("thinking_tokens", 0),
        source="reported" if tokens and "output_tokens" in counts and not begins else "counted",
    )


def usage_object(usage: Usage) -> dict[str, Any]:
    """The usage object of a message, or of a stream's `message_delta`.  How much went into a cache is not known here."""
    cached = min(usage.cached_tokens, usage.input_tokens)
    return {
        "input_tokens": usage.input_tokens - cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": cached,
        "output_tokens": usage.output_tokens,
        **({"output_tokens_details": {"thinking_tokens": usage.reasoning_tokens}} if usage.reasoning_tokens else {}),
    }
