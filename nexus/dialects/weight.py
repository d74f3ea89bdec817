"""What JSON would cost to decode, told before it is: many small values take twenty to fifty times their bytes, and as long.

Everything here works on windows, so that no single call keeps the interpreter for long, and whoever runs it in a thread of its own
leaves the event loop free.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

import msgspec

from nexus.errors import BackendError

MOST_VALUES = 250_000  # objects, arrays and members of either that become Python's values at one time
MOST_OF_AN_EVENT = 100_000  # as many in one event of a stream, which are made into the canonical form and back in one go
MOST_PASSED = 2_000_000  # as many in a body that is only looked at
MOST_WORDS = 16 * 1024 * 1024  # bytes of a body beside the base64 in it
LARGE_BYTES = 1024 * 1024  # of JSON that is better read aside; to go there and back costs some hundredths of a millisecond
ESCAPED_BYTES = 256 * 1024  # the same, of JSON with escapes, which may take a look at each
FEW_BYTES = 32 * 1024  # in which not even a translation of the shortest messages takes long
MANY_VALUES = 4000  # a translation takes up to some hundredths of a millisecond for each
WINDOW = 64 * 1024
_LONGEST_ESCAPE = len(rb"\ud83d")
_SECOND = re.compile(rb"\\u[dD][c-fC-F]")  # of the two halves of a character
_LEVELS = 4
_CLOSED = re.compile(rb"[\[{][^\[\]{}]*+[\]}]")
_BRACKETS = re.compile(rb"([\[\]{}])")
_OPEN, _CLOSE = (b"{", b"["), (b"}", b"]")
_OPENS = (b",", b"{", b"[")


class TooMany(msgspec.DecodeError, ValueError):
    """The JSON holds more values than anybody wants to decode: whoever takes care of JSON that cannot be read takes care of this."""

    def __init__(self, most: int) -> None:
        super().__init__(f"more than {most:,} JSON values")


def is_much(data: bytes) -> bool:
    """Whether work on this JSON may keep the loop for long: it is large, or made of many values.  What only looks like values, in texts,
    counts too: to tell them apart takes longer than to go aside."""
    size = len(data)
    if size <= FEW_BYTES:
        return False
    return size >= LARGE_BYTES or (size >= ESCAPED_BYTES and b"\\" in data) or _at_most(data, MANY_VALUES) > MANY_VALUES


def weigh(data: bytes, most: int = MOST_VALUES) -> None:
    """Raises TooMany where there are more than `most` values: what opens an object or an array, and the commas outside of texts."""
    if len(data) > most and not is_light(data, most):
        raise TooMany(most)


def is_light(data: bytes, most: int = MOST_VALUES) -> bool:
    """Whether there are no more than `most` values, as `weigh` counts them."""
    if len(data) <= most:
        return True
    return _at_most(data, most) <= most or _counted(data, most) <= most


def windows(data: bytes) -> Iterator[bytes]:
    """The data in pieces, each of which ends between two characters of a text, however those are written."""
    at = 0
    while at < len(data):
        end = at + WINDOW
        escape = data.rfind(b"\\", end - _LONGEST_ESCAPE, end) if end < len(data) else -1
        if escape >= 0 and _is_odd(data, at, escape):  # it begins here
            end = escape + (_LONGEST_ESCAPE if _SECOND.match(data, escape) else 0)
        yield data[at:end]
        at = end


def _is_odd(data: bytes, start: int, last: int) -> bool:
    """Whether the run of backslashes up to `last` holds one that is not itself escaped."""
    run = data[start : last + 1]
    return (len(run) - len(run.rstrip(b"\\"))) % 2 == 1


def check_text(data: bytes) -> None:
    """Raises UnicodeDecodeError for what is no UTF-8."""
    if data.isascii():
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    for at in range(0, len(data), WINDOW):
        window = data[at : at + WINDOW]
        try:
            decoder.decode(window, at + WINDOW >= len(data))
        except UnicodeDecodeError as error:
            before = at + len(window) - len(error.object)  # an unfinished character of the window before is there, too
            raise UnicodeDecodeError(error.encoding, error.object, before + error.start, before + error.end, error.reason) from None


def check_events(events: Iterable[bytes]) -> None:
    """Raises BackendError (too_large) for more values than are looked at in one event of a stream."""
    for event in events:
        if len(event) > MOST_OF_AN_EVENT and not is_light(event, MOST_OF_AN_EVENT):
            raise BackendError("too_large", f"one event of the stream has more than {MOST_OF_AN_EVENT:,} JSON values")


def has_few_members(data: bytes, most: int) -> bool:
    """Whether an object has no more than `most` members of its own."""
    depth, commas = 0, 0
    for window in _outside(data):
        for _ in range(_LEVELS):  # what opens and closes in one window changes nothing, but must not be looked at piece by piece
            window = _CLOSED.sub(b"", window)
        for piece in _BRACKETS.split(window):
            if piece in _OPEN:
                depth += 1
            elif piece in _CLOSE:
                depth -= 1
            elif depth == 1:
                commas += piece.count(b",")
        if commas >= most:
            return False
    return True


def _at_most(data: bytes, enough: int) -> int:
    """An upper bound: commas and brackets inside of texts count, too.  It is no longer looked at from `enough` on."""
    found = 0
    for at in range(0, len(data), WINDOW):
        end = at + WINDOW
        # most of a large body is often one long word, where a search is ten times as quick as counting
        if any(data.find(mark, at, end) >= 0 for mark in _OPENS):
            found += sum(data.count(mark, at, end) for mark in _OPENS)
            if found > enough:
                break
    return found


def _counted(data: bytes, enough: int) -> int:
    found = 0
    for window in _outside(data):
        found += sum(window.count(mark) for mark in _OPENS)
        if found > enough:
            break
    return found


def _outside(data: bytes) -> Iterator[bytes]:
    """What of each window is outside of texts."""
    inside = 0
    for window in windows(data):
        if b"\\" in window:
            window = window.replace(rb"\\", b"").replace(rb"\"", b"")
        parts = window.split(b'"')
        yield b"".join(parts[inside::2])
        inside = (inside + len(parts) - 1) & 1
