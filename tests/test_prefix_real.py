"""The stage `prefix` and the prompt cache of the real llama.cpp: what it finds again of Claude Code's prompts, with and without.

`pytest -q -s tests/test_prefix_real.py` prints the figures that the package's README shows.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import attrs
import pytest
from nexus_prefix.header import without

from nexus.testing.async_fixtures import StartGateway
from nexus.testing.gateway import RunningGateway

from .asking import a_backend, settled
from .conftest import StartLlamaCpp
from .llamacpp.process import LlamaCpp

HEADER = "x-anthropic-billing-header: cc_version=2.1.{}; cc_entrypoint=sdk-cli;{}"
RULES = "\n".join(
    f"{number}. The user can ask you to read a file, set a string or go on; say no when in doubt." for number in range(60)
)
SYSTEM = f"You are an agent.\n{RULES}"

# Two conversations of a version of today; two requests of one conversation of an older version.
PAIRS = {
    "the next conversation": ((HEADER.format("330.440", ""), "say hi"), (HEADER.format("330.f8c", ""), "what is a file")),
    "the next request": ((HEADER.format("37.0d9", " cch=fa690;"), "say hi"), (HEADER.format("37.0d9", " cch=1c8b4;"), "say hi")),
}


@attrs.frozen
class Cached:
    """Tokens of the second prompt: all of them, and those that the server had from the first."""

    prompt: int
    cached: int

    @property
    def share(self) -> float:
        return self.cached / self.prompt


def openai_body(header: str, asked: str) -> bytes:
    """The prompt as it is after translation: the system blocks in one message."""
    messages = [{"role": "system", "content": f"{header}\n{SYSTEM}"}, {"role": "user", "content": asked}]
    return json.dumps({"model": LlamaCpp.model, "messages": messages, "max_tokens": 4}).encode()


def anthropic_body(header: str, asked: str) -> bytes:
    """The prompt as Claude Code sends it."""
    system = [{"type": "text", "text": header}, {"type": "text", "text": SYSTEM, "cache_control": {"type": "ephemeral"}}]
    body = {"model": LlamaCpp.model, "messages": [{"role": "user", "content": asked}], "system": system, "max_tokens": 4}
    return json.dumps(body).encode()


async def gateway_before(server: LlamaCpp, start: StartGateway, enabled: bool) -> RunningGateway:
    return await settled(await start({"backends": [a_backend("real", server.url, "llamacpp")], "prefix": {"enabled": enabled}}))


async def posted(client: aiohttp.ClientSession, path: str, body: bytes) -> tuple[Any, Mapping[str, str]]:
    async with client.post(path, data=body, headers={"Content-Type": "application/json"}) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json(), answer.headers


def judged(form: str, pair: str, on: bool, seen: Cached) -> None:
    """Print the figures, and hold them to what the stage is for."""
    print(f"\n{form}, {pair}, prefix {'on' if on else 'off'}: {seen.cached} of {seen.prompt} tokens cached ({seen.share:.1%})")
    assert seen.prompt > 1500
    assert seen.share > 0.95 if on else seen.share < 0.05


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
async def test_translated_prompts(llamacpp: StartLlamaCpp, nexus_gateway: StartGateway, pair: str, on: bool) -> None:
    gateway = await gateway_before(llamacpp(parallel=1), nexus_gateway, on)
    for header, asked in PAIRS[pair]:
        said, headers = await posted(gateway.client, "/v1/chat/completions", openai_body(header, asked))
        assert headers.get("X-Nexus-Prefix") == ("stabilised" if on else None)
    usage = said["usage"]
    judged("OpenAI's form", pair, on, Cached(usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]))


@pytest.mark.parametrize("on", [False, True], ids=["off", "on"])
async def test_prompts_in_their_own_form(llamacpp: StartLlamaCpp, on: bool) -> None:
    """What the server's own `/v1/messages` makes of them.  Newer servers know `cch` themselves, but not the rest of the line."""
    pair = "the next conversation"
    async with aiohttp.ClientSession(llamacpp(parallel=1).url) as client:
        for header, asked in PAIRS[pair]:
            body = anthropic_body(header, asked)
            said, _ = await posted(client, "/v1/messages", without(body) if on else body)
    cached = said["usage"]["cache_read_input_tokens"]
    judged("Anthropic's form", pair, on, Cached(cached + said["usage"]["input_tokens"], cached))
