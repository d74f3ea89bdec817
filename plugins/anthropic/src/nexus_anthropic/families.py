"""What Anthropic's documentation says of each family of its models, for what the model list does not say.

The table holds what the model pages said in early 2026; a family that is not here is newer, and taken to be like the newest.
There are no prices in it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

import attrs

from nexus.model import CHAT, COMPLETION, EMBEDDING, IMAGE_URL, JSON_SCHEMA, THINKING, TOOLS, VISION
from nexus_anthropic.facts import DOCUMENTS

# What Claude Code asks of a model that it does not know; every model that writes less is in the table.
DEFAULT_MAX_OUTPUT = 32_000


class Reasons(enum.Enum):
    """How a family is told to think: not at all, by a budget of tokens, as it likes (`adaptive`), or either way."""

    NEVER = "never"
    BUDGET = "budget"
    EITHER = "either"
    ADAPTIVE = "adaptive"


@attrs.frozen(kw_only=True)
class Family:
    """What all models of a family share.  `context` and `max_output` are in tokens; None is unknown.

    `samples` says which of temperature and top_p are taken: both, one at a time, or none.  `effort` and `schemas` say
    whether `output_config` takes an effort and a JSON schema.
    """

    context: int | None = None
    max_output: int | None = None
    reasons: Reasons = Reasons.ADAPTIVE
    samples: int = 0
    effort: bool = True
    schemas: bool = True

    @property
    def offers(self) -> Mapping[str, bool]:
        yes = dict.fromkeys((CHAT, TOOLS, VISION, IMAGE_URL, DOCUMENTS), True)
        no = dict.fromkeys((COMPLETION, EMBEDDING), False)
        return yes | no | {JSON_SCHEMA: self.schemas, THINKING: self.reasons is not Reasons.NEVER}


NEWEST = Family()
"""A model that is newer than the table: it thinks as it likes and takes no sampling."""
_OLD = Family(context=200_000, max_output=4_096, reasons=Reasons.NEVER, samples=2, effort=False, schemas=False)
_FOUR = attrs.evolve(_OLD, max_output=64_000, reasons=Reasons.BUDGET)
_FOUR_FIVE = attrs.evolve(_FOUR, samples=1, schemas=True)

FAMILIES: Mapping[str, Family] = {
    "claude-3-opus": _OLD,
    "claude-3-sonnet": _OLD,
    "claude-3-haiku": _OLD,
    "claude-3-5-sonnet": attrs.evolve(_OLD, max_output=8_192),
    "claude-3-5-haiku": attrs.evolve(_OLD, max_output=8_192),
    "claude-3-7-sonnet": _FOUR,
    "claude-sonnet-4": _FOUR,
    "claude-opus-4": attrs.evolve(_FOUR, max_output=32_000),
    "claude-opus-4-1": attrs.evolve(_FOUR_FIVE, max_output=32_000),
    "claude-sonnet-4-5": _FOUR_FIVE,
    "claude-haiku-4-5": _FOUR_FIVE,
    "claude-opus-4-5": attrs.evolve(_FOUR_FIVE, effort=True),
    # how much these take depends on the account, and the model list says it
    "claude-sonnet-4-6": attrs.evolve(_FOUR_FIVE, context=None, reasons=Reasons.EITHER, effort=True),
    "claude-opus-4-6": attrs.evolve(_FOUR_FIVE, context=None, max_output=128_000, reasons=Reasons.EITHER, effort=True),
    "claude-opus-4-7": Family(max_output=128_000),
}
# A dated name (`claude-opus-4-5-20251101`), an alias (`claude-opus-4-0`, `…-latest`), or either as other clouds and gateways
# write it (`anthropic/…`, `anthropic.…-v1:0`, `…@20251101`).  `claude-opus-4-8` is not claude-opus-4.
_NAME = re.compile(r"(?:.*[/.])?(claude-[a-z0-9-]*?)(?:[-@](?:\d{8}|latest|0))?(?:-v\d+(?::\d+)?)?")


def family(name: str) -> Family | None:
    """The family of a model; None where the table does not have it."""
    found = _NAME.fullmatch(name.lower())
    return FAMILIES.get(found[1]) if found else None
