"""The order of things: home before cloud, overflow, the next leg, the queue; the reason each answer gives; its headers."""

import asyncio

import pytest

from nexus.testing import FakeModel, Held, Respond, llamacpp_server, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled

OK = Respond(json={"choices": [{"message": {}}], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}})


def begin(coro):
    return asyncio.get_running_loop().create_task(coro)


async def occupied(gateway, server, gate, model="tiny"):
    """A request that holds the server until `gate`."""
    server.next(Held(gate, OK), path=CHAT)
    asking = begin(ask(gateway, model))
    await server.until(lambda: server.in_flight >= 1)
    return asking


# ---------------------------------------------------------------- home, overflow, next leg, queue


async def test_home_comes_before_cloud_whatever_the_priority(nexus_gateway):
    async with openai_server() as home, openai_server() as cloud:
        gateway = await settled(await nexus_gateway(fleet(a_backend("cloud", cloud, "openai"), a_backend("home", home))))
        said = await ask(gateway)
        assert (said.nexus("Backend"), said.nexus("Backend-Type"), said.nexus("Route-Reason")) == (
            "home",
            "local",
            "capability-match",
        )
        home.kill()
        said = await ask(gateway)
        assert (said.nexus("Backend"), said.nexus("Backend-Type"), said.nexus("Route-Reason")) == ("cloud", "cloud", "failover")
        assert said.nexus("Attempts") == "2"


async def test_a_busy_home_overflows_to_cloud_then_to_the_next_leg_then_to_the_queue(nexus_gateway):
    gate = asyncio.Event()
    async with openai_server(["big"]) as home, openai_server(["big"]) as cloud, openai_server(["spare"]) as spare:
        config = fleet(
            a_backend("home", home, max_concurrent=1),
            a_backend("cloud", cloud, "openai", max_concurrent=1),
            a_backend("spare", spare, max_concurrent=1),
            routing={"fallbacks": {"big": ["spare"]}},
        )
        gateway = await settled(await nexus_gateway(config))
        first = await occupied(gateway, home, gate, "big")
        second = await occupied(gateway, cloud, gate, "big")
        third = await occupied(gateway, spare, gate, "big")
        fourth = begin(ask(gateway, "big"))
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        queue = (await page(gateway, "/nexus/queue")).json
        assert (queue["depth"]["normal"], queue["waiting"][0]["for"]) == (1, ["cloud", "home", "spare"])
        gate.set()
        answers = await asyncio.gather(first, second, third, fourth)
    told = [(a.nexus("Backend"), a.nexus("Route-Reason"), a.nexus("Fallback-Model")) for a in answers[:3]]
    assert told == [
        ("home", "capability-match", None),
        ("cloud", "capacity-overflow", None),
        ("spare", "fallback", "spare"),
    ]
    assert [a.nexus("Queue-Ms") is None for a in answers] == [True, True, True, False]
    assert answers[3].status == 200


async def test_overflow_after_waits_for_home(nexus_gateway):
    gate = asyncio.Event()
    async with openai_server() as home, openai_server() as cloud:
        backends = a_backend("home", home, max_concurrent=1), a_backend("cloud", cloud, "openai")
        gateway = await settled(await nexus_gateway(fleet(*backends, queue={"overflow_after_seconds": 60, "max_wait_seconds": 90})))
        first = await occupied(gateway, home, gate)
        second = begin(ask(gateway))
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        assert not chats(cloud)
        gate.set()
        assert [(await task).nexus("Backend") for task in (first, second)] == ["home", "home"]
        assert not chats(cloud)


@pytest.mark.parametrize("queue", [{"overflow_after_seconds": 0.1}, {"overflow_after_seconds": 60, "max_wait_seconds": 0.1}])
async def test_what_waits_for_home_goes_to_the_cloud_when_its_time_is_over(nexus_gateway, queue):
    gate = asyncio.Event()
    async with openai_server() as home, openai_server() as cloud:
        backends = a_backend("home", home, max_concurrent=1), a_backend("cloud", cloud, "openai")
        gateway = await settled(await nexus_gateway(fleet(*backends, queue=queue)))
        first = await occupied(gateway, home, gate)
        began = asyncio.get_running_loop().time()
        said = await ask(gateway)
        assert (said.nexus("Backend"), said.nexus("Route-Reason")) == ("cloud", "capacity-overflow")
        assert asyncio.get_running_loop().time() - began >= 0.1
        gate.set()
        await first


