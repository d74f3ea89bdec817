"""What the tests with the real server and the real client share: a gateway in front of llama.cpp with the `openai` client at it.

No tests here.  The server itself is `tests/llamacpp`'s, the gateway is `nexus.testing`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import attrs
import openai

from nexus.testing.async_fixtures import StartGateway
from nexus.testing.gateway import RunningGateway
from nexus.testing.waits import POLL_SECONDS

from .asking import settled
from .llamacpp.process import LlamaCpp

MODEL = LlamaCpp.model
SAYS = "Hello from the tiny random llama model that our tests have made"  # whatever it is asked
HI: Any = [{"role": "user", "content": "hello"}]
# The model would stop after one sentence; with this it goes on for longer than any test.
ENDLESS: Any = {"max_tokens": 60_000, "extra_body": {"ignore_eos": True}}
KEY = "sk-of-the-client"


@attrs.frozen
class Real:
    """A gateway with an `openai` client that never retries: what is retried here, Nexus retries."""

    gateway: RunningGateway
    client: openai.AsyncOpenAI

    @property
    def base_url(self) -> str:
        return f"{self.gateway.url}/v1"

    @property
    def in_flight(self) -> int:
        return sum(standing.in_flight for standing in self.gateway.gateway.fleet.standings.values())

    async def until(self, predicate: Callable[[], object], timeout: float = 5.0) -> None:
        """Return as soon as `predicate()` is true.  Raises TimeoutError after `timeout` seconds."""
        await self.gateway.until(predicate, timeout)

    async def idle(self) -> None:
        """Return once no request is under way or waiting.  Raises TimeoutError where one stays."""
        await self.until(lambda: not self.in_flight and not len(self.gateway.gateway.waiting))

    async def story(self, id: str) -> Any:
        """What `/nexus/requests/{id}` tells of a request, once it has ended."""
        await self.until(lambda: self.gateway.gateway.components["history"].get(id))
        async with self.gateway.client.get(f"/nexus/requests/{id}") as answer:
            return await answer.json()

    async def stories(self) -> list[Any]:
        """All that `/nexus/requests` tells, the first to end first."""
        async with self.gateway.client.get("/nexus/requests?limit=1000") as answer:
            return list(reversed((await answer.json())["requests"]))


@asynccontextmanager
async def real(start: StartGateway, config: Mapping[str, Any]) -> AsyncIterator[Real]:
    """A gateway of this configuration whose backends have been probed."""
    gateway = await settled(await start(config))
    async with a_client(gateway.url) as client:
        yield Real(gateway, client)


@asynccontextmanager
async def a_client(url: str) -> AsyncIterator[openai.AsyncOpenAI]:
    """An `openai` client at the gateway of this URL."""
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0, timeout=10) as client:
        yield client


async def eventually(ask: Callable[[], Awaitable[Any]], timeout: float = 5.0) -> Any:
    """The first true answer to a question that is asked again and again.  Raises TimeoutError after `timeout` seconds."""
    async with asyncio.timeout(timeout):
        while not (answer := await ask()):
            await asyncio.sleep(POLL_SECONDS)
        return answer


async def busy_slots(server: LlamaCpp) -> int:
    """How many of its slots llama.cpp itself says are at work."""
    async with aiohttp.ClientSession(server.url) as session, session.get("/slots") as answer:
        return sum(slot["is_processing"] for slot in await answer.json())


async def until_busy(server: LlamaCpp, slots: int = 1) -> None:
    """Return once this many slots of the server are at work."""

    async def as_many() -> bool:
        return await busy_slots(server) == slots

    await eventually(as_many)


def text_of(chunks: list[Any]) -> str:
    """What the chunks of a streamed chat say."""
    return "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)


def data_of(error: openai.APIStatusError) -> Any:
    """The error object that the gateway sent."""
    return json.loads(error.response.content)["error"]
