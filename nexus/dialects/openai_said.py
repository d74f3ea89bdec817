"""The content of a message in an OpenAI answer, or of a delta in its stream: words, refusals and thinking, in their order.

Servers of the kind write more than OpenAI does: thinking as a part (Mistral), sources, pictures.  What has no place is named.
Requests are read in `openai_content`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import attrs

from nexus.dialects.canonical import Lost, Reasoning, Text
from nexus.dialects.openai_content import words_in
from nexus.dialects.unread import is_nothing

_READ = frozenset({"type", "text", "refusal", "thinking", "reasoning", "summary", "content", "closed", "index"})


def parts_of(content: Any, lost: Lost) -> list[Text | Reasoning]:
    """What a `content` says, neighbours of one kind joined.  "" and null say nothing."""
    if isinstance(content, str):
        return [Text(text=content)] if content else []
    if content is None:
        return []
    return _joined(part for each in (content if isinstance(content, list) else [content]) for part in _read(each, lost))


def said_in(content: Any, refusal: Any, thoughts: Iterable[Any], lost: Lost) -> list[Text | Reasoning]:
    """All that a message says beside its calls, in the order in which it is read.  `thoughts` are the members for thinking, of which the
    first that says something counts, where the content itself holds none: servers repeat it under several names."""
    parts = parts_of(content, lost)
    if not any(isinstance(part, Reasoning) for part in parts) and (thought := thought_in(*thoughts)):
        parts.insert(0, Reasoning(text=thought))
    return parts + [attrs.evolve(part, refusal=True) if isinstance(part, Text) else part for part in parts_of(refusal, lost)]


def thought_in(*said: Any) -> str:
    """The thinking in the first member that holds any, as text or in parts."""
    return next((thought for each in said if (thought := each if isinstance(each, str) else "".join(words_in(each)))), "")


def _read(part: Any, lost: Lost) -> Iterator[Text | Reasoning]:
    if isinstance(part, str):
        part = {"text": part}
    kind = part.get("type", "text") if isinstance(part, dict) else None
    if kind in ("thinking", "reasoning"):
        yield from _thought(part, lost)
    elif kind == "refusal":
        yield from _words(part, "refusal", lost)
    elif kind in ("text", "output_text"):
        yield from _words(part, "text", lost)
    elif isinstance(kind, str):
        lost.field(kind)
    else:
        lost.add("content_part")


def _thought(part: Mapping[str, Any], lost: Lost) -> Iterator[Reasoning]:
    _name_the_rest(part, lost)
    if thought := "".join(words_in(part)):
        yield Reasoning(text=thought)


def _words(part: Mapping[str, Any], name: str, lost: Lost) -> Iterator[Text]:
    _name_the_rest(part, lost)
    words = part.get(name)
    if isinstance(words, str) and words:
        yield Text(text=words, refusal=name == "refusal")
    elif not is_nothing(words):
        lost.add("content_part")


def _name_the_rest(part: Mapping[str, Any], lost: Lost) -> None:
    for name, value in part.items():
        if name not in _READ and not is_nothing(value):
            lost.field(name)


def _joined(parts: Iterable[Text | Reasoning]) -> list[Text | Reasoning]:
    joined: list[Text | Reasoning] = []
    for _, run in itertools.groupby(parts, _kind):
        first, *more = run
        joined.append(attrs.evolve(first, text="".join([first.text, *(part.text for part in more)])) if more else first)
    return joined


def _kind(part: Text | Reasoning) -> tuple[type, bool]:
    return type(part), isinstance(part, Text) and part.refusal
