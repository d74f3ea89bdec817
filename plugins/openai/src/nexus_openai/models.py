"""An OpenAI model list, as the many servers that answer one extend it, into `Model` values.  No I/O.

Only `id` is certain.  What a server adds is taken where its meaning is plain, and everything else is unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.api import Model, State
from nexus.backends import count_of, objects, within, words_of
from nexus.model import CHAT, COMPLETION, EMBEDDING, JSON_SCHEMA, TOOLS, VISION

SPEAKS = frozenset({("openai", "chat"), ("openai", "completion"), ("openai", "embedding")})

# Where a server says the tokens it serves now (vLLM and SGLang, LM Studio, llama.cpp), and where only what the model can do.
SERVED = (("max_model_len",), ("loaded_context_length",), ("meta", "n_ctx"), ("n_ctx",))
AT_MOST = (
    ("max_context_length",),
    ("context_length",),
    ("context_window",),
    ("max_input_tokens",),
    ("meta", "n_ctx_train"),
)
# The most that one answer may be (LiteLLM; Groq; OpenRouter).
WRITTEN = (("max_output_tokens",), ("max_completion_tokens",), ("top_provider", "max_completion_tokens"))

# Words of `capabilities` (a list, or an object of yes and no), `supported_parameters` and `mode`.
WORDS = {
    "chat": CHAT,
    "completion_chat": CHAT,
    "completion": COMPLETION,
    "completions": COMPLETION,
    "embedding": EMBEDDING,
    "embeddings": EMBEDDING,
    "vision": VISION,
    "image_input": VISION,
    "multimodal": VISION,
    "tools": TOOLS,
    "tool_use": TOOLS,
    "tool_calling": TOOLS,
    "function_calling": TOOLS,
    "trained_for_tool_use": TOOLS,
    "json_schema": JSON_SCHEMA,
    "structured_outputs": JSON_SCHEMA,
}

_NOT_TEXT: Mapping[str, bool] = {CHAT: False, COMPLETION: False, EMBEDDING: False}
_EMBEDS: Mapping[str, bool] = {CHAT: False, COMPLETION: False, EMBEDDING: True}
# Words of `type` (LM Studio, Together) and of `mode` (LiteLLM).
TYPES: Mapping[str, Mapping[str, bool]] = {
    "llm": {CHAT: True, EMBEDDING: False},
    "vlm": {CHAT: True, EMBEDDING: False, VISION: True},
    "chat": {CHAT: True, EMBEDDING: False},
    "language": {COMPLETION: True, EMBEDDING: False},
    "completion": {COMPLETION: True, EMBEDDING: False},
    "embedding": _EMBEDS,
    "embeddings": _EMBEDS,
    "text-embedding": _EMBEDS,
} | dict.fromkeys(
    (
        "rerank",
        "reranker",
        "moderation",
        "image",
        "image_generation",
        "audio",
        "tts",
        "stt",
        "transcription",
        "audio_transcription",
        "audio_speech",
    ),
    _NOT_TEXT,
)

STATES = {"loaded": State.READY, "not-loaded": State.ASLEEP, "loading": State.LOADING}


def parse(answer: Any, *, takes_usage: bool = False) -> tuple[Model, ...]:
    """The models of a list, each id once.  Raises BackendError("malformed") for what is no model list."""
    found = {entry["id"]: entry for entry in objects(answer, "data") if isinstance(entry.get("id"), str) and entry["id"]}
    return tuple(_model(entry, takes_usage) for entry in found.values())


def _model(entry: Mapping[str, Any], takes_usage: bool) -> Model:
    aliases = entry.get("aliases") or within(entry, "meta", "llamaswap", "aliases")
    return Model(
        id=entry["id"],
        aliases=tuple(a for a in aliases if isinstance(a, str) and a and a != entry["id"]) if isinstance(aliases, list) else (),
        offers=offers_of(entry),
        context=_first(entry, SERVED),
        context_max=_first(entry, AT_MOST),
        max_output_tokens=_first(entry, WRITTEN),
        state=STATES.get(str(entry.get("state")), State.UNKNOWN),
        speaks=SPEAKS,
        takes_usage=takes_usage,
    )


def _first(entry: Mapping[str, Any], places: tuple[tuple[str, ...], ...]) -> int | None:
    return next((count for place in places if (count := count_of(within(entry, *place)))), None)


def offers_of(entry: Mapping[str, Any]) -> dict[str, bool]:
    """What an entry says the model can and cannot do.  A list of capabilities only ever says yes: what it leaves out may be
    missing because the server's authors did not think of it."""
    offers = dict(TYPES.get(str(entry.get("type") or entry.get("mode")).lower(), {}))
    modalities = words_of(within(entry, "architecture", "input_modalities")) or words_of(entry.get("input_modalities"))
    if modalities:
        offers[VISION] = "image" in modalities
    for word in words_of(entry.get("supported_parameters")) or ():
        if word in ("tools", "structured_outputs"):
            offers[WORDS[word]] = True
    offers |= _capabilities(entry.get("capabilities"))
    if offers.get(EMBEDDING) and not offers.get(CHAT):
        offers |= _EMBEDS
    return offers


def _capabilities(said: Any) -> dict[str, bool]:
    if isinstance(said, dict):
        return {WORDS[word]: value for word, value in said.items() if word in WORDS and isinstance(value, bool)}
    return {WORDS[word]: True for word in words_of(said) or () if word in WORDS}
