"""Real servers that die in the middle of work, and come back."""

import asyncio
import itertools

import attrs
import openai
import pytest

from nexus.model import Health

from .asking import a_backend, fleet
from .real import ENDLESS, HI, MODEL, SAYS, eventually, real

# A server that went is noticed, and believed again, within a second.
QUICK = {"interval_seconds": 0.5, "failure_threshold": 1, "recovery_threshold": 1, "eject_seconds": 0.5}
TOKENS = 60  # of each stream of the burst


def two(one, other, **tables):
    return fleet(a_backend("one", one, "llamacpp"), a_backend("other", other, "llamacpp"), **tables)


@attrs.define
class Burst:
    """Requests, whole and streamed in turn, at most 20 at one time; and how each ended."""

    client: openai.AsyncOpenAI
    reasons: list[str] = attrs.field(factory=list)
    ended: int = 0
    finished: list[str] = attrs.field(factory=list)  # backends of streams that came to their end
    broken: list[str] = attrs.field(factory=list)  # backends of streams that broke off
    said: set[str] = attrs.field(factory=set)  # how those were told
    half: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def run(self, count):
        """Raises what the client raises where a request fails before its first byte."""
        gate = asyncio.Semaphore(20)
        async with asyncio.TaskGroup() as group:
            for ask in itertools.islice(itertools.cycle((self._whole, self._streamed)), count):
                group.create_task(self._one(ask, gate, count))

    async def _one(self, ask, gate, count):
        async with gate:
            await ask()
        self.ended += 1
        if self.ended == count // 3:
            self.half.set()

    async def _whole(self):
        raw = await self.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
        self.reasons.append(raw.headers["X-Nexus-Route-Reason"])
        assert raw.parse().choices[0].message.content.strip() == SAYS

    async def _streamed(self):
        longer = {"max_tokens": TOKENS, "extra_body": {"ignore_eos": True}, "stream_options": {"include_usage": True}}
        raw = await self.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True, **longer)
        self.reasons.append(raw.headers["X-Nexus-Route-Reason"])
        chunks = []
        try:
            async for chunk in raw.parse():
                chunks.append(chunk)
        except openai.APIError as error:
            self.broken.append(raw.headers["X-Nexus-Backend"])
            self.said.add(error.message.partition(":")[0])
        else:
            assert chunks[-1].usage.completion_tokens == TOKENS
            self.finished.append(raw.headers["X-Nexus-Backend"])


async def test_one_of_two_servers_is_killed_in_the_middle_of_a_burst(llamacpp, nexus_gateway):
    servers = {"one": llamacpp(ctx=65_536, parallel=4), "other": llamacpp(ctx=65_536, parallel=4)}
    async with real(nexus_gateway, two(**servers)) as at:
        begun = await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True, **ENDLESS)
        doomed = begun.headers["X-Nexus-Backend"]
        stream = begun.parse()
        await anext(stream)
        burst = Burst(at.client)

        async def kill():
            await burst.half.wait()
            await asyncio.to_thread(servers[doomed].kill)

        killing = asyncio.get_running_loop().create_task(kill())
        await burst.run(120)
        await killing
        with pytest.raises(openai.APIError, match="broke off"):
            async for _ in stream:
                pass
        await at.idle()
        assert burst.ended == 120
        assert set(burst.broken) <= {doomed}
        assert burst.said <= {f"the backend {doomed!r} broke off in the middle of its answer"}
        assert len(burst.finished) + len(burst.broken) == 60
        assert "failover" in burst.reasons
        stories = await at.stories()
    assert len(stories) == 121
    assert sum(story["outcome"] == "broken" for story in stories) == len(burst.broken) + 1
    assert all(story["status"] == 200 for story in stories)


async def test_a_server_that_comes_back_is_used_again(llamacpp, nexus_gateway):
    first, second = llamacpp(), llamacpp()
    async with real(nexus_gateway, two(first, second, health=QUICK)) as at:

        async def who():
            raw = await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
            return raw.headers["X-Nexus-Backend"], raw.headers["X-Nexus-Attempts"]

        async def one_again():
            return await who() == ("one", "1")

        def health():
            return at.gateway.gateway.fleet.standings["one"].pulse.health

        assert await who() == ("one", "1")
        await asyncio.to_thread(first.kill)
        assert await who() == ("other", "2")
        await at.until(lambda: health() is Health.UNHEALTHY)
        assert await who() == ("other", "1")
        await asyncio.to_thread(first.start)
        await eventually(one_again)
        await at.idle()


async def test_a_restart_between_two_requests_costs_no_attempt(llamacpp, nexus_gateway):
    """The connections of the pool have died, which is nobody's fault."""
    server = llamacpp()
    async with real(nexus_gateway, fleet(a_backend("one", server, "llamacpp"))) as at:
        for _ in range(3):
            raw = await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
            assert (raw.status_code, raw.headers["X-Nexus-Attempts"]) == (200, "1")
            await asyncio.to_thread(server.restart)
        await at.idle()


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_server_dies_under_a_request(llamacpp, nexus_gateway, stream):
    server = llamacpp(ctx=65_536)
    async with real(nexus_gateway, fleet(a_backend("one", server, "llamacpp"))) as at:
        if stream:
            began = await at.client.chat.completions.create(model=MODEL, messages=HI, stream=True, **ENDLESS)
            await anext(began)
        else:
            asking = asyncio.get_running_loop().create_task(at.client.chat.completions.create(model=MODEL, messages=HI, **ENDLESS))
            await at.until(lambda: at.in_flight == 1)
        await asyncio.to_thread(server.kill)
        if stream:
            with pytest.raises(openai.APIError, match="broke off"):
                async for _ in began:
                    pass
        else:
            with pytest.raises(openai.InternalServerError) as raised:
                await asking
            assert (raised.value.status_code, raised.value.code) == (502, "all_attempts_failed")
        await at.idle()
