"""Base64 in a body of JSON: pictures, files, sound, signatures.  Found by its looks without decoding anything, and left out.

It is most of a large body, and no words: neither an estimate nor a decoder wants it.  Whatever its part is called, it stands alone in
a string that is a member, and not under a name by which words go.  In a text it is words to the model, too.
"""

from __future__ import annotations

import io
import re
import secrets
from collections.abc import Iterable, Iterator

LEAST = 1024  # letters: what is shorter is left where it is
_HEAD = re.compile(rb'(?:data:(?:[^,"\\]|\\/){0,256},)?')
_LETTERS = re.compile(rb"(?:[A-Za-z0-9+/=_-]|\\[/nr]){%d}" % LEAST)
_KEY = re.compile(rb'(?<!\\)"([A-Za-z0-9_.-]{1,64})"\s{0,8}:\s{0,8}"\Z')
_TEXT = re.compile(rb"text\\?/")
_LONGEST_KEY = 96
_LONGEST_SOURCE = 512
_AT_ONCE = 1024 * 1024
_WORDS = frozenset(
    {
        b"arguments", b"content", b"context", b"description", b"input", b"instructions", b"model", b"name", b"output", b"prompt",
        b"query", b"reasoning", b"reasoning_content", b"refusal", b"suffix", b"summary", b"system", b"text", b"thinking", b"title",
    }
)  # fmt: skip
Span = tuple[int, int]


def spans(body: bytes, kept: int = 0) -> Iterator[Span]:
    """Where base64 stands, without its media type and the first `kept` of its letters."""
    for start, end in _long(body):
        head = _HEAD.match(body, start)
        start_of_letters = head.end() if head else start
        if _LETTERS.match(body, start_of_letters, end) and _is_no_word(body, start):
            yield start_of_letters + kept, end


def without(body: bytes) -> bytes:
    """The body without its base64; the media types stay.  Where there is none, it is the same object."""
    if len(body) <= LEAST:
        return body
    whole, pieces, at = memoryview(body), [], 0
    for start, end in spans(body):
        pieces.append(whole[at:start])
        at = end
    return _joined([*pieces, whole[at:]]) if pieces else body


class Luggage:
    """A body whose base64 stays behind while it is put into other words: `body` has a mark in its place.

    The first letters stay, by which some tell what it is.  What an escape stands in stays as a whole, for at another depth it is
    written in another way, and so does a text, which some put among the words.
    """

    FIRST = 64

    def __init__(self, body: bytes) -> None:
        self._whole = body
        self._spans = [span for span in spans(body, self.FIRST) if body.find(b"\\", *span) < 0 and not _is_text(body, *span)]
        self._mark = b"nexus-%s-" % secrets.token_hex(16).encode()
        self.body = body if not self._spans else self._marked()

    def _marked(self) -> bytes:
        pieces: list[bytes | memoryview] = []
        whole, at = memoryview(self._whole), 0
        for number, (start, end) in enumerate(self._spans):
            pieces += [whole[at:start], b"%b%08d" % (self._mark, number)]
            at = end
        return _joined([*pieces, whole[at:]])

    def unpacked(self, body: bytes) -> bytes:
        """Another body, with the base64 where the marks are."""
        if not self._spans:
            return body
        pieces: list[bytes | memoryview] = []
        whole, at = memoryview(self._whole), 0
        while (found := body.find(self._mark, at)) >= 0:
            after = found + len(self._mark) + 8
            start, end = self._spans[int(body[after - 8 : after])]
            pieces += [memoryview(body)[at:found], whole[start:end]]
            at = after
        return _joined([*pieces, memoryview(body)[at:]])


def _long(body: bytes) -> Iterator[Span]:
    """Runs of at least LEAST bytes between two quotes.  A text is passed over in steps of nearly as many."""
    at, size = 0, len(body)
    while at + LEAST < size:
        last = body.rfind(b'"', at, at + LEAST)
        if last >= 0:
            at = last + 1
            continue
        end = body.find(b'"', at + LEAST)
        if end < 0:
            return
        if at:
            yield at, end
        at = end + 1


def _joined(pieces: Iterable[bytes | memoryview]) -> bytes:
    """All in one, a little at a time: to get so much memory from the system takes longer than to copy into it."""
    whole = io.BytesIO()
    for piece in pieces:
        for at in range(0, len(piece), _AT_ONCE):
            whole.write(piece[at : at + _AT_ONCE])
    return whole.getvalue()


def _is_text(body: bytes, start: int, end: int) -> bool:
    """Whether what stands around it says that it is one."""
    around = (max(0, start - _LONGEST_SOURCE), start), (end, end + _LONGEST_SOURCE)
    return any(_TEXT.search(body, *place) for place in around)


def _is_no_word(body: bytes, start: int) -> bool:
    key = _KEY.search(body[max(0, start - _LONGEST_KEY) : start])
    return key is not None and key[1] not in _WORDS
