"""Why a message ended, and what kind of error one is, in Anthropic's words and in the canonical ones."""

from __future__ import annotations

from typing import Any

from nexus.dialects.canonical import FailureKind, FinishReason

_REASONS = {
    "end_turn": FinishReason.STOP,
    "pause_turn": FinishReason.STOP,  # a tool of Anthropic's own takes long; nobody else can go on with it
    "max_tokens": FinishReason.LENGTH,
    "length": FinishReason.LENGTH,  # servers that speak several dialects mix their words
    "tool_calls": FinishReason.TOOL_CALLS,
    "content_filter": FinishReason.CONTENT_FILTER,
    "model_context_window_exceeded": FinishReason.LENGTH,
    "tool_use": FinishReason.TOOL_CALLS,
    "stop_sequence": FinishReason.STOP_SEQUENCE,
    "refusal": FinishReason.CONTENT_FILTER,
}
KINDS = {
    "invalid_request_error": FailureKind.INVALID_REQUEST,
    "authentication_error": FailureKind.AUTHENTICATION,
    "billing_error": FailureKind.PERMISSION,
    "permission_error": FailureKind.PERMISSION,
    "not_found_error": FailureKind.NOT_FOUND,
    "request_too_large": FailureKind.TOO_LARGE,
    "rate_limit_error": FailureKind.RATE_LIMIT,
    "overloaded_error": FailureKind.OVERLOADED,
    "timeout_error": FailureKind.TIMEOUT,
}
"""An error's `type` in Anthropic's API reference; `api_error` is any other."""
_WORDS = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.STOP_SEQUENCE: "stop_sequence",
    FinishReason.CONTENT_FILTER: "refusal",
}


def finish_of(stop_reason: Any) -> FinishReason | None:
    """None where nothing was said; a word that nobody knows is an end like any other."""
    if not isinstance(stop_reason, str) or not stop_reason:
        return None
    return _REASONS.get(stop_reason, FinishReason.STOP)


def stop_reason(finish: FinishReason | None, *, called: bool) -> str:
    """The `stop_reason`.  Clients run tools where it says so, and only there: it follows what was really called."""
    if called and finish in (None, FinishReason.STOP, FinishReason.STOP_SEQUENCE):
        finish = FinishReason.TOOL_CALLS
    if not called and finish is FinishReason.TOOL_CALLS:
        finish = FinishReason.STOP
    return _WORDS[finish or FinishReason.STOP]
