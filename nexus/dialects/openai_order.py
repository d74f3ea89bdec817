"""Thinking, words and calls have a place of their own each in OpenAI's messages: that is their order, whatever it was before."""

from __future__ import annotations

from collections.abc import Iterable

from nexus.dialects.canonical import Part, Reasoning, ToolCall


def in_order(parts: Iterable[Part]) -> list[Part]:
    """The parts of a turn of the model's, in the order in which they are read again."""
    return sorted(parts, key=_place)


def _place(part: Part) -> int:
    return 0 if isinstance(part, Reasoning) else 2 if isinstance(part, ToolCall) else 1
