"""Clients' keys: making one, its hash, finding whose it is.  Pure; what a key allows is decided where it is used.

A key is 256 random bits, so a plain SHA-256 of it is as hard to reverse as the key is to guess: a slow, salted hash protects
words that people choose, and would cost every request its time.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping, Sequence

from nexus.config.tables import KeyConfig

PREFIX = "nx-"
# Where clients of the usual APIs put their key, in the order in which they are looked at.  None of them goes to a backend.
CREDENTIAL_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")


def new_key() -> tuple[str, str]:
    """A fresh key, to be shown once, and the hash to keep."""
    text = PREFIX + secrets.token_urlsafe(32)
    return text, hash_key(text)


def hash_key(text: str) -> str:
    """What `[[keys]] hash` holds for this key: `sha256:` and 64 hexadecimal digits."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


class Keyring:
    """The configured keys.  Only hashes are compared, so the time of a lookup says nothing of a key's text."""

    def __init__(self, keys: Sequence[KeyConfig]) -> None:
        self._by_hash = {key.hash: key for key in keys}

    def __bool__(self) -> bool:
        """Whether any key is configured."""
        return bool(self._by_hash)

    def find(self, text: str | None) -> KeyConfig | None:
        """Whose key this is; None for no key and for one that nobody has."""
        return self._by_hash.get(hash_key(text)) if text else None


def key_in(headers: Mapping[str, str]) -> str | None:
    """The client's key: `Authorization: Bearer`, else `x-api-key`, else `api-key` (Azure's), else `x-goog-api-key`.

    `headers` must find names in lower case (aiohttp's do in any case).
    """
    scheme, _, token = headers.get("authorization", "").strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for name in CREDENTIAL_HEADERS[1:]:
        if text := headers.get(name, "").strip():
            return text
    return None
