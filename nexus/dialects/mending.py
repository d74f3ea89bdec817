"""What a server's rejection of a client's own bytes teaches, and the turns of a chat that some servers do not take.

A request in the server's dialect passes as the client wrote it.  Where the server says that it does not take what many clients send (a
system message in the middle, thinking of another model), it is asked once more without.  Which members of a body those are is for the
dialect to know (`Dialect.mended`).
"""

from __future__ import annotations

import re
from typing import Any

import attrs

from nexus.dialects.jsontext import loads
from nexus.model import Accepts

REMINDER = "<system-reminder>\n{}\n</system-reminder>"
"""How coding agents have always marked words of the system's within a turn of the user's."""

# What templates of models say by `raise_exception`, and servers of the roles they take: Qwen ("System message must be at the
# beginning."), Mistral ("Conversation roles must alternate …"), Gemma ("System role not supported"), llama.cpp ("Unable to generate
# parser for this template … raise_exception(…)"), LM Studio ("Error rendering prompt with jinja template").
_SYSTEM = re.compile(
    r"system (message|role|prompt)|roles? must alternate|(unexpected|unknown|unsupported|invalid) (message )?role|role '?\w+'? (is )?not supported"
    r"|raise_exception|jinja",
    re.IGNORECASE,
)
# Anthropic ("Invalid `signature` in `thinking` block"), OpenAI and its kin ("… 'reasoning_content' was unexpected")
_THINKING = re.compile(
    r"\bsignature\b.*thinking|thinking.*\bsignature\b|redacted_thinking|reasoning(_content|_details)?\b.*(unexpected|unknown|unrecognized|unsupported|not (permitted|allowed|supported))",
    re.IGNORECASE,
)


def turns_of(body: bytes) -> tuple[dict[str, Any], list[dict[str, Any]]] | None:
    """The body and its messages, where those are objects in a list; None for anything else, which is for the server to refuse."""
    try:
        value = loads(body)
    except ValueError:
        return None
    turns = value.get("messages") if isinstance(value, dict) else None
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return None
    return value, turns


def learnt(said: str, accepts: Accepts) -> Accepts:
    """What the server takes, now that it has said this of a request; `accepts` itself where that teaches nothing."""
    if accepts.late_system is not False and _SYSTEM.search(said):
        return attrs.evolve(accepts, late_system=False)
    if accepts.thinking != "none" and _THINKING.search(said):
        return attrs.evolve(accepts, thinking="none")
    return accepts
