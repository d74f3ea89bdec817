"""A small request for a chat as most clients write it, read in one go.  What is odd about one, and what is wrong, is for `openai`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from nexus.api import Facts
from nexus.dialects.base64s import without
from nexus.dialects.fields import LARGE, MAX_MODEL_NAME, MAX_WHOLE, may_be_twice, token_bounds
from nexus.model.quick import maker

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_MODEL_NAME)]
_Whole = Annotated[int, Meta(ge=0, le=MAX_WHOLE)]
_NULL = Raw(b"null")
_facts = maker(Facts)


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Chat(msgspec.Struct, forbid_unknown_fields=True):
    """What Nexus reads, where a look at its type is enough; then what it does not, but meets often."""

    model: _Name
    messages: Raw
    stream: bool | UnsetType | None = UNSET
    stream_options: _StreamOptions | None = None
    max_tokens: _Whole | None = None
    max_completion_tokens: _Whole | None = None
    n: _Whole | None = None
    temperature: Raw = _NULL
    top_p: Raw = _NULL
    stop: Raw = _NULL
    seed: Raw = _NULL
    user: Raw = _NULL
    presence_penalty: Raw = _NULL
    frequency_penalty: Raw = _NULL


_chat = msgspec.json.Decoder(_Chat)


def usual_facts(body: bytes) -> Facts | None:
    """The facts of a body that needs no closer look; None for any other."""
    if len(body) >= LARGE or not body.isascii() or b'"image_url"' in body or b'"input_audio"' in body or without(body) is not body:
        return None
    try:
        chat = _chat.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
    messages = memoryview(chat.messages)
    if messages[0] != ord("[") or not chat.model.isascii() or may_be_twice(body, "model"):
        return None
    if chat.stream is not UNSET and may_be_twice(body, "stream"):
        return None
    low, high = token_bounds(messages.nbytes)
    return _facts(
        model=chat.model,
        stream=chat.stream is True,
        tokens_low=low,
        tokens_high=high,
        max_output_tokens=chat.max_completion_tokens or chat.max_tokens,
        n=chat.n or 1,
        wants_usage=chat.stream_options is not None and chat.stream_options.include_usage is True,
    )
