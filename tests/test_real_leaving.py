"""The client goes: llama.cpp stops working for it at once.  And the queue in front of a server with one slot."""

import asyncio

import pytest

from .asking import a_backend, fleet
from .real import ENDLESS, HI, MODEL, SAYS, busy_slots, real, until_busy

ID = "a-request"
ASKED_AS = {"X-Request-Id": ID}


def home(server, **more):
    return fleet(a_backend("home", server, "llamacpp", **more))


def begin(coro):
    return asyncio.get_running_loop().create_task(coro)


async def test_the_client_closes_a_stream(llamacpp, nexus_gateway):
    server = llamacpp(ctx=65_536)
    async with real(nexus_gateway, home(server)) as at:
        stream = await at.client.chat.completions.create(model=MODEL, messages=HI, stream=True, extra_headers=ASKED_AS, **ENDLESS)
        chunks = [chunk async for chunk, _ in _some(stream, 20)]
        assert await busy_slots(server) == 1
        await stream.close()
        await until_busy(server, 0)
        await at.idle()
        story = await at.story(ID)
    assert len(chunks) == 20
    assert (story["outcome"], story["code"]) == ("client_left", "client_left")
    assert [attempt["outcome"] for attempt in story["attempts"]] == ["left"]
    assert story["usage"]["source"] == "counted"
    assert story["usage"]["output_tokens"] >= 15
    assert story["timings"]["first_byte_ms"] > 0


async def test_the_client_leaves_before_the_first_byte(llamacpp, nexus_gateway):
    """llama.cpp itself looks for its client only when it streams; Nexus hangs up at once."""
    server = llamacpp(ctx=65_536)
    async with real(nexus_gateway, home(server)) as at:
        asking = begin(at.client.chat.completions.create(model=MODEL, messages=HI, extra_headers=ASKED_AS, **ENDLESS))
        await until_busy(server)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await at.idle()
        story = await at.story(ID)
        answer = await at.client.chat.completions.create(model=MODEL, messages=HI)
    assert (story["outcome"], story["code"]) == ("client_left", "client_left")
    assert answer.choices[0].message.content.strip() == SAYS


async def test_the_client_leaves_the_queue(llamacpp, nexus_gateway):
    server = llamacpp(ctx=65_536, parallel=1)
    async with real(nexus_gateway, home(server)) as at:
        first = await at.client.chat.completions.create(model=MODEL, messages=HI, stream=True, **ENDLESS)
        waiting = begin(at.client.chat.completions.create(model=MODEL, messages=HI, extra_headers=ASKED_AS))
        await at.until(lambda: len(at.gateway.gateway.waiting) == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        story = await at.story(ID)
        assert len(at.gateway.gateway.waiting) == 0
        assert at.in_flight == 1
        await first.close()
        await at.idle()
    assert story["outcome"] == "client_left"
    assert story["attempts"] == []


async def test_one_slot_serves_six_one_after_the_other_in_order(llamacpp, nexus_gateway):
    server = llamacpp(ctx=65_536, parallel=1)
    async with real(nexus_gateway, home(server)) as at:
        first = await at.client.chat.completions.create(model=MODEL, messages=HI, stream=True, **ENDLESS)
        tasks = []
        for place in range(6):
            asked = {"model": MODEL, "messages": HI, "extra_headers": {"X-Request-Id": f"in-place-{place}"}}
            tasks.append(begin(at.client.chat.completions.with_raw_response.create(**asked)))
            await at.until(lambda place=place: len(at.gateway.gateway.waiting) == place + 1)
        await first.close()
        answers = await asyncio.gather(*tasks)
        await at.idle()
        stories = await at.stories()
    assert [answer.status_code for answer in answers] == [200] * 6
    assert {answer.parse().choices[0].message.content.strip() for answer in answers} == {SAYS}
    assert all(int(answer.headers["X-Nexus-Queue-Ms"]) >= 0 for answer in answers)
    served = [story["request"]["id"] for story in stories if story["outcome"] == "ok"]
    assert served == [f"in-place-{place}" for place in range(6)]


async def _some(stream, count):
    """The first chunks of a stream, numbered."""
    number = 0
    async for chunk in stream:
        number += 1
        yield chunk, number
        if number == count:
            return
