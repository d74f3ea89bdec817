"""Chunks that are not quite in OpenAI's form, put into it.  What a chunk says is read in `openai_stream`."""

from __future__ import annotations

from typing import Any


def patient(chunk: Any) -> Any:
    """The chunk with ids as texts and places as numbers, where a server wrote the other, and without the calls that are none.

    It is changed in place.  What else is wrong with it stays so.
    """
    for choice in _dicts(chunk, "choices"):
        _place(choice)
        delta = choice.get("delta")
        calls = _dicts(delta, "tool_calls")
        if isinstance(delta, dict) and isinstance(delta.get("tool_calls"), list):
            delta["tool_calls"] = calls
        for call in calls:
            _place(call)
            if type(call.get("id")) is int:
                call["id"] = str(call["id"])
    return chunk


def _place(value: dict[str, Any]) -> None:
    index = value.get("index")
    if isinstance(index, str) and index.isdecimal():
        value["index"] = int(index)


def _dicts(value: Any, key: str) -> list[dict[str, Any]]:
    inner = value.get(key) if isinstance(value, dict) else None
    return [each for each in inner if isinstance(each, dict)] if isinstance(inner, list) else []
