"""What a message is made of, asked or answered: words, pictures, files, calls of tools and thinking.  Requests are in `request`."""

from __future__ import annotations

import os

import attrs


@attrs.frozen(kw_only=True)
class Text:
    """Words; readers make none that are empty.  `cache` marks the end of a prefix worth keeping, by how long ("5m", "1h"); None is no mark.
    `refusal`: a model says that it will not answer, apart from what it answers; a dialect without a place for that writes words.
    """

    text: str
    cache: str | None = None
    refusal: bool = False


@attrs.frozen(kw_only=True)
class Image:
    """A picture: either `url`, or `data` in base64 with its `media_type` (`image/png`).  `detail` is low, high or auto."""

    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    detail: str | None = None
    cache: str | None = None


@attrs.frozen(kw_only=True)
class Document:
    """A file to read: `url`, or `data` in base64 with its `media_type` (`application/pdf`), or plain `text`."""

    name: str | None = None
    url: str | None = None
    data: str | None = None
    media_type: str | None = None
    text: str | None = None
    cache: str | None = None


@attrs.frozen(kw_only=True)
class ToolCall:
    """The model calls a tool.  `arguments` is JSON text as the model wrote it: it may be empty, or no JSON at all."""

    id: str
    name: str
    arguments: str = ""
    cache: str | None = None


@attrs.frozen(kw_only=True)
class ToolResult:
    """What the call `call_id` gave back."""

    call_id: str
    parts: tuple[Text | Image | Document, ...] = ()
    is_error: bool = False
    cache: str | None = None


@attrs.frozen(kw_only=True)
class Reasoning:
    """What the model thought.  `signature` proves it to who made it; `redacted` is thinking that only its maker can read."""

    text: str = ""
    signature: str | None = None
    redacted: str | None = None


Part = Text | Image | Document | ToolCall | ToolResult | Reasoning


def made_id() -> str:
    """What stands for one thing and no other, anywhere: 24 random letters and digits."""
    return os.urandom(12).hex()


def made_call_id() -> str:
    """An id for a tool call that came without one.  Random: the same conversation may hold calls of many turns."""
    return f"call_{made_id()}"
