"""Whether words that a server says are the client's own.  Who may be judged by words is decided in `attempt`, by which in `outcome`.

A server's error often repeats a part of the request: a name, an argument, the beginning of the prompt.  Who could put words into a server's
mouth could put the server out of service for everybody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from html import unescape
from urllib.parse import unquote_plus

from nexus.outcome import Words

MOST_BYTES = 8 * 1024 * 1024  # of a request that is looked through; the words that answer a larger one do not count
WINDOW = 32 * 1024  # bytes between two of which others have their turn
_OVERLAP = 6000  # letters: a sentence of 500, each of them as two escapes within a string that is JSON again
_LONGEST = 300  # letters of a value that is compared
_ESCAPED = re.compile(r'\\(?:u([0-9a-fA-F]{4})|(["\\/bfnrt]))')
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
# the beginning of an escape, and the first of two that are one letter
_HALF = re.compile(rb"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?))?\Z")
_LONGEST_ESCAPE = 12


async def echoed(words: Words, texts: Iterable[bytes]) -> bool:
    """Whether the request, as `texts`, has the words too: as they stand, or in one of its values that covers a part of them."""
    texts = tuple(texts)
    if sum(map(len, texts)) > MOST_BYTES:
        return True
    start, end = words.spans[0][0] if words.spans else 0, words.spans[-1][1] if words.spans else 0
    needle = "" if words.whole else words.said[start:end].strip()
    for number, window in enumerate(_windows(texts)):
        if number:
            await asyncio.sleep(0)
        for text in _readings(window):
            if (needle and needle in text) or _in_a_value(text, words):
                return True
    return False


def _windows(texts: tuple[bytes, ...]) -> Iterator[str]:
    """Each with the end of the one before, as sentences are compared: blanks do not stretch what a window can hold."""
    for text in texts:
        before, at = "", 0
        while at < len(text):
            end = _end(text, at)
            read = before + _unescaped(text[at:end].decode("utf-8", "replace"))
            window = _plain(read)
            yield window
            before, at = window[-_OVERLAP:] + " " * read[-1:].isspace(), end


def _end(text: bytes, at: int) -> int:
    """Where the window ends that begins here: after a whole letter, however it is written."""
    end = at + WINDOW
    if end >= len(text):
        return len(text)
    while text[end] & 0xC0 == 0x80 and end > at + WINDOW - 3:
        end -= 1
    half = _HALF.search(text, end - _LONGEST_ESCAPE, end)
    while half:
        head = text[at : half.start()]
        if (len(head) - len(head.rstrip(b"\\"))) % 2 == 0:  # else its backslash is one that was escaped itself
            return half.start()
        half = _HALF.search(text, half.start() + 1, end)
    return end


def _readings(window: str) -> Iterator[str]:
    """The window, and what is JSON within its strings, as a tool's arguments are; what stands for letters in an address or a page."""
    yield window
    if "%" in window or "+" in window:
        yield _plain(unquote_plus(window))
    if "&" in window:
        yield _plain(unescape(window))
    if "\\" in window:
        yield _plain(_unescaped(window))


def _in_a_value(text: str, words: Words) -> bool:
    """Whether something between two quotes stands in the sentence where the rule's own words are.  Single words do not count: those of the
    API itself (`image`, `response_format`) are in every request, and in what servers say of it."""
    said = words.said
    for piece in text.split('"'):
        if " " in piece and len(piece) <= _LONGEST and " " in (value := piece.strip()) and value in said and _covers(value, words):
            return True
    return False


def _covers(value: str, words: Words) -> bool:
    at = words.said.find(value)
    while at >= 0:
        if any(at < end and start < at + len(value) for start, end in words.spans):
            return True
        at = words.said.find(value, at + 1)
    return False


def _unescaped(text: str) -> str:
    """As JSON reads it."""
    if "\\" not in text:
        return text
    text = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)) if escape[1] else _LETTERS.get(escape[2], escape[2]), text)
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # pairs are one character again


def _plain(text: str) -> str:
    """As `outcome` reads the sentence: in small letters, with single blanks."""
    return " ".join(text.lower().split())
