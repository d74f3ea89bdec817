"""What llama.cpp's server says of itself, read without waking it.  Traffic needs nothing beyond `HTTPBackend`.

A server that sleeps (`--sleep-idle-seconds`) is woken by every request except `/health`, `/props`, `/models` and `/metrics`:
nothing else may be asked here, `/slots` least of all, but for one question, put once to every build while it is awake.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import attrs

from nexus.api import BackendError, Model, Report, State
from nexus.backends import OPTIONAL_TIMEOUT, HTTPBackend, WrongStatus, count_of, metric_sum, objects, within, words_of
from nexus.model import CHAT, COMPLETION, JSON_SCHEMA, THINKING, TOOLS, VISION

SPEAKS = frozenset({("openai", "chat"), ("openai", "completion"), ("openai", "embedding")})
ANTHROPIC = frozenset({("anthropic", "chat"), ("anthropic", "count")})
COUNT_PATH = "/v1/messages/count_tokens"
LOAD = ("llamacpp:requests_processing", "llamacpp:requests_deferred")
# The words of a router's model list (`llama-server` without a model), and what they mean here.  It loads on demand.
STATES = {
    "loaded": State.READY,
    "loading": State.LOADING,
    "downloading": State.LOADING,
    "sleeping": State.ASLEEP,
    "unloaded": State.ASLEEP,
}
ROUTER_CONCURRENCY = 4


class LlamaCpp(HTTPBackend):
    """One llama.cpp server: with one model, or a router over several."""

    _models: tuple[Model, ...] = ()
    _speaks = SPEAKS
    _asked: str | None = None  # the build that was asked what it speaks

    async def look(self) -> Report:
        async with self.get("/health") as (status, _):
            loading = status == 503
        try:
            entries = objects(await self.get_list(), "data")
        except BackendError:
            if not loading:
                raise
            entries = []
        if loading:
            return self._loading(entries)
        if any(isinstance(entry.get("status"), dict) for entry in entries):
            return await self._router(entries)
        return await self._single(entries)

    def _loading(self, entries: list[Mapping[str, Any]]) -> Report:
        """While it loads, most servers list the model already; what is known of it from before holds on."""
        known = self._models or tuple(m for entry in entries if (m := _model(entry, {}, State.LOADING, self._speaks)))
        if not known:
            return Report(ok=False, code="loading", problem="is loading its model")
        return Report(ok=True, models=tuple(attrs.evolve(model, state=State.LOADING) for model in known))

    async def _single(self, entries: list[Mapping[str, Any]]) -> Report:
        props = await self._props()
        metrics = await self.maybe_text("/metrics")
        await self._listen(props)
        state = State.ASLEEP if within(props, "is_sleeping") is True else State.READY
        self._models = tuple(model for entry in entries if (model := _model(entry, props, state, self._speaks)))
        return Report(
            ok=True,
            models=self._models,
            version=_text(within(props, "build_info")),
            capacity=count_of(within(props, "total_slots")),
            load=metric_sum(metrics, *LOAD) if metrics else None,
        )

    async def _listen(self, props: Any) -> None:
        """Whether this build takes Anthropic's requests, too.  It is asked to count the tokens of nothing, which it refuses
        before it does anything; a build that has no such path says 404."""
        build = _text(within(props, "build_info"))
        if not isinstance(props, dict) or within(props, "is_sleeping") is True or build == self._asked:
            return
        try:
            async with self.get(COUNT_PATH, method="POST", body={}, timeout=OPTIONAL_TIMEOUT) as (status, _):
                self._speaks = SPEAKS | ANTHROPIC if status in (200, 400, 500) else SPEAKS
                self._asked = build
        except BackendError:
            pass  # asked again by the next probe

    async def _props(self) -> Any:
        """Some versions list their models to everybody: whether the key is good is seen here."""
        try:
            return await self.get_json("/props")
        except WrongStatus as error:
            if error.status in (401, 403):
                raise
        except BackendError:
            pass
        return None

    async def _router(self, entries: list[Mapping[str, Any]]) -> Report:
        """Props are asked only of what is loaded, and with `autoload=false`, so that asking loads nothing."""
        gate = asyncio.Semaphore(ROUTER_CONCURRENCY)

        async def props_of(entry: Mapping[str, Any]) -> Any:
            if _router_state(entry) is not State.READY:
                return None
            async with gate:
                return await self.maybe_json(f"/props?model={quote(str(entry.get('id')), safe='')}&autoload=false")

        props = await self._props()
        await self._listen(props)
        several = await asyncio.gather(*map(props_of, entries))
        found = zip(entries, several, strict=True)
        self._models = tuple(
            attrs.evolve(m, capacity=count_of(within(own, "total_slots")))
            for entry, own in found
            if (m := _model(entry, own, _router_state(entry), self._speaks))
        )
        return Report(ok=True, models=self._models, version=_text(within(props, "build_info")))


def _router_state(entry: Mapping[str, Any]) -> State:
    return STATES.get(_text(within(entry, "status", "value")), State.UNKNOWN)


def _model(entry: Mapping[str, Any], props: Any, state: State, speaks: frozenset[tuple[str, str]]) -> Model | None:
    name = entry.get("id")
    if not isinstance(name, str) or not name:
        return None
    aliases = entry.get("aliases")
    return Model(
        id=name,
        aliases=tuple(a for a in aliases if isinstance(a, str) and a and a != name) if isinstance(aliases, list) else (),
        offers=_offers(entry, props),
        context=count_of(within(props, "default_generation_settings", "n_ctx")) or count_of(within(entry, "meta", "n_ctx")),
        context_max=count_of(within(entry, "meta", "n_ctx_train")),
        state=state,
        failed=within(entry, "status", "failed") is True,  # it loads again at the next request; a swap that took long sets it too
        speaks=speaks,
        takes_usage=True,
    )


def _offers(entry: Mapping[str, Any], props: Any) -> Mapping[str, bool]:
    """Whether it embeds is nowhere to be seen: a server started with `--embeddings` says the same as one without."""
    offers = {CHAT: True, COMPLETION: True, JSON_SCHEMA: True}
    tools, vision = _tools(props), _vision(entry, props)
    if tools is not None:
        offers[TOOLS] = tools
    if vision is not None:
        offers[VISION] = vision
    if _thinks(props):
        offers[THINKING] = True
    return offers


def _thinks(props: Any) -> bool:
    """Whether the model can be told how much to think.  Newer servers say so; on older ones, where a template has the switch,
    `none` turns it off and every other word is passed over."""
    said = within(props, "chat_template_caps", "supports_reasoning_effort")
    template = within(props, "chat_template")
    return said if isinstance(said, bool) else isinstance(template, str) and "enable_thinking" in template


def _tools(props: Any) -> bool | None:
    """Newer servers say what the chat template can.  Older ones show the template, but not whether `--jinja` is on: a
    template that knows tools proves nothing there, one that does not is a no."""
    said = within(props, "chat_template_caps", "supports_tools")
    if isinstance(said, bool):
        return said
    template = within(props, "chat_template")
    return False if isinstance(template, str) and template and "tools" not in template else None


def _vision(entry: Mapping[str, Any], props: Any) -> bool | None:
    said = within(props, "modalities", "vision")
    if isinstance(said, bool):
        return said
    kinds = words_of(within(entry, "architecture", "input_modalities"))
    return None if kinds is None else "image" in kinds


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
