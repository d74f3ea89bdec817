"""OpenAI's own API: the model list with the key, and what OpenAI's documentation says of each family, which the list does not.

The table holds what OpenAI's model pages said in 2025.  A family that is not here is unknown, and so is every price.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from nexus.api import Model, Report, Scope, Server, State
from nexus.backends import HTTPBackend
from nexus.model import CHAT, COMPLETION, EMBEDDING, IMAGE_URL, JSON_SCHEMA, THINKING, TOOLS, VISION
from nexus_openai.models import parse


@attrs.frozen
class Family:
    """What all models of a family share.  `context` and `max_output` are in tokens; a need that is in neither set is unknown."""

    context: int | None = None
    yes: tuple[str, ...] = ()
    no: tuple[str, ...] = ()
    max_output: int | None = None

    @property
    def offers(self) -> Mapping[str, bool]:
        yes = (*self.yes, IMAGE_URL) if VISION in self.yes else self.yes
        return dict.fromkeys(self.no, False) | dict.fromkeys(yes, True)


_OTHER_TASKS = (COMPLETION, EMBEDDING)


def _chat(context: int, max_output: int, *yes: str) -> Family:
    no = tuple(need for need in (VISION, TOOLS, JSON_SCHEMA, THINKING) if need not in yes)
    return Family(context, (CHAT, *yes), _OTHER_TASKS + no, max_output)


_FULL = (VISION, TOOLS, JSON_SCHEMA)
_REASONS = (*_FULL, THINKING)
_EMBEDS = Family(8191, (EMBEDDING,), (CHAT, COMPLETION, VISION, TOOLS, JSON_SCHEMA))
_WRITES = (CHAT, EMBEDDING, VISION, TOOLS, JSON_SCHEMA)
# Models of other endpoints (Responses, images, audio, moderation) are listed too, and serve none of these tasks.
_ELSEWHERE = Family(None, (), (CHAT, COMPLETION, EMBEDDING))

FAMILIES: Mapping[str, Family] = {
    "gpt-5": _chat(400_000, 128_000, *_REASONS),
    "gpt-5-mini": _chat(400_000, 128_000, *_REASONS),
    "gpt-5-nano": _chat(400_000, 128_000, *_REASONS),
    "gpt-5-chat": Family(128_000, (CHAT, VISION), _OTHER_TASKS),
    "gpt-5-search": Family(None, (CHAT,), _OTHER_TASKS),
    "gpt-5-pro": _ELSEWHERE,
    "gpt-5-codex": _ELSEWHERE,
    "gpt-4.1": _chat(1_047_576, 32_768, *_FULL),
    "gpt-4.1-mini": _chat(1_047_576, 32_768, *_FULL),
    "gpt-4.1-nano": _chat(1_047_576, 32_768, *_FULL),
    "gpt-4o": _chat(128_000, 16_384, *_FULL),
    "gpt-4o-2024-05-13": _chat(128_000, 4_096, VISION, TOOLS),  # older than structured outputs
    "gpt-4o-mini": _chat(128_000, 16_384, *_FULL),
    "gpt-4o-audio": Family(128_000, (CHAT,), _OTHER_TASKS),
    "gpt-4o-mini-audio": Family(128_000, (CHAT,), _OTHER_TASKS),
    "gpt-4o-search": Family(128_000, (CHAT,), _OTHER_TASKS),
    "gpt-4o-mini-search": Family(128_000, (CHAT,), _OTHER_TASKS),
    "gpt-4o-realtime": _ELSEWHERE,
    "gpt-4o-mini-realtime": _ELSEWHERE,
    "gpt-4o-transcribe": _ELSEWHERE,
    "gpt-4o-mini-transcribe": _ELSEWHERE,
    "gpt-4o-mini-tts": _ELSEWHERE,
    "gpt-4-turbo": _chat(128_000, 4_096, VISION, TOOLS),
    "gpt-4-turbo-preview": _chat(128_000, 4_096, TOOLS),
    "gpt-4": _chat(8_192, 8_192, TOOLS),
    "gpt-4-32k": _chat(32_768, 32_768, TOOLS),
    "gpt-4-1106": _chat(128_000, 4_096, TOOLS),
    "gpt-4-0125": _chat(128_000, 4_096, TOOLS),
    "gpt-3.5-turbo": _chat(16_385, 4_096, TOOLS),
    "gpt-3.5-turbo-instruct": Family(4_096, (COMPLETION,), _WRITES),
    "o1": _chat(200_000, 100_000, *_REASONS),
    "o1-mini": _chat(128_000, 65_536),
    "o1-preview": _chat(128_000, 32_768),
    "o1-pro": _ELSEWHERE,
    "o3": _chat(200_000, 100_000, *_REASONS),
    "o3-mini": _chat(200_000, 100_000, TOOLS, JSON_SCHEMA, THINKING),
    "o3-pro": _ELSEWHERE,
    "o3-deep-research": _ELSEWHERE,
    "o4-mini": _chat(200_000, 100_000, *_REASONS),
    "o4-mini-deep-research": _ELSEWHERE,
    "text-embedding-3-small": _EMBEDS,
    "text-embedding-3-large": _EMBEDS,
    "text-embedding-ada-002": _EMBEDS,
    "davinci-002": Family(16_384, (COMPLETION,), _WRITES),
    "babbage-002": Family(16_384, (COMPLETION,), _WRITES),
    "whisper": _ELSEWHERE,
    "tts-1": _ELSEWHERE,
    "dall-e-2": _ELSEWHERE,
    "dall-e-3": _ELSEWHERE,
    "gpt-image-1": _ELSEWHERE,
    "gpt-realtime": _ELSEWHERE,
    "omni-moderation": _ELSEWHERE,
    "text-moderation": _ELSEWHERE,
    "sora-2": _ELSEWHERE,
}


def family(name: str) -> Family | None:
    """The family of the longest name that `name` is, or continues with a dash (`gpt-4o-2024-08-06`); `gpt-5.5` is not gpt-5.

    A fine-tuned model (`ft:gpt-4o-mini:org::id`) is of its base model's family.
    """
    base = name.split(":")[1] if name.startswith("ft:") and name.count(":") > 1 else name
    while base and base not in FAMILIES:
        base = base.rpartition("-")[0]
    return FAMILIES.get(base)


class OpenAI(HTTPBackend):
    """`GET /v1/models` with the key is free, and says whether the key is good."""

    def __init__(self, server: Server, scope: Scope, options: Any = None) -> None:
        super().__init__(server, scope)

    async def look(self) -> Report:
        return Report(ok=True, models=await self.get_list(read=_listed))


def _listed(answer: Any) -> tuple[Model, ...]:
    return tuple(map(_known, parse(answer, takes_usage=True)))


def _known(model: Model) -> Model:
    """What is served in the cloud is served now."""
    found = family(model.id) or Family()
    return attrs.evolve(
        model,
        state=State.READY,
        context=found.context,
        context_max=found.context,
        max_output_tokens=found.max_output,
        offers=found.offers,
    )