async def test_a_full_queue_is_no_reason_to_refuse_what_the_cloud_can_take(nexus_gateway):
    gate = asyncio.Event()
    async with openai_server() as home, openai_server() as cloud:
        backends = a_backend("home", home, max_concurrent=1), a_backend("cloud", cloud, "openai")
        gateway = await settled(await nexus_gateway(fleet(*backends, queue={"overflow_after_seconds": 60, "max_requests": 0})))
        first = await occupied(gateway, home, gate)
        assert (await ask(gateway)).nexus("Backend") == "cloud"
        gate.set()
        await first


# ---------------------------------------------------------------- reasons


async def test_the_reason_privacy_requirement(nexus_gateway):
    async with openai_server() as first, openai_server() as second:
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("first", first), a_backend("second", second, zone="restricted")))
        )
        plain = await ask(gateway)
        bound = await ask(gateway, headers={"X-Nexus-Zone": "restricted"})
    assert (plain.nexus("Backend"), plain.nexus("Route-Reason")) == ("first", "capability-match")
    assert (bound.nexus("Backend"), bound.nexus("Route-Reason")) == ("second", "privacy-requirement")


async def test_a_pair_of_the_same_priority_would_have_come_first_too(nexus_gateway):
    async with openai_server() as first, openai_server() as second:
        backends = a_backend("first", first, priority=7), a_backend("second", second, priority=7, zone="restricted")
        gateway = await settled(await nexus_gateway(fleet(*backends)))
        bound = await ask(gateway, headers={"X-Nexus-Zone": "restricted"})
    assert (bound.nexus("Backend"), bound.nexus("Route-Reason")) == ("second", "privacy-requirement")


async def test_a_refusal_by_zone_is_no_reason_where_the_pair_would_not_have_come_first(nexus_gateway):
    async with openai_server() as first, openai_server() as second:
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("first", first, zone="restricted"), a_backend("second", second)))
        )
        said = await ask(gateway, headers={"X-Nexus-Zone": "restricted"})
    assert (said.nexus("Backend"), said.nexus("Route-Reason")) == ("first", "capability-match")


async def test_nor_where_the_pair_is_preferred_by_the_operator_but_busier(nexus_gateway):
    """What the stages say counts as well: the one with the better priority would have waited its turn."""
    gate = asyncio.Event()
    async with openai_server() as far, openai_server() as home:
        config = fleet(a_backend("far", far), a_backend("home", home, zone="restricted", priority=50))
        gateway = await settled(await nexus_gateway(config | {"balance": {"strategy": "least_busy"}}))
        holding = await occupied(gateway, far, gate)
        said = await ask(gateway, headers={"X-Nexus-Zone": "restricted"})
        gate.set()
        await holding
    assert (said.nexus("Backend"), said.nexus("Route-Reason")) == ("home", "capability-match")


async def test_failover_goes_before_every_other_reason(nexus_gateway):
    async with openai_server(["big"]) as one, openai_server(["spare"]) as two:
        config = fleet(a_backend("one", one), a_backend("two", two), routing={"fallbacks": {"big": ["spare"]}})
        gateway = await settled(await nexus_gateway(config))
        one.next(Respond(500, json={}), path=CHAT)
        said = await ask(gateway, "big")
        assert (said.nexus("Route-Reason"), said.nexus("Fallback-Model"), said.nexus("Attempts")) == ("failover", "spare", "2")
        assert said.nexus("Rejection-Reasons") is None


async def test_a_pair_that_was_tried_is_not_tried_again(nexus_gateway):
    async with openai_server() as one, openai_server() as two:
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("one", one), a_backend("two", two), routing={"max_attempts": 9}))
        )
        for server in (one, two):
            server.next(*[Respond(500, json={})] * 9, path=CHAT)
        said = await ask(gateway)
        assert (said.status, said.nexus("Attempts")) == (502, "2")
        assert (len(chats(one)), len(chats(two))) == (1, 1)


