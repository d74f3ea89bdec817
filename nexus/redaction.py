"""Secrets taken out of what a server says, however it spells them.  Whose secrets, and what is said, is for the caller to know."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache
from html.entities import html5

from nexus.api import Secret

MASK = b"***"
_ENTITIES = {
    letter: [name for name, text in html5.items() if text == letter and name[-1] == ";"] for letter in map(chr, range(128))
}
_LEAST_ENCODED = 6  # bytes; in base64, what is shorter is found in any text


def redacted(data: bytes, secrets: Iterable[Secret]) -> bytes:
    """The bytes without these secrets: as they are, with escapes of JSON (also of JSON within JSON), HTML or URLs for any of their
    letters, in another case, or within base64."""
    for secret in secrets:
        text = secret.reveal().encode("utf-8", "surrogatepass")
        if len(data) >= len(text) > 0:
            spelt, encoded = _spellings(text)
            data = spelt.sub(MASK, data)
            for each in encoded:
                data = data.replace(each, MASK)
    return data


def redacted_text(text: str, secrets: Iterable[Secret]) -> str:
    """As `redacted`, for text."""
    known = [secret for secret in secrets if len(secret.reveal()) <= len(text)]
    return redacted(text.encode("utf-8", "surrogatepass"), known).decode("utf-8", "surrogatepass") if known else text


@lru_cache(maxsize=256)
def _spellings(secret: bytes) -> tuple[re.Pattern[bytes], tuple[bytes, ...]]:
    return re.compile(b"".join(map(_spelt, secret))), tuple(_encoded(secret)) if len(secret) >= _LEAST_ENCODED else ()


def _spelt(letter: int) -> bytes:
    """One letter, in all ways; HTML's also where its & is escaped again.  Each way begins with a letter of its own, which lets the
    search skip all others; backslashes are counted only so far that a wall of them costs no more than other text."""
    plain, digits = bytes([letter]), b"".join(_either(digit) for digit in b"%02x" % letter)
    ways = [re.escape(way) for way in sorted({plain, plain.lower(), plain.upper()})]
    if not plain.isalnum():
        ways.append(rb"\\\\{0,3}" + re.escape(plain))
    ways += [
        rb"\\\\{0,3}u00" + digits,
        rb"\\\\{0,3}x" + digits,
        rb"%(?:25){0,2}" + digits,
        b"&(?:amp;){0,2}" + _entity(letter, digits),
        rb"\\\\{0,3}u0026(?:amp;){0,2}" + _entity(letter, digits),
    ]
    return b"(?:%b)" % b"|".join(ways)


def _entity(letter: int, digits: bytes) -> bytes:
    """What follows the & in HTML: a number, whose semicolon may be missing, or a name."""
    names = [name.encode() for name in _ENTITIES.get(chr(letter), ())]
    return b"(?:%b)" % b"|".join([b"#(?:0{0,8}%d|[xX]0{0,8}%b);?" % (letter, digits), *names])


def _either(digit: int) -> bytes:
    text = bytes([digit])
    return text if text.isdigit() else b"[%b%b]" % (text, text.upper())


def _encoded(secret: bytes) -> set[bytes]:
    """What of its base64 is the same whatever stands around it, for each place at which it may begin."""
    return {
        encode(b"\0" * before + secret)[(before * 8 + 5) // 6 : (before + len(secret)) * 8 // 6]
        for before in range(3)
        for encode in (b64encode, urlsafe_b64encode)
    }
