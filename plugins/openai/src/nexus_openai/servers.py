"""Servers that speak OpenAI's API: what each is asked in a probe.  Traffic needs nothing beyond `HTTPBackend`.

The lists they answer are read in `nexus_openai.models`; OpenAI itself is in `nexus_openai.cloud`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

import attrs

from nexus.api import BackendError, Model, Price, Report, Scope, Server, State
from nexus.backends import HTTPBackend, WrongStatus, count_of, objects, within, words_of
from nexus.model import COMPLETION, EMBEDDING
from nexus_openai import CHATS, WRITES, CompatibleOptions
from nexus_openai.cloud import OpenAI
from nexus_openai.models import SPEAKS, offers_of, parse

RUNNING = {"ready": State.READY, "starting": State.LOADING}  # llama-swap's words; what does not run is started on demand


class Compatible(HTTPBackend):
    """Any server with `/v1/models`.  Whether it takes `stream_options` is the operator's to say."""

    takes_usage = False

    def __init__(self, server: Server, scope: Scope, options: Any = None) -> None:
        super().__init__(server, scope)
        if isinstance(options, CompatibleOptions):
            self.takes_usage = options.takes_usage

    async def look(self) -> Report:
        return Report(ok=True, models=await self.listed())

    async def listed(self) -> tuple[Model, ...]:
        """The models of its list."""
        models: tuple[Model, ...] = await self.get_list(read=partial(parse, takes_usage=self.takes_usage))
        return models

    async def alive(self, path: str) -> Report | None:
        """None where `path` says that the server is well or does not exist there (an older version), else what is wrong."""
        async with self.get(path) as (status, raw):
            wrong = WrongStatus(status, f"GET {path}", raw)
            if status == 503 and not self.is_busy(wrong):
                return Report(ok=False, code="loading", problem="is not ready yet", eta=_eta(raw))
            if status // 100 != 2 and status != 404:
                raise wrong
        return None


class LocalAI(Compatible):
    """LocalAI loads on demand: a model it lists is asleep unless `/system` has it among the loaded ones."""

    takes_usage = True

    async def look(self) -> Report:
        if wrong := await self.alive("/readyz"):
            return wrong
        models = await self.listed()
        said, system, known = await asyncio.gather(
            self.maybe_json("/v1/models/capabilities"), self.maybe_json("/system"), self.maybe_json("/.well-known/localai.json")
        )
        loaded, version = _ids(system, "loaded_models"), within(known, "version")
        offers = {entry.get("id"): offers_of(entry) for entry in _entries(said, "data")}
        models = tuple(attrs.evolve(m, offers={**m.offers, **offers.get(m.id, {})}, state=_state(m.id, loaded)) for m in models)
        return Report(ok=True, models=models, version=version if isinstance(version, str) else "")


class LlamaSwap(Compatible):
    """llama-swap starts a server per model on demand; `/running` has those that run.  Its `/health` says nothing of models."""

    takes_usage = True

    def __init__(self, server: Server, scope: Scope, options: Any = None) -> None:
        super().__init__(server, scope, options)
        self._contexts: dict[
            str, int | None
        ] = {}  # of the models that run, once each: every question puts off their being unloaded

    async def look(self) -> Report:
        models, running = await self.listed(), await self.get_json("/running")
        states = {str(entry.get("model")): RUNNING.get(str(entry.get("state"))) for entry in objects(running, "running")}
        await self._ask_contexts([name for name, state in states.items() if state is State.READY])
        return Report(
            ok=True,
            models=tuple(
                attrs.evolve(m, state=states.get(m.id) or State.ASLEEP, context=self._contexts.get(m.id) or m.context)
                for m in models
            ),
        )

    async def _ask_contexts(self, ready: list[str]) -> None:
        """Only of those that run: asking starts a server, too."""
        new = [name for name in ready if name not in self._contexts]
        props = await asyncio.gather(*(self.maybe_json(f"/upstream/{quote(name)}/props") for name in new))
        found = {n: count_of(within(said, "default_generation_settings", "n_ctx")) for n, said in zip(new, props, strict=True)}
        self._contexts = {name: (self._contexts | found)[name] for name in ready}


class Llamafile(Compatible):
    """A llamafile serves one model and ignores the name in the request.  Only older ones have `/health`."""

    async def look(self) -> Report:
        if wrong := await self.alive("/health"):
            return wrong
        return Report(ok=True, models=tuple(attrs.evolve(m, state=State.READY) for m in await self.listed()), capacity=1)


