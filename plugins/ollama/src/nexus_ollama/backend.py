"""Asks Ollama through its native API.  What the answers mean is in `nexus_ollama.models`; traffic goes to its OpenAI surface."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nexus.api import BackendError, Call, Model, Refusal, RefusalKind, Refused, Reply, Report, Scope, Server
from nexus.backends import HTTPBackend, objects, within
from nexus.model import CHAT, COMPLETION
from nexus_ollama.contexts import Contexts
from nexus_ollama.models import NOTHING_SHOWN, Shown, digest_of, model, name_of, served_by, shown, spoken

MAX_SHOWS = 100  # per probe; the rest is asked by the next
SHOW_CONCURRENCY = 4
SURELY_SERVED = 2048  # tokens: the smallest default that any version has had
LONGEST_LOAD_SECONDS = 600.0


class Ollama(HTTPBackend):
    """One Ollama server.  A steady probe costs three small GETs: what a model is, is asked once for each of its contents.

    Ollama cuts what is longer than the served context without a word, and says what that is only of models in memory.  So where it
    is not known, and a prompt is long, the model is loaded and looked at before the prompt leaves.
    """

    def __init__(self, server: Server, scope: Scope) -> None:
        super().__init__(server, scope)
        self._shown: Mapping[str, Shown] = {}
        self._tags: Mapping[str, Mapping[str, Any]] = {}
        self._contexts = Contexts()
        self._version = ""

    async def look(self) -> Report:
        try:
            return await self._looked()
        except BackendError:
            self._contexts.forget()
            raise

    async def _looked(self) -> Report:
        said = within(await self.get_json("/api/version"), "version")
        version = said if isinstance(said, str) else ""
        if version != self._version:
            self._contexts.forget()
            self._version = version
        tags = [tag for tag in objects(await self.get_json("/api/tags"), "models") if name_of(tag)]
        self._tags = {name_of(tag): tag for tag in tags}
        loaded, _ = await asyncio.gather(self._loaded(), self._facts(tags))
        self._contexts.keep(set(map(_key, tags)))
        for tag in tags:  # all are looked at before any is told: one may say what others get
            self._served(tag, _found(tag, loaded))
        speaks = spoken(version)
        return Report(ok=True, models=tuple([self._model(tag, loaded, speaks) for tag in tags]), version=version)

    def _model(self, tag: Mapping[str, Any], loaded: Mapping[str, Mapping[str, Any]], speaks: frozenset[tuple[str, str]]) -> Model:
        found = _found(tag, loaded)
        return model(tag, self._facts_of(tag), found, speaks, self._served(tag, found))

    def _facts_of(self, tag: Mapping[str, Any]) -> Shown:
        return self._shown.get(_key(tag), NOTHING_SHOWN)

    def _served(self, tag: Mapping[str, Any], loaded: Mapping[str, Any] | None) -> int | None:
        """The context it is served with now, or was last, or will be."""
        now, seen = self.scope.clock.now(), served_by(loaded)
        if seen is not None:
            self._contexts.see(_key(tag), self._facts_of(tag), seen, now)
        return self._contexts.of(_key(tag), self._facts_of(tag), now)

    # ------------------------------------------------------------ prompts that may be cut

    async def send(self, call: Call) -> Reply:
        candidate = call.candidate
        unknown = candidate.context is None and not candidate.cloud and call.task in (CHAT, COMPLETION)
        if unknown and call.ask.request.tokens_low > SURELY_SERVED and candidate.model in self._tags:
            await self._check_served(call)
        return await super().send(call)

    async def _check_served(self, call: Call) -> None:
        """Raises Refused where the prompt is longer than what the model turns out to be served with."""
        tag, needed = self._tags[call.candidate.model], call.ask.request.tokens_low
        served = self._served(tag, None) or await self._proven(tag, call)
        if served is not None and needed > served:
            data = {"needed_at_least": needed, "served": served}
            raise Refused(Refusal(kind=RefusalKind.NEVER, code="context", data=data))

    async def _proven(self, tag: Mapping[str, Any], call: Call) -> int | None:
        """The context of the model once it is loaded, which the call would do as well; None where the server does not tell."""
        seconds = min(call.first_byte_by - self.scope.clock.now(), LONGEST_LOAD_SECONDS)
        try:
            await self.get_json("/api/generate", method="POST", body={"model": name_of(tag)}, timeout=max(seconds, 0.1))
        except BackendError:
            return None  # the call itself hears why
        return self._served(tag, _found(tag, await self._loaded()))

    # ------------------------------------------------------------ what is asked

    async def _loaded(self) -> Mapping[str, Mapping[str, Any]]:
        try:
            entries = objects(await self.get_json("/api/ps"), "models")
        except BackendError:
            return {}
        return {key: entry for entry in entries for key in (digest_of(entry), name_of(entry)) if key}

    async def _facts(self, tags: list[Mapping[str, Any]]) -> None:
        """Learn what is shown for each key, asking only for those not known yet.  Kept as it comes, so that a probe cut short
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


def _found(tag: Mapping[str, Any], loaded: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """What is in memory of it: a copy of a model is loaded with it, under the other's name."""
    return loaded.get(name_of(tag)) or loaded.get(digest_of(tag))


def _key(tag: Mapping[str, Any]) -> str:
    """What a model's contents are known by: their digest, or where the list has none its name with its age."""
    return digest_of(tag) or f"{name_of(tag)} {tag.get('digest') or tag.get('modified_at')}"
