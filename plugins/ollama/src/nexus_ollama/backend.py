"""Asks Ollama through its native API.  What the answers mean is in `nexus_ollama.models`; traffic goes to its OpenAI surface."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nexus.api import BackendError, Report
from nexus.backends import HTTPBackend, objects, within
from nexus_ollama.models import NOTHING_SHOWN, Shown, digest_of, model, name_of, shown, spoken

MAX_SHOWS = 100  # per probe; the rest is asked by the next
SHOW_CONCURRENCY = 4


class Ollama(HTTPBackend):
    """One Ollama server.  A steady probe costs three small GETs: what a model is, is asked once per name and digest."""

    _shown: Mapping[str, Shown] = {}

    async def look(self) -> Report:
        version = within(await self.get_json("/api/version"), "version")
        speaks = spoken(version if isinstance(version, str) else "")
        tags = [tag for tag in objects(await self.get_json("/api/tags"), "models") if name_of(tag)]
        loaded, facts = await asyncio.gather(self._loaded(), self._facts(tags))
        return Report(
            ok=True,
            models=tuple(model(tag, facts.get(_key(tag), NOTHING_SHOWN), _found(tag, loaded), speaks) for tag in tags),
            version=version if isinstance(version, str) else "",
        )

    async def _loaded(self) -> Mapping[str, Mapping[str, Any]]:
        try:
            entries = objects(await self.get_json("/api/ps"), "models")
        except BackendError:
            return {}
        return {key: entry for entry in entries for key in (digest_of(entry), name_of(entry)) if key}

    async def _facts(self, tags: list[Mapping[str, Any]]) -> Mapping[str, Shown]:
        """What is shown for each key, asking only for those not known yet.  Kept as it comes, so that a probe cut short
        is not in vain; forgotten with the model."""
        kept = {key: self._shown[key] for key in map(_key, tags) if key in self._shown}
        self._shown = kept
        gate = asyncio.Semaphore(SHOW_CONCURRENCY)

        async def ask(key: str, name: str) -> None:
            async with gate:
                answer = await self.maybe_json("/api/show", method="POST", body={"model": name})
            if isinstance(answer, dict):
                kept[key] = shown(answer)

        missing = {_key(tag): name_of(tag) for tag in tags if _key(tag) not in kept}
        await asyncio.gather(*(ask(key, name) for key, name in list(missing.items())[:MAX_SHOWS]))
        return kept


def _found(tag: Mapping[str, Any], loaded: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What is in memory of it: a copy of a model is loaded with it, under the other's name."""
    return loaded.get(name_of(tag)) or loaded.get(digest_of(tag))


def _key(tag: Mapping[str, Any]) -> str:
    """What identifies a model's contents: its name with its digest, or with its age where the list has no digests."""
    return f"{name_of(tag)} {tag.get('digest') or tag.get('modified_at')}"
