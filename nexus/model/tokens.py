"""What an exchange takes: tokens, and their price."""

from __future__ import annotations

import attrs
import msgspec


@attrs.frozen(kw_only=True)
class Price:
    """US dollars per million tokens."""

    input: float
    output: float
    cached: float | None = None


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one exchange.  `source` is `reported` (the backend said so), `counted` (Nexus counted what it relayed) or `unknown`."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: str = "unknown"


NO_USAGE = Usage()
