"""The model list as Anthropic's API has it, in pages.  What the cloud's own list says is read in `backend`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from nexus.api import ModelEntry
from nexus.dialects.checks import bad

LARGEST_PAGE = 1000


def entry(model: ModelEntry) -> dict[str, Any]:
    """One model.  What it can do is an object in Anthropic's list, with keys of Anthropic's own: ours has another name."""
    return {
        "type": "model",
        "id": model.name,
        "display_name": model.name,
        "created_at": datetime.fromtimestamp(model.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "lifecycle": "active",
        "max_input_tokens": model.context,
        "context_length": model.context,
        "offers": list(model.capabilities),
        "backends": list(model.backends),
    }


def page(entries: Sequence[Mapping[str, Any]], query: Mapping[str, str]) -> dict[str, Any]:
    """The entries that `limit`, `after_id` and `before_id` ask for; without a limit as many as a page may have, since many clients
    ask for one page only.  Raises Problem (400)."""
    limit = _limit(query.get("limit"))
    left = list(entries)
    if before := query.get("before_id"):
        left = left[: _place(entries, before, "before_id")]
        data, more = left[-limit:], len(left) > limit
    else:
        if after := query.get("after_id"):
            left = left[_place(entries, after, "after_id") + 1 :]
        data, more = left[:limit], len(left) > limit
    ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
    return {"data": data, "has_more": more, **ends}


def _limit(said: str | None) -> int:
    if said is None:
        return LARGEST_PAGE
    if not (said.isascii() and said.isdecimal() and len(said) < 5 and 1 <= int(said) <= LARGEST_PAGE):
        raise bad(f"'limit' must be a whole number from 1 to {LARGEST_PAGE}", "limit")
    return int(said)


def _place(entries: Sequence[Mapping[str, Any]], id: str, name: str) -> int:
    for at, each in enumerate(entries):
        if each["id"] == id:
            return at
    raise bad(f"{name!r} names no model of this list: ask for it from its beginning", name)
