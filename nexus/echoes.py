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
WINDOW = 32 * 1024  # between two of them others have their turn
_OVERLAP = 1024
_LONGEST = 300  # letters of a value that is compared
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})")


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
        text = _plain(window)
        if (needle and needle in text.replace('\\"', '"')) or _in_a_value(text, words):
            return True
    return False


def _windows(texts: tuple[bytes, ...]) -> Iterator[str]:
    for text in texts:
        for at in range(0, len(text), WINDOW):
            yield text[max(at - _OVERLAP, 0) : at + WINDOW].decode("utf-8", "replace")


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


def _plain(text: str) -> str:
    """As sentences are compared: without escapes (but for that of a quote), in small letters, with single blanks."""
    if "\\" in text:
        text = _ESCAPED.sub(lambda escape: chr(int(escape[1], 16)), text)
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")  # pairs are one character again
        for escape, plain in (("\\n", " "), ("\\r", " "), ("\\t", " "), ("\\/", "/")):
            text = text.replace(escape, plain)
    return " ".join(text.lower().split())
