"""Reading the beginning of a reply, or all of it, as far as the commit rule needs.  What it means is judged in `attempt`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import attrs

from nexus.api import Reader, Reply
from nexus.aside import aside
from nexus.dialects.complaints import Complaint, complaint_in_stream, complaint_of
from nexus.dialects.weight import ESCAPED_BYTES, FEW_BYTES, is_much
from nexus.errors import BackendError

MAX_ERROR_BYTES = 256 * 1024
AT_ONCE_BYTES, AT_ONCE_SECONDS = 8 * 1024, 0.005  # of a stream
SHORT_BYTES = 24  # of a line: events of such lines are so many that others must have their turns in between
ERROR_SECONDS = 2.0  # for an error's body: the next pair must not wait for the sentence of the last one
MAX_FIRST_EVENT_BYTES = 16 * 1024 * 1024


async def fed(reader: Reader, data: bytes, held: int) -> bytes:
    """What the reader gives for more of a stream, of which it holds back `held` bytes.  One large event is read aside; of very many small
    ones some at a time, so that others have their turns in between."""
    if held > ESCAPED_BYTES:
        return await aside(reader.feed, data)
    if len(data) <= AT_ONCE_BYTES or data.count(b"\n") * SHORT_BYTES < len(data):
        return reader.feed(data)
    ready = []
    since = time.monotonic()
    for at in range(0, len(data), AT_ONCE_BYTES):
        if reader.over:
            break
        ready.append(reader.feed(data[at : at + AT_ONCE_BYTES]))
        if time.monotonic() - since > AT_ONCE_SECONDS:
            await asyncio.sleep(0)
            since = time.monotonic()
    return b"".join(ready)


class ErrorAnswer(Exception):
    """What came with a 200 is an error."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(complaint.message)
        self.complaint = complaint


async def first_event(reply: Reply, reader: Reader, stream_type: str, late: Callable[[], bool]) -> tuple[bytes, bool]:
    """All up to the first complete event that carries data.  Raises ErrorAnswer where it is an error, BackendError where none comes."""
    kind = next((value for name, value in reply.headers if name == "content-type"), "")
    if stream_type not in kind.lower():
        if "json" in kind.lower() and _is_error(said := complaint_of(await some_body(reply))):
            raise ErrorAnswer(said)
        raise BackendError("malformed", f"answered a request for a stream with {kind or 'no content type'}", sent=True)
    _no_encoding(reply)
    head, pieces, size, held = b"", [], 0, 0
    while not reader.begun:
        data = b"" if reader.over else await reply.read()
        if not data:
            raise BackendError("no_answer", "the stream ended without an event", sent=True)
        size += len(data)
        if size <= MAX_ERROR_BYTES:
            pieces.append(data)
        ready = await fed(reader, data, held)
        held = 0 if ready else held + len(data)
        head += ready
        if not reader.begun and late():
            raise BackendError("answer_timeout", "sent signs of life and no event", sent=True)
        if len(head) > MAX_FIRST_EVENT_BYTES:
            raise BackendError("too_large", "no event within the first 16 MiB", sent=True)
    if reader.error is not None:
        raise _said(complaint_in_stream(b"".join(pieces), reader.error), reader.error)
    return head, False


async def whole_body(reply: Reply, reader: Reader | None, limit: int) -> tuple[bytes, bool]:
    """The body, as far as `limit`, and whether that is all.  What the reader keeps back is no part of it: a translated answer has no
    byte for the client before it is complete.  Raises ErrorAnswer where the reader finds that it is an error."""
    if reader is not None:
        _no_encoding(reply)
    pieces, raw, size, passed = [], [], 0, 0
    while data := await reply.read():
        piece = data if reader is None else reader.feed(data)
        pieces.append(piece)
        size += len(data)
        passed += len(piece)
        if size <= MAX_ERROR_BYTES:
            raw.append(data)
        if passed > limit:
            return b"".join(pieces), False
    if reader is not None:
        try:
            much = size > FEW_BYTES and (size > MAX_ERROR_BYTES or is_much(b"".join(raw)))
            rest = await aside(reader.finish) if much else reader.finish()
        except BackendError as error:
            if error.code != "error_event":
                raise
            raise _said(complaint_of(b"".join(raw)), error.hint) from None
        if rest:
            pieces.append(rest)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces), True


def _is_error(complaint: Complaint) -> bool:
    value = complaint.value
    return isinstance(value, dict) and bool(value.get("error") or value.get("type") == "error")


def _said(complaint: Complaint, told: str) -> ErrorAnswer:
    return ErrorAnswer(complaint if complaint.message else attrs.evolve(complaint, message=told))


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
    encoding = dict(reply.headers).get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise BackendError("malformed", f"answered with content encoding {encoding!r}, which was not asked for", sent=True)
