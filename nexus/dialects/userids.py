"""What becomes of the id of an end user, where a request is translated: it was said to one company and would go to another."""

from __future__ import annotations

import hashlib
import hmac
import re

from nexus.model import Accepts, UserIds

_LENGTH = 32  # hex digits; OpenAI takes 64 characters, Anthropic 256
_ADDRESS = re.compile(r"\S@\S")


class Pseudonyms:
    """Ids of end users as servers see them.  With one `key`, one id has one hash."""

    __slots__ = ("_key", "_mode")

    def __init__(self, mode: UserIds = UserIds.HASH, key: bytes = b"") -> None:
        self._mode = mode
        self._key = key

    def of(self, user: str, accepts: Accepts) -> str | None:
        """What is sent in place of the id; None is nothing.  One that would be refused as it is becomes its hash."""
        if self._mode is UserIds.DROP:
            return None
        if self._mode is UserIds.PASS and _takes(user, accepts):
            return user
        return hmac.new(self._key, user.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()[:_LENGTH]


def _takes(user: str, accepts: Accepts) -> bool:
    if accepts.user_chars is not None and len(user) > accepts.user_chars:
        return False
    return not (accepts.user_names_nobody and _ADDRESS.search(user))
