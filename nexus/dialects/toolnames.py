"""Names of tools that a server does not take, and the way back.  Nothing else of a request is looked at."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from nexus.model import Accepts

_MARK = 8  # hex digits that tell a shortened name from its neighbours


def renamed(names: Iterable[str], accepts: Accepts) -> Mapping[str, str]:
    """New names for those that are too long or hold letters that the server does not take, by the old ones.

    A name becomes the same in every request, whatever stands beside it: a server's prefix cache is kept by it.  Only where two
    would become one does the later in the alphabet get another.
    """
    bad = re.compile(f"[^{accepts.tool_name_letters}]") if accepts.tool_name_letters else None
    said = sorted(set(names))
    wrong = [name for name in said if _is_too_long(name, accepts) or (bad and bad.search(name))]
    taken = set(said) - set(wrong)
    made: dict[str, str] = {}
    for name in wrong:
        made[name] = new = _new(name, bad, accepts.tool_name_chars, taken)
        taken.add(new)
    return made


def _is_too_long(name: str, accepts: Accepts) -> bool:
    return accepts.tool_name_chars is not None and len(name) > accepts.tool_name_chars


def _new(name: str, bad: re.Pattern[str] | None, most: int | None, taken: set[str]) -> str:
    """The name as far as it goes, with a mark of its own: the model reads it, too."""
    plain = bad.sub("_", name) if bad else name
    again = 0
    while True:
        digest = hashlib.sha256(f"{again or ''}{name}".encode(errors="surrogatepass")).hexdigest()[:_MARK]
        new = f"{plain[: most - _MARK - 1] if most else plain}_{digest}"
        if new not in taken:
            return new
        again += 1
