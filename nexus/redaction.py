"""Secrets taken out of what a server says, however it spells them.  Whose secrets, and what is said, is for the caller to know."""

from __future__ import annotations

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable
from functools import lru_cache

from nexus.api import Secret

MASK = b"***"
_LEAST_ENCODED = 6  # bytes; in base64 or hexadecimal, what is shorter is found in any text
_BREAK = rb"(?:[\r\n\t ]|\\\\{0,3}[rn])"  # within base64, where a line ends
_GAP = rb"(?:0x|[ :,\-])"  # between the bytes of a dump


def redacted(data: bytes, secrets: Iterable[Secret]) -> bytes:
    """The bytes without these secrets: as they are, with escapes of JSON (also of JSON within JSON), of programming languages, HTML, mail or
    URLs for any of their letters, in another case, in UTF-16, or within base64 or hexadecimal digits."""
    for secret in secrets:
        text = secret.reveal().encode("utf-8", "surrogatepass")
        if len(data) >= len(text) > 0:
            data = _spelling(text).sub(MASK, data)
            if len(text) >= _LEAST_ENCODED:
                data = _without_encoded(data, text)
    return data


def redacted_text(text: str, secrets: Iterable[Secret]) -> str:
    """As `redacted`, for text."""
    known = [secret for secret in secrets if len(secret.reveal()) <= len(text)]
    return redacted(text.encode("utf-8", "surrogatepass"), known).decode("utf-8", "surrogatepass") if known else text


@lru_cache(maxsize=256)  # 13 ms for each key
def _spelling(secret: bytes) -> re.Pattern[bytes]:
    return re.compile(b"\0?".join(map(_spelt, secret)))


def _without_encoded(data: bytes, secret: bytes) -> bytes:
    """The data without the secret as base64 or hexadecimal digits.  Both are looked for where nothing stands between, which is quick."""
    encoded, digits, wrapped, dumped = _encodings(secret)
    if len(data) < len(encoded[0]):
        return data
    bare = data.replace(b"\\n", b"").replace(b"\\r", b"").translate(None, b"\r\n\t \\")
    if any(each in bare for each in encoded):
        data = wrapped.sub(MASK, data)
    if digits in data.replace(b"0x", b"").translate(None, b" :,-").lower():
        data = dumped.sub(MASK, data)
    return data


@lru_cache(maxsize=256)  # 6 ms
def _encodings(secret: bytes) -> tuple[tuple[bytes, ...], bytes, re.Pattern[bytes], re.Pattern[bytes]]:
    encoded = tuple(sorted(_encoded(secret), key=len))
    wrapped = b"|".join((_BREAK + b"{0,8}").join(re.escape(bytes([letter])) for letter in each) for each in encoded)
    dumped = (_GAP + b"{0,3}").join(map(_digits, secret))
    return encoded, secret.hex().encode(), re.compile(wrapped), re.compile(dumped)


def _spelt(letter: int) -> bytes:
    """One letter, in all ways; HTML's also where its & is escaped again.  Each way begins with a letter of its own, which lets the
    search skip all others; backslashes are counted only so far, and once, that a wall of them costs no more than other text."""
    plain, digits = bytes([letter]), _digits(letter)
    escapes = [b"(?:u00|x|U000000)" + digits, rb"[ux]\{0{0,4}" + digits + rb"\}", b"%03o" % letter]
    escapes.append(b"u0026(?:amp;){0,2}" + _entity(letter, digits))
    if not plain.isalnum():
        escapes.append(re.escape(plain))
    ways = [
        *(re.escape(way) for way in sorted({plain, plain.lower(), plain.upper()})),
        rb"\\\\{0,3}" + (b"" if plain == b"\\" else b"+") + b"(?:" + b"|".join(escapes) + b")",
        rb"%(?:25){0,2}(?:u00)?" + digits,
        b"=(?:3[Dd]){0,2}" + digits,
        b"&(?:amp;){0,2}" + _entity(letter, digits),
    ]
    return b"(?:%b)" % b"|".join(ways)


def _digits(letter: int) -> bytes:
    """Two hexadecimal digits, large or small."""
    return b"".join(_either(digit) for digit in b"%02x" % letter)


def _entity(letter: int, digits: bytes) -> bytes:
    """What follows the & in HTML: a number, whose semicolon may be missing, or a name."""
    names = [name.encode() for name in _entities().get(chr(letter), ())]
    return b"(?:%b)" % b"|".join([b"#(?:0{0,8}%d|[xX]0{0,8}%b);?" % (letter, digits), *names])


@lru_cache(maxsize=1)
def _entities() -> dict[str, list[str]]:
    """HTML's names of ASCII's characters.  By the first secret: who has none need not know them."""
    from html.entities import html5

    names: dict[str, list[str]] = {}
    for name, text in html5.items():
        if text.isascii() and name[-1] == ";":
            names.setdefault(text, []).append(name)
    return names


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
