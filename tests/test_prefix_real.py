"""The stage `prefix` and the prompt cache of the real llama.cpp: what it finds again of Claude Code's prompts, with and without.

Every prompt goes the way of a client's: in Anthropic's form to the gateway, and from there as the stage and the dialects make it.
`pytest -q -s tests/test_prefix_real.py` prints the figures that the package's README shows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from nexus.testing.async_fixtures import StartGateway

from .asking import a_backend, settled
from .clients.tap import Tap
from .conftest import StartLlamaCpp
from .llamacpp.process import LlamaCpp

HEADER = "x-anthropic-billing-header: cc_version=2.1.{}; cc_entrypoint=sdk-cli;{}"
RULES = "\n".join(
    f"{number}. The user can ask you to read a file, set a string or go on; say no when in doubt." for number in range(60)
)
SYSTEM = f"You are an agent.\n{RULES}"

# Two conversations of a version of today; two requests of one conversation of an older version.
CONVERSATION, REQUEST = "the next conversation", "the next request with another `cch`"
PAIRS = {
    CONVERSATION: ((HEADER.format("330.440", ""), "say hi"), (HEADER.format("330.f8c", ""), "what is a file")),
    REQUEST: ((HEADER.format("37.0d9", " cch=fa690;"), "say hi"), (HEADER.format("37.0d9", " cch=1c8b4;"), "say hi")),
}


@attrs.frozen
class Way:
    """How a prompt reaches the server: what the configuration calls it, and the path that this means."""

    type: str
    path: str


# Told to be OpenAI-compatible, a server is spoken to in that dialect only.
WAYS = {
    "translated": Way("openai-compatible", "/v1/chat/completions"),
    "`/v1/messages`": Way("llamacpp", "/v1/messages"),
}
# Newer servers know `cch` themselves on their own /v1/messages, but not the rest of the line.
MEASURED = [("translated", CONVERSATION), ("translated", REQUEST), ("`/v1/messages`", CONVERSATION)]


@attrs.frozen
class Cached:
    """Tokens of the second prompt: all of them, and those that the server had from the first."""

    prompt: int
    cached: int

    @property
    def share(self) -> float:
        return self.cached / self.prompt


@pytest.fixture
def tapped(llamacpp: StartLlamaCpp) -> Iterator[Tap]:
    """The way to a server with one slot, and so with one prompt in its cache."""
    server = llamacpp(parallel=1)
    tap = Tap(server.port)
    yield tap
    server.kill()
    tap.close()


def asked(header: str, words: str) -> bytes:
    """The prompt as Claude Code sends it."""
    system = [{"type": "text", "text": header}, {"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    body = {"model": LlamaCpp.model, "messages": [{"role": "user", "content": words}], "system": system, "max_tokens": 4}
    return json.dumps(body).encode()


def cached(usage: Any) -> Cached:
    """What Anthropic's usage says."""
    found = usage["cache_read_input_tokens"]
    return Cached(found + usage["input_tokens"], found)


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
@pytest.mark.parametrize(("way", "pair"), MEASURED)
async def test_prompts_are_found_in_the_cache(tapped: Tap, nexus_gateway: StartGateway, way: str, pair: str, on: bool) -> None:
    backend = a_backend("real", tapped.url, WAYS[way].type)
    gateway = await settled(await nexus_gateway({"backends": [backend], "prefix": {"enabled": on}}))
    for header, words in PAIRS[pair]:
        sent = {"data": asked(header, words), "headers": {"Content-Type": "application/json", "anthropic-version": "2023-06-01"}}
        async with gateway.client.post("/v1/messages?beta=true", **sent) as answer:
            said = await answer.json()
            assert answer.status == 200, said
            assert answer.headers.get("X-Nexus-Prefix") == ("stabilised" if on else None)
    assert [path for path in tapped.posted if path in ("/v1/messages", "/v1/chat/completions")] == [WAYS[way].path] * 2
    seen = cached(said["usage"])
    print(f"\n{way}, {pair}, stage {'on' if on else 'off'}: {seen.cached:,} of {seen.prompt:,} tokens cached ({seen.share:.0%})")
    assert seen.prompt > 1500
    assert seen.share > 0.95 if on else seen.share < 0.05
