"""Whether words that a server says are the client's own.  Who may be judged by words is decided in `attempt`, by which in `outcome`.

A server's error often repeats a part of the request: a name, an argument, the beginning of the prompt.  Who could put words into a server's
mouth could put the server out of service for everybody.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator

from nexus.outcome import Words

MOST_BYTES = 8 * 1024 * 1024  # of a request that is looked through; the words that answer a larger one do not count
WINDOW = 128 * 1024  # between two of them others have their turn
_OVERLAP = 2048
_LONGEST, _SHORTEST = 300, 5  # letters of a value that is compared
_TELLING = (
    12  # a single word that is shorter stands in many requests: it counts only at an end of the server's words, and not as a key
)
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_SPACES = frozenset("nrtfb")
_VALUE = re.compile(rf'(?<=")(?:[^"\\]|\\.){{2,{_LONGEST}}}(?="(\s*:)?)', re.DOTALL)


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
        if needle and needle in _plain(window):
            return True
        if any(_covers(value[0], words, key=bool(value[1])) for value in _VALUE.finditer(window)):
            return True
    return False


def _windows(texts: tuple[bytes, ...]) -> Iterator[str]:
    for text in texts:
        for at in range(0, len(text), WINDOW):
            yield text[max(at - _OVERLAP, 0) : at + WINDOW].decode("utf-8", "replace")


def _covers(value: str, words: Words, *, key: bool) -> bool:
    """Whether a value of the request stands in the sentence where the rule's own words are."""
    value = _plain(value)
    telling = len(value) >= _TELLING or " " in value
    if len(value) < _SHORTEST or (key and not telling):
        return False
    at = words.said.find(value)
    while at >= 0:
        last = at + len(value)
        if any(at < end and start < last and (telling or at <= start or end <= last) for start, end in words.spans):
            return True
        at = words.said.find(value, at + 1)
    return False


def _plain(text: str) -> str:
    """As sentences are compared: without escapes, in small letters, with single blanks."""
    if "\\" in text:
        text = _ESCAPE.sub(_unescaped, text)
    return " ".join(text.lower().split())


def _unescaped(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(int(escape[1], 16))
    return " " if escape[2] in _SPACES else escape[2]
