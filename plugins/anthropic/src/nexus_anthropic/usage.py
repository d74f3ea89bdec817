"""Anthropic's usage objects: tokens of a message, of which a stream says one part at its start and the other near its end."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.dialects.figures import count_of
from nexus.model import Usage

_COUNTS = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


def merged(known: Mapping[str, int], said: Any) -> dict[str, int]:
    """What is known after another usage object: totals, so the last figure holds; a nought never replaces a figure, since
    servers put one where they do not know yet."""
    found = dict(known)
    if isinstance(said, dict):
        for name in _COUNTS:
            if (count := count_of(said.get(name))) or name in said:
                found[name] = count or found.get(name, 0)
        details = said.get("output_tokens_details")
        if isinstance(details, dict) and (count := count_of(details.get("thinking_tokens"))):
            found["thinking_tokens"] = count
    return found


def usage_of(counts: Mapping[str, int], source: str = "reported") -> Usage:
    """As Nexus counts: the input holds the cached part, which Anthropic counts apart."""
    cached = counts.get("cache_read_input_tokens", 0)
    return Usage(
        input_tokens=counts.get("input_tokens", 0) + cached + counts.get("cache_creation_input_tokens", 0),
        output_tokens=counts.get("output_tokens", 0),
        cached_tokens=cached,
        reasoning_tokens=counts.get("thinking_tokens", 0),
        source=source,
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
