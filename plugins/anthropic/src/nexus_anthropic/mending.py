"""A message request in Anthropic's own form for servers that do not take all of it: system messages among the turns, thinking that they
did not sign.

Everything else stays as the client wrote it, fields that nobody knows included.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

from nexus.api import Accepts
from nexus.dialects.canonical import Losses, Lost
from nexus.dialects.jsontext import dumps
from nexus.dialects.mending import REMINDER, turns_of

_THOUGHT = re.compile(rb'"type"\s*:\s*"(?:redacted_)?thinking"')
_SYSTEM = re.compile(rb'"role"\s*:\s*"system"')
_CLEARS = "clear_thinking"  # the kind of an edit that goes with thinking alone

Turn = dict[str, Any]


def mended(body: bytes, accepts: Accepts) -> tuple[bytes, Losses]:
    """The body, and what is not in it any more; the same object where nothing had to change."""
    late = accepts.late_system is False and _SYSTEM.search(body) is not None
    thinks = accepts.thinking != "any" and _THOUGHT.search(body) is not None
    if not late and not thinks:
        return body, ()
    if (found := turns_of(body)) is None:
        return body, ()
    value, turns = found
    lost = Lost()
    if thinks:
        value = _thoughtless(value, turns, lost, signed=accepts.thinking == "signed")
    if late and any(turn.get("role") == "system" for turn in value["messages"]):
        value = _folded(value)
        lost.add("system_role")
    return (dumps(value), lost.all) if lost.all else (body, ())


# ---------------------------------------------------------------- thinking


def _thoughtless(value: Turn, turns: list[Turn], lost: Lost, *, signed: bool) -> Turn:
    """Without thinking that the server did not sign, or without any.  A turn that was nothing else goes, and a model that must begin its
    turn with thinking, and did not, is not told to think."""
    kept = [made for turn in turns if (made := _without(turn, signed=signed)) is not None]
    if kept == turns:
        return value
    lost.add("thinking")
    value = {**value, "messages": kept}
    if _type_of(value.get("thinking")) == "enabled" and _goes_on_unthought(kept):
        del value["thinking"]
        if isinstance(management := value.get("context_management"), dict) and isinstance(management.get("edits"), list):
            edits = [edit for edit in management["edits"] if not str(_type_of(edit)).startswith(_CLEARS)]
            value["context_management"] = {**management, "edits": edits}
    return value


def _without(turn: Turn, *, signed: bool) -> Turn | None:
    content = turn.get("content")
    if turn.get("role") != "assistant" or not isinstance(content, list):
        return turn
    kept = [block for block in content if not _is_refused(block, signed=signed)]
    if len(kept) == len(content):
        return turn
    return {**turn, "content": kept} if kept else None


def _is_refused(block: Any, *, signed: bool) -> bool:
    kind = _type_of(block)
    if kind not in ("thinking", "redacted_thinking"):
        return False
    proof = block.get("signature" if kind == "thinking" else "data")
    return not signed or not isinstance(proof, str) or not proof.strip()


def _goes_on_unthought(turns: list[Turn]) -> bool:
    """Whether the last turn gives results to calls of a turn that does not begin with thinking."""
    last = next((turn for turn in reversed(turns) if turn.get("role") == "assistant"), None)
    content = last.get("content") if last else None
    if not isinstance(content, list) or not any(_type_of(block) == "tool_use" for block in content):
        return False
    return _type_of(content[0]) not in ("thinking", "redacted_thinking")


# ---------------------------------------------------------------- the system


def _folded(value: Turn) -> Turn:
    """The system on top; what stands further down is part of the user's turn beside it."""
    turns = value["messages"]
    top = next((at for at, turn in enumerate(turns) if turn.get("role") != "system"), len(turns))
    system = [block for said in (value.get("system"), *(turn.get("content") for turn in turns[:top])) for block in _blocks(said)]
    kept: list[Turn] = []
    for is_user, run in itertools.groupby(_reminding(turns[top:]), lambda turn: turn.get("role") == "user"):
        same = list(run)
        kept += [_one(same)] if is_user else same
    return {**value, "messages": kept, **({"system": system} if top else {})}


def _reminding(turns: Iterable[Turn]) -> Iterator[Turn]:
    """The turns below the top, none of them the system's."""
    for turn in turns:
        if turn.get("role") != "system":
            yield turn
        elif turn.get("content"):
            yield {"role": "user", "content": [_marked(block) for block in _blocks(turn["content"])]}


def _one(turns: list[Turn]) -> Turn:
    first, *more = turns
    if not more:
        return first
    blocks = [block for turn in turns for block in _blocks(turn.get("content"))]
    return {**first, "content": sorted(blocks, key=lambda block: _type_of(block) != "tool_result")}  # results stand first


def _marked(block: Any) -> Any:
    return (
        {**block, "text": REMINDER.format(block["text"])}
        if isinstance(block, dict) and isinstance(block.get("text"), str)
        else block
    )


def _blocks(content: Any) -> list[Any]:
    if isinstance(content, list):
        return content
    return [{"type": "text", "text": content}] if content else []


def _type_of(value: Any) -> Any:
    return value.get("type") if isinstance(value, dict) else None
