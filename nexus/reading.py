"""Reading the beginning of a reply, or all of it, as far as the commit rule needs.  What it means is judged in `attempt`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from nexus.api import Reader, Reply
from nexus.errors import BackendError

MAX_ERROR_BYTES = 256 * 1024
ERROR_SECONDS = 2.0  # for an error's body: the next pair must not wait for the sentence of the last one
MAX_FIRST_EVENT_BYTES = 16 * 1024 * 1024


async def first_event(reply: Reply, reader: Reader, stream_type: str, late: Callable[[], bool]) -> tuple[bytes, bool]:
    """All up to the first complete event that carries data.  Raises BackendError where it is an error or does not come in time."""
    kind = next((value for name, value in reply.headers if name == "content-type"), "")
    if stream_type not in kind.lower():
        raise BackendError("malformed", f"answered a request for a stream with {kind or 'no content type'}", sent=True)
    _no_encoding(reply)
    head = b""
    while not reader.begun:
        data = b"" if reader.over else await reply.read()
        if not data:
            raise BackendError("no_answer", "the stream ended without an event", sent=True)
        head += reader.feed(data)
        if not reader.begun and late():  # comments are bytes too, but nothing that a client could use
            raise BackendError("first_byte_timeout", "sent no event in time", sent=True)
        if len(head) > MAX_FIRST_EVENT_BYTES:
            raise BackendError("too_large", "no event within the first 16 MiB", sent=True)
    if reader.error is not None:
        raise BackendError("error_event", reader.error, sent=True)
    return head, False


async def whole_body(reply: Reply, reader: Reader | None, limit: int) -> tuple[bytes, bool]:
    """The body, as far as `limit`, and whether that is all."""
    if reader is not None:
        _no_encoding(reply)
    pieces, size = [], 0
    while data := await reply.read():
        pieces.append(reader.feed(data) if reader else data)
        size += len(data)
        if size > limit:
            return b"".join(pieces), False
    if reader is not None and (rest := reader.finish()):
        pieces.append(rest)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), True


async def some_body(reply: Reply) -> bytes:
    """The beginning of an error's body; an answer that breaks off, or does not go on, says what it has said."""
    body = b""
    try:
        async with asyncio.timeout(ERROR_SECONDS):
            while len(body) < MAX_ERROR_BYTES and (data := await reply.read()):
                body += data
    except (BackendError, TimeoutError):
        pass
    return body


def _no_encoding(reply: Reply) -> None:
    encoding = "identity"
    for name, value in reply.headers:
        if name == "content-encoding":
            encoding = value
    if encoding.lower() != "identity":
        raise BackendError("malformed", f"answered with content encoding {encoding!r}, which was not asked for", sent=True)
