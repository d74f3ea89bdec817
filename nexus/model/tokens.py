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
    """Tokens of one exchange.  `source` is `reported` (the backend said so), `counted` (Nexus counted what it relayed, or some of it) or
    `unknown`.  What a backend reports in part is `counted` with noughts, until `completed` puts in what was counted."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    source: str = "unknown"


NO_USAGE = Usage()


def completed(said: Usage, known: Usage) -> Usage:
    """What a backend said, and what it did not say as it is known otherwise: counted, or said before."""
    if said.source == "reported":
        return said
    tokens = said.input_tokens or known.input_tokens
    return Usage(
        input_tokens=tokens,
        output_tokens=said.output_tokens or known.output_tokens,
        cached_tokens=min(said.cached_tokens or known.cached_tokens, tokens),
        reasoning_tokens=said.reasoning_tokens or known.reasoning_tokens,
        source=known.source,
    )
