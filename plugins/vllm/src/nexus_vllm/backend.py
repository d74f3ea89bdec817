"""What vLLM says of itself.  Traffic needs nothing beyond `HTTPBackend`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from nexus.api import BackendError, Model, Report, State
from nexus.backends import OPTIONAL_TIMEOUT, HTTPBackend, WrongStatus, count_of, metric_sum, objects, within
from nexus.model import JSON_SCHEMA

SPEAKS = frozenset({("openai", "chat"), ("openai", "completion"), ("openai", "embedding")})
ANTHROPIC = {"/v1/messages": ("anthropic", "chat"), "/v1/messages/count_tokens": ("anthropic", "count")}
# One sample per engine and model.  Where Ray collects the metrics, the colon of the name is an underscore.
LOAD = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm_num_requests_running",
    "vllm_num_requests_waiting",
)


class VLLM(HTTPBackend):
    """One vLLM server: one base model, and any number of LoRA adapters on it."""

    _speaks = SPEAKS
    _asked: str | None = None  # the version that was asked what it speaks

    async def look(self) -> Report:
        async with self.get("/health") as (status, _):
            if status // 100 != 2 and status != 404:
                raise WrongStatus(status, "GET /health")
        entries = objects(await self.get_list(), "data")
        version, metrics = await asyncio.gather(self.maybe_json("/version"), self.maybe_text("/metrics"))
        said = within(version, "version")
        await self._listen(said)
        return Report(
            ok=True,
            models=_models(entries, self._speaks),
            version=said if isinstance(said, str) else "",
            load=metric_sum(metrics, *LOAD) if metrics else None,
        )

    async def _listen(self, version: Any) -> None:
        """Whether this version takes Anthropic's requests (from 0.11.1 on): a path that wants a POST answers 405 to a GET."""
        if not isinstance(version, str) or version == self._asked:
            return
        speaks = set(SPEAKS)
        try:
            for path, spoken in ANTHROPIC.items():
                async with self.get(path, timeout=OPTIONAL_TIMEOUT) as (status, _):
                    if status == 405:
                        speaks.add(spoken)
        except BackendError:
            return  # asked again by the next probe
        self._speaks, self._asked = frozenset(speaks), version


def _models(entries: list[Mapping[str, Any]], speaks: frozenset[tuple[str, str]]) -> tuple[Model, ...]:
    contexts = {entry.get("id"): count_of(entry.get("max_model_len")) for entry in entries if isinstance(entry.get("id"), str)}
    return tuple(_model(entry, contexts, speaks) for entry in entries if isinstance(entry.get("id"), str) and entry["id"])


def _model(entry: Mapping[str, Any], contexts: Mapping[Any, int | None], speaks: frozenset[tuple[str, str]]) -> Model:
    """An adapter (it has a `parent`) says no length of its own: its base model's holds.

    Tools and images depend on how the server was started, and the server does not say; neither does it say whether it
    chats or embeds.  Structured output is always there.
    """
    parent = entry.get("parent")
    context = contexts[entry["id"]] or (contexts.get(parent) if isinstance(parent, str) else None)
    return Model(
        id=entry["id"],
        offers={JSON_SCHEMA: True},
        context=context,
        context_max=context,
        state=State.READY,
        speaks=speaks,
        takes_usage=True,
    )
