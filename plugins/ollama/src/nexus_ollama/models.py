"""What Ollama's answers say of a model: `/api/tags`, `/api/show` and `/api/ps` into a `Model`.  No I/O."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import attrs

from nexus.api import Model, State
from nexus.backends import count_of, within, words_of
from nexus.model import CHAT, COMPLETION, EMBEDDING, IMAGE_URL, JSON_SCHEMA, THINKING, TOOLS, VISION

SPEAKS = frozenset({("openai", "chat"), ("openai", "completion"), ("openai", "embedding")})
ANTHROPIC = frozenset({("anthropic", "chat")})  # it counts no tokens
_NUM_CTX = re.compile(r"^\s*num_ctx\s+(\d{1,12})\s*$", re.MULTILINE)
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})")
_DIGEST = re.compile(r"(?:sha256:)?[0-9a-f]{64}")
_CLOUD_TAG = re.compile(r"[:-]cloud$", re.IGNORECASE)


@attrs.frozen(kw_only=True)
class Shown:
    """What `/api/show` says of one name and digest: it never changes, so it is asked once.

    `num_ctx` is what the model's own file sets, `context_max` what it was trained for, in tokens.
    """

    capabilities: frozenset[str] | None = None
    num_ctx: int | None = None
    context_max: int | None = None
    remote: str = ""


NOTHING_SHOWN = Shown()


def spoken(version: str) -> frozenset[tuple[str, str]]:
    """What this version takes: Anthropic's requests from 0.14 on."""
    found = _VERSION.match(version)
    return SPEAKS | ANTHROPIC if found and (int(found[1]), int(found[2])) >= (0, 14) else SPEAKS


def shown(answer: Any) -> Shown:
    """The facts in an answer of `/api/show`."""
    parameters = within(answer, "parameters")
    set_to = _NUM_CTX.findall(parameters) if isinstance(parameters, str) else []
    return Shown(
        capabilities=words_of(within(answer, "capabilities")),
        num_ctx=count_of(set_to[-1]) if set_to else None,
        context_max=_trained_for(within(answer, "model_info")),
        remote=_remote(answer),
    )


def _trained_for(info: Any) -> int | None:
    architecture = within(info, "general.architecture")
    return count_of(within(info, f"{architecture}.context_length")) if isinstance(architecture, str) else None


def name_of(entry: Mapping[str, Any]) -> str:
    """The id of an entry in `/api/tags` or `/api/ps`; "" where it has none."""
    name = entry.get("name") or entry.get("model")
    return name if isinstance(name, str) else ""


def model(
    tag: Mapping[str, Any],
    facts: Shown,
    loaded: Mapping[str, Any] | None,
    speaks: frozenset[tuple[str, str]] = SPEAKS,
    context: int | None = None,
) -> Model:
    """One model.  `tag` is its entry in `/api/tags`, `loaded` its entry in `/api/ps`, if it has one, `context` what it is served with
    where that does not say."""
    name = name_of(tag)
    evidence = _remote(tag) or facts.remote or ("its tag says cloud" if _CLOUD_TAG.search(name) else "")
    return Model(
        id=name,
        aliases=(name.removesuffix(":latest"),) if name.endswith(":latest") else (),
        offers=_offers(facts.capabilities if facts.capabilities is not None else words_of(tag.get("capabilities"))),
        # Unset, the server takes a length by free VRAM: not to be known before it has loaded some model.
        context=served_by(loaded) or context or facts.num_ctx,
        context_max=facts.context_max or count_of(within(tag, "details", "context_length")),
        state=State.READY if loaded is not None or evidence else State.ASLEEP,
        remote=bool(evidence),
        evidence=evidence,
        speaks=speaks,
        takes_usage=True,
        digest=digest_of(tag),
    )


def served_by(loaded: Mapping[str, Any] | None) -> int | None:
    """The tokens that an entry of `/api/ps` is served with."""
    return count_of(within(loaded, "context_length"))


def digest_of(entry: Mapping[str, Any]) -> str:
    """What the contents of an entry in `/api/tags` or `/api/ps` are known by, and every copy of them; "" where it does not say."""
    digest = entry.get("digest")
    return digest if isinstance(digest, str) and _DIGEST.fullmatch(digest) else ""


def _remote(said: Any) -> str:
    for key in ("remote_host", "remote_model"):
        value = within(said, key)
        if isinstance(value, str) and value:
            return f"{key} is {value}"
    return ""


def _offers(capabilities: frozenset[str] | None) -> Mapping[str, bool]:
    """Without `embedding` it may embed all the same: Ollama takes embeddings from models that chat, too.  It fetches no pictures, on
    either of its surfaces ("invalid image input", "Only base64 images are supported")."""
    if capabilities is None:
        return {IMAGE_URL: False}
    writes = "completion" in capabilities
    offers = {IMAGE_URL: False, **dict.fromkeys((CHAT, COMPLETION, JSON_SCHEMA), writes)}
    offers |= {TOOLS: "tools" in capabilities, VISION: "vision" in capabilities, THINKING: "thinking" in capabilities}
    return offers | {EMBEDDING: True} if "embedding" in capabilities else offers