class Transformers(Compatible):
    """`transformers serve` lists all of Hugging Face's cache and loads what it is asked for; it chats, and does nothing else.  What it
    loads may also be named with its revision, as it does itself.  Its first list takes seconds."""

    async def look(self) -> Report:
        if wrong := await self.alive("/health"):
            return wrong
        return Report(
            ok=True, models=tuple(_cached(m, CHATS, COMPLETION, EMBEDDING, aliases=(f"{m.id}@main",)) for m in await self.listed())
        )


class MLX(Compatible):
    """`mlx_lm.server` lists what is in Hugging Face's cache, in several files.  What it was started with may be no part of that and goes
    by the name `default_model`."""

    takes_usage = True

    async def look(self) -> Report:
        if wrong := await self.alive("/health"):
            return wrong
        models = await self.listed()
        if not models and not self.server.declared:
            models = (Model(id="default_model", takes_usage=True),)
        return Report(ok=True, models=tuple(_cached(model, WRITES, EMBEDDING) for model in models))


def _cached(model: Model, speaks: frozenset[tuple[str, str]], *never: str, aliases: tuple[str, ...] = ()) -> Model:
    """A model that such a server runs itself.  Whether it is a chat model is not said."""
    return attrs.evolve(model, speaks=speaks, aliases=aliases, offers={**model.offers, **dict.fromkeys(never, False)})


class RayServe(Compatible):
    """Ray Serve's LLM applications.  The engines behind it say nothing of themselves.

    Where as many wait as may, every path of an application is refused, the list of models too: that is a server which is well.
    """

    async def look(self) -> Report:
        return await self.alive("/-/healthz") or await super().look()


class LiteLLM(Compatible):
    """LiteLLM's proxy.  `/health` is never asked: it sends a completion to every model it has, which costs money."""

    takes_usage = True

    async def look(self) -> Report:
        if wrong := await self.alive("/health/liveliness"):
            return wrong
        models, info = await self.listed(), await self.maybe_json("/model/info")
        known = {e.get("model_name"): e["model_info"] for e in _entries(info, "data") if isinstance(e.get("model_info"), dict)}
        listed = {model.id for model in models}
        # a route of many names is in the list by some of them, and all that fit are served
        routes = tuple(
            Model(id=n, speaks=SPEAKS, takes_usage=True) for n in known if isinstance(n, str) and "*" in n and n not in listed
        )
        return Report(ok=True, models=tuple(_informed(m, known[m.id]) if m.id in known else m for m in models) + routes)


def _informed(model: Model, info: Mapping[str, Any]) -> Model:
    """What LiteLLM's own table says of the model behind the name."""
    supports = {"vision": info.get("supports_vision"), "tools": info.get("supports_function_calling")}
    supports["json_schema"] = info.get("supports_response_schema")
    (listed,) = parse({"data": [{"id": model.id, **_plain(info), "capabilities": supports}]})
    return attrs.evolve(
        model,
        offers={**model.offers, **listed.offers},
        context_max=listed.context_max or model.context_max,
        max_output_tokens=listed.max_output_tokens or model.max_output_tokens,
        price=_price(info),
    )


def _plain(info: Mapping[str, Any]) -> Mapping[str, Any]:
    return {key: info.get(key) for key in ("mode", "max_input_tokens", "max_output_tokens")}


def _price(info: Mapping[str, Any]) -> Price | None:
    """LiteLLM counts in USD per token."""
    input_, output = (_amount(info.get(f"{way}_cost_per_token")) for way in ("input", "output"))
    return None if input_ is None or output is None else Price(input=input_ * 1e6, output=output * 1e6)


def _amount(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6 else None


def _eta(raw: bytes) -> float | None:
    """Seconds until ready, where a 503 says so as LocalAI does."""
    try:
        eta = within(json.loads(raw), "loading", "eta_seconds")
    except (ValueError, RecursionError):
        return None
    return _amount(eta)


def _entries(answer: Any, key: str) -> list[Mapping[str, Any]]:
    try:
        return objects(answer, key)
    except BackendError:
        return []


def _ids(answer: Any, key: str) -> frozenset[str] | None:
    """The ids of a list whose items are names or objects with an `id`; None where there is no such list."""
    if not isinstance(within(answer, key), list):
        return None
    return (words_of(answer[key]) or frozenset()) | {str(entry.get("id")).lower() for entry in _entries(answer, key)}


def _state(name: str, loaded: frozenset[str] | None) -> State:
    if loaded is None:
        return State.UNKNOWN
    return State.READY if name.lower() in loaded else State.ASLEEP


CLASSES: Mapping[str, Any] = {
    "openai": OpenAI,
    "openai-compatible": Compatible,
    "localai": LocalAI,
    "llamaswap": LlamaSwap,
    "llamafile": Llamafile,
    "rayserve": RayServe,
    "litellm": LiteLLM,
    "transformers": Transformers,
    "mlx": MLX,
}
