"""Anthropic's own API as a backend: the key's header, the free model list, and counting tokens.

What the list does not say of a model is in `nexus_anthropic.families`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from nexus.api import BackendError, Call, Model, Reply, Report, State, replace
from nexus.backends import HTTPBackend, count_of, objects, within
from nexus.dialects.jsontext import loads
from nexus.model import CHAT, COMPLETION, COUNT, EMBEDDING, IMAGE_URL, JSON_SCHEMA, THINKING, VISION
from nexus_anthropic.dialect import VERSION
from nexus_anthropic.facts import DOCUMENTS
from nexus_anthropic.families import NEWEST, family

SPEAKS = frozenset({("anthropic", CHAT), ("anthropic", COUNT)})
PAGE = 1000  # the most that the list gives at once
MAX_PAGES = 20
COUNT_SECONDS = 30.0
# The fields that counting takes; it rejects all others of a message request.
COUNTED = ("model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control", "mcp_servers")
# What is true of every model of the cloud, whatever its name.
_SURE = {CHAT: True, COMPLETION: False, EMBEDDING: False}
# Where the list says what a model can do: `capabilities.<key>.supported`.
SAYS = {
    VISION: "image_input",
    IMAGE_URL: "image_input",
    DOCUMENTS: "pdf_input",
    JSON_SCHEMA: "structured_outputs",
    THINKING: THINKING,
}


class AnthropicCloud(HTTPBackend):
    """`GET /v1/models` with the key is free, and says whether the key is good."""

    def auth(self) -> Mapping[str, str]:
        return {"x-api-key": self.server.key.reveal()} if self.server.key else {}

    def probe_headers(self) -> Mapping[str, str]:
        return {**self.auth(), VERSION[0]: VERSION[1]}

    async def look(self) -> Report:
        models: dict[str, Model] = {}
        after = ""
        for _ in range(MAX_PAGES):
            page = await self.get_list(f"/v1/models?limit={PAGE}{after}")
            models |= {entry["id"]: _model(entry) for entry in objects(page, "data") if _named(entry)}
            last = within(page, "last_id")
            if within(page, "has_more") is not True or not isinstance(last, str):
                break
            after = f"&after_id={quote(last, safe='')}"
        return Report(ok=True, models=tuple(models.values()))

    async def send(self, call: Call) -> Reply:
        """A client that speaks the dialect says which version; for all others it is ours."""
        if any(name == VERSION[0] for name, _ in call.headers):
            return await super().send(call)
        return await super().send(replace(call, headers=(*call.headers, VERSION)))

    async def count(self, call: Call) -> int:
        """Asks the cloud, which is free.  `call.body` is a message request."""
        try:
            body = loads(call.body)
        except ValueError:
            body = None
        if call.dialect != "anthropic" or not isinstance(body, dict):
            raise BackendError("unsupported", "only a request in Anthropic's own form can be counted")
        asked = {name: body[name] for name in COUNTED if name in body}
        answer = await self.get_json("/v1/messages/count_tokens", method="POST", body=asked, timeout=COUNT_SECONDS)
        count = count_of(within(answer, "input_tokens"))
        if count is None:
            raise BackendError("malformed", "its answer has no 'input_tokens'")
        return count


def _named(entry: Mapping[str, Any]) -> bool:
    return isinstance(entry.get("id"), str) and bool(entry["id"])


def _model(entry: Mapping[str, Any]) -> Model:
    """What is served in the cloud is served now.  The list's own word goes before the table's."""
    known = family(entry["id"]) or NEWEST
    said = {need: within(entry, "capabilities", key, "supported") for need, key in SAYS.items()}
    context = count_of(entry.get("max_input_tokens")) or known.context
    return Model(
        id=entry["id"],
        offers={**(known.offers if known is not NEWEST else _SURE), **{n: yes for n, yes in said.items() if isinstance(yes, bool)}},
        context=context,
        context_max=context,
        max_output_tokens=count_of(entry.get("max_tokens")) or known.max_output,
        state=State.READY,
        speaks=SPEAKS,
    )