async def test_no_more_attempts_than_are_allowed(nexus_gateway):
    async with openai_server() as one, openai_server() as two, openai_server() as three:
        servers = {"one": one, "two": two, "three": three}
        gateway = await settled(
            await nexus_gateway(fleet(*(a_backend(n, s) for n, s in servers.items()), routing={"max_attempts": 2}))
        )
        for server in servers.values():
            server.next(Respond(500, json={}), path=CHAT)
        said = await ask(gateway)
        assert (said.status, said.nexus("Attempts")) == (502, "2")
        assert not chats(three)


async def test_a_deadline_that_has_passed_is_not_blamed_on_the_next_backend(nexus_gateway):
    async with openai_server() as one, openai_server() as two:
        config = fleet(a_backend("one", one), a_backend("two", two), upstream={"first_byte_timeout_seconds": 0.2})
        gateway = await settled(await nexus_gateway(config))
        one.next(Held(asyncio.Event(), OK), path=CHAT)
        said = await ask(gateway, stream=True)
        assert (said.status, said.nexus("Attempts")) == (504, "1")
        assert not chats(two)
        (two_pair,) = gateway.gateway.fleet.standings["two"].pairs.values()
        assert two_pair.failures == 0


# ---------------------------------------------------------------- headers


@pytest.mark.parametrize("stream", [False, True])
async def test_every_answer_says_where_it_comes_from(nexus_gateway, stream):
    async with openai_server(["org/tiny:1b"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, zone="restricted"))))
        said = await ask(gateway, "org/tiny:1b", stream=stream, headers={"X-Request-Id": "my-id.1"})
    told = {name: value for name, value in said.headers.items() if name.startswith("X-Nexus-")}
    assert told == {
        "X-Nexus-Request-Id": "my-id.1",
        "X-Nexus-Backend": "one",
        "X-Nexus-Backend-Type": "local",
        "X-Nexus-Model": "org/tiny:1b",
        "X-Nexus-Privacy-Zone": "restricted",
        "X-Nexus-Route-Reason": "capability-match",
        "X-Nexus-Attempts": "1",
    }
    assert said.headers["Content-Type"].startswith("text/event-stream" if stream else "application/json")


@pytest.mark.parametrize("given", ["x" * 129, "a b", "é", ""])
async def test_a_request_id_that_is_long_or_odd_is_replaced(nexus_gateway, given):
    gateway = await nexus_gateway()
    said = await ask(gateway, headers={"X-Request-Id": given})
    assert said.nexus("Request-Id") not in (given, None, "")


async def test_a_models_name_cannot_break_a_header(nexus_gateway):
    async with openai_server([FakeModel("böse, X-Evil: 1"), FakeModel("böse\r\nX-Evil: 1")]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        said = await ask(gateway, "böse, X-Evil: 1")
        assert (said.status, said.nexus("Model")) == (200, "b\\xf6se, X-Evil: 1")
        refused = await ask(gateway, "böse, X-Evil: 1", headers={"X-Nexus-Zone": "restricted"})
        assert (refused.status, refused.nexus("Rejection-Reasons")) == (503, "one/b\\xf6se%2C X-Evil: 1=privacy:zone")
        broken = await ask(gateway, "böse\r\nX-Evil: 1")  # such a model is left out
        assert (broken.status, "X-Evil" in broken.headers) == (404, False)


async def test_what_the_server_reports_to_take_at_once_is_its_capacity(nexus_gateway):
    gate = asyncio.Event()
    async with llamacpp_server(capacity=2) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, "llamacpp"))))
        server.next(*[Held(gate, OK)] * 3, path=CHAT)
        tasks = [begin(ask(gateway)) for _ in range(3)]
        await gateway.until(lambda: len(gateway.gateway.waiting) == 1)
        await server.until(lambda: len(chats(server)) == 2)  # claimed at once, but their bytes may be under way
        gate.set()
        assert [a.status for a in await asyncio.gather(*tasks)] == [200] * 3
        assert gateway.gateway.fleet.standings["one"].in_flight == 0
