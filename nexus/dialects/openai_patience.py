"""Chunks that are not quite in OpenAI's form, put into it.  What a chunk says is read in `openai_stream`."""

from __future__ import annotations

from typing import Any


def patient(chunk: Any) -> Any:
    """The chunk with ids as texts and places as numbers, where a server wrote the other, and without choices, deltas and calls that
    are none.

    It is changed in place.  What else is wrong with it stays so.
    """
    for choice in _dicts(chunk, "choices"):
        _place(choice)
        for name in ("delta", "message"):
            delta = choice.get(name)
            if not isinstance(delta, dict):
                choice[name] = None
            elif not isinstance(delta.get("function_call"), dict):
                delta["function_call"] = None
            for call in _dicts(delta, "tool_calls"):
                _place(call)
                _id(call)
                if not isinstance(call.get("function"), dict):
                    call["function"] = None
    return chunk


def _place(value: dict[str, Any]) -> None:
    index = value.get("index")
    if isinstance(index, str) and index.isdecimal() and len(index) < 10:
        value["index"] = int(index)
    elif type(index) is not int:
        value["index"] = None


def _id(call: dict[str, Any]) -> None:
    id = call.get("id")
    if not isinstance(id, str):
        call["id"] = str(id) if type(id) is int else None


def _dicts(value: Any, key: str) -> list[dict[str, Any]]:
    """The objects in the list that a member is, which holds nothing else from now on."""
    inner = value.get(key) if isinstance(value, dict) else None
    if not isinstance(inner, list):
        return []
    objects = [each for each in inner if isinstance(each, dict)]
    value[key] = objects
    return objects
