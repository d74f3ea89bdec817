"""Which connection serves whom, how long one is kept, and that none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import resource
import threading
import weakref

import pytest

from nexus.api import BackendError, Upstream
from nexus.upstream import Pool
from nexus.upstream.pool import Exchange

HI = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"


def test_a_pool_is_an_upstream():
    upstream: Upstream = Pool()
    assert upstream.exchange


async def test_one_connection_serves_one_after_another(replies, pool, fetch):
    server = await replies(HI)
    for _ in range(20):
        assert await fetch(pool, server.url, "POST", body=b"x") == (200, b"hi", "")
    assert server.accepted == 1
    assert (pool.open_connections, pool.idle_connections) == (1, 1)


async def test_an_answer_that_nobody_read_still_frees_the_connection(replies, pool):
    server = await replies(HI)
    for _ in range(3):
        async with await pool.exchange("GET", server.url) as answer:
            assert answer.status == 200
    assert server.accepted == 1


async def test_the_body_outlives_the_connection(replies, pool, gather):
    """The connection is free once the answer is whole, and the next exchange does not disturb the first."""
    server = await replies(HI)
    async with await pool.exchange("GET", server.url) as first:
        async with await pool.exchange("GET", server.url) as second:
            assert await gather(second) == b"hi"
        assert await gather(first) == b"hi"
    assert server.accepted == 1
    assert pool.idle_connections == 1


async def test_last_in_first_out(serve, pool, fetch):
    """So that the ones that are not needed grow old."""
    peers = []

    async def handler(peer):
        peers.append(peer)
        while await peer.request():
            await both.wait()
            await peer.send(HI)
            peer.served = getattr(peer, "served", 0) + 1

    both = asyncio.Barrier(2)
    server = await serve(handler)
    await asyncio.gather(fetch(pool, server.url), fetch(pool, server.url))
    both = asyncio.Barrier(1)
    for _ in range(5):
        await fetch(pool, server.url)
    assert sorted(peer.served for peer in peers) == [1, 6]


async def test_origins_do_not_share(replies, pool, fetch):
    servers = [await replies(HI), await replies(HI)]
    for _ in range(2):
        for server in servers:
            await fetch(pool, server.url)
    assert [server.accepted for server in servers] == [1, 1]
    assert pool.idle_connections == 2


async def test_idle_ones_are_bounded(serve, make_pool, fetch, until):
    pool = make_pool(max_idle_per_origin=3)
    together = asyncio.Barrier(8)

    async def handler(peer):
        while await peer.request():
            await together.wait()
            await peer.send(HI)

    server = await serve(handler)
    await asyncio.gather(*(fetch(pool, server.url) for _ in range(8)))
    await until(lambda: pool.open_connections == 3)
    assert pool.idle_connections == 3


async def test_the_sweep_closes_what_is_idle_for_long(replies, make_pool, hands, fetch, until):
    pool = make_pool(idle_seconds=30)
    server = await replies(HI)
    await fetch(pool, server.url)
    pool.sweep(hands.now + 29.9)
    assert pool.idle_connections == 1
    pool.sweep(hands.now + 30)
    assert pool.idle_connections == 0
    await until(lambda: pool.open_connections == 0)
    assert await fetch(pool, server.url) == (200, b"hi", "")
    assert server.accepted == 2


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
async def test_an_idle_connection_that_ends_or_speaks_is_dropped(farewell, serve, pool, fetch, until):
    leave = asyncio.Event()

    async def handler(peer):
        await peer.request()
        await peer.send(HI)
        await leave.wait()
        await peer.send(farewell)

    server = await serve(handler)
    await fetch(pool, server.url)
    assert pool.idle_connections == 1
    leave.set()
    await until(lambda: pool.open_connections == 0)
    assert pool.idle_connections == 0
    assert await fetch(pool, server.url) == (200, b"hi", "")


async def test_a_connection_that_is_about_to_go_is_not_taken(replies, pool, fetch):
    """asyncio says that it is lost one turn of the loop later."""
    server = await replies(HI)
    await fetch(pool, server.url)
    (connection,) = pool._connections
    connection.drop()
    assert await fetch(pool, server.url) == (200, b"hi", "")
    assert server.accepted == 2


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_a_kept_connection_that_dies_on_the_request_says_so(how, serve, pool, fetch):
    """The caller may then ask once more, and does not meet the next dead one."""
    together = asyncio.Barrier(2)
    dead = False

    async def handler(peer):
        while await peer.request():
            if dead:
                if how == "rst":
                    peer.reset()
                return
            await together.wait()
            await peer.send(HI)

    server = await serve(handler)
    await asyncio.gather(fetch(pool, server.url), fetch(pool, server.url))
    assert pool.idle_connections == 2
    dead = True
    with pytest.raises(BackendError) as caught:
        async with await pool.exchange("POST", server.url, body=b"x"):
            pytest.fail("there is no answer")
    assert (caught.value.code, caught.value.reused, caught.value.sent) == ("reset", True, True)
    assert pool.idle_connections == 0


async def test_after_a_kept_connection_died_whoever_asks_again_gets_a_new_one(serve, pool, hands, fetch, until):
    """Also where another has been released in between: a server that closes after its answers closes that one too."""
    both, slow, dead = asyncio.Barrier(2), asyncio.Event(), False

    async def handler(peer):
        while request := await peer.request():
            if b"/slow" in request:
                await slow.wait()
            elif dead:
                return
            else:
                await both.wait()
            await peer.send(HI)

    server = await serve(handler)
    await asyncio.gather(fetch(pool, server.url), fetch(pool, server.url))
    slowly = asyncio.get_running_loop().create_task(fetch(pool, server.url + "/slow"))
    await until(lambda: pool.idle_connections == 1)
    dead = True
    assert (await fetch(pool, server.url))[2] == "reset"
    slow.set()
    assert await slowly == (200, b"hi", "")
    assert pool.idle_connections == 0
    both, dead = asyncio.Barrier(1), False
    hands.now += 1
    for _ in range(2):
        assert await fetch(pool, server.url) == (200, b"hi", "")
    assert server.accepted == 3


async def test_a_fresh_connection_that_dies_is_no_reused_one(serve, pool):
    async def handler(peer):
        await peer.request()

    server = await serve(handler)
    with pytest.raises(BackendError) as caught:
        async with await pool.exchange("GET", server.url):
            pytest.fail("there is no answer")
    assert (caught.value.code, caught.value.reused, caught.value.sent) == ("reset", False, True)


async def test_a_failed_exchange_leaves_no_knot(serve, pool, monkeypatch):
    """Freed at once, not by the garbage collector: under load there are many."""

    async def handler(peer):
        await peer.request()

    class Watched(Exchange):
        def __init__(self, *given):
            super().__init__(*given)
            answers.append(weakref.ref(self))

    answers = []
    monkeypatch.setattr("nexus.upstream.pool.Exchange", Watched)
    server = await serve(handler)
    gc.disable()
    try:
        with contextlib.suppress(BackendError):
            await pool.exchange("GET", server.url)
        assert answers[0]() is None
    finally:
        gc.enable()


async def test_half_an_answer_on_a_kept_connection_is_a_cut(serve, pool, fetch):
    """A byte of the answer has come, so asking again would be a second attempt."""

    async def handler(peer):
        await peer.request()
        await peer.send(HI)
        await peer.request()
        await peer.send(b"H")

    server = await serve(handler)
    await fetch(pool, server.url)
    with pytest.raises(BackendError) as caught:
        async with await pool.exchange("GET", server.url):
            pytest.fail("there is no answer")
    assert (caught.value.code, caught.value.reused) == ("cut", False)


async def test_close_ends_idle_and_open_ones(serve, pool, fetch, until):
    """An open exchange hears of it, and nothing new begins."""

    async def handler(peer):
        while request := await peer.request():
            await peer.send(HI if request.startswith(b"GET /whole") else HI[:-1])

    server = await serve(handler)
    await asyncio.gather(fetch(pool, server.url + "/whole"), fetch(pool, server.url + "/whole"))
    async with await pool.exchange("GET", server.url) as answer:
        assert await answer.read() == b"h"
        await pool.close()
        assert pool.open_connections == 0
        with pytest.raises(BackendError, match="cut"):
            await answer.read()
    assert (await fetch(pool, server.url))[2] == "connect_failed"


async def test_a_pool_belongs_to_one_loop(replies, pool, fetch):
    server = await replies(HI)
    await fetch(pool, server.url)
    problems = []

    def elsewhere():
        with contextlib.suppress(BackendError), pytest.raises(RuntimeError, match="event loop") as caught:
            asyncio.run(fetch(pool, server.url))
        problems.append(caught.value)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(problems) == 1


async def test_run_sweeps_by_itself(replies, make_pool, fetch, until):
    pool = make_pool(idle_seconds=0)
    server = await replies(HI)
    await fetch(pool, server.url)
    async with asyncio.TaskGroup() as group:
        sweeper = group.create_task(pool.run())
        await until(lambda: pool.open_connections == 0)
        sweeper.cancel()


@pytest.fixture
def many_files():
    """A thousand exchanges need two thousand sockets, for the server is here too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 4096 if hard == resource.RLIM_INFINITY else min(4096, hard)
    if wanted < 2500:
        pytest.skip("too few file descriptors")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_thousand_at_once(many_files, serve, make_pool, fetch, until):
    """All of them open together; a third is left early, a third dies; nothing stays."""
    pool = make_pool(connect_timeout=60)
    together = asyncio.Barrier(1000)

    async def handler(peer):
        while request := await peer.request():
            await together.wait()
            await peer.send(HI[:-1] if b"/leave" in request or b"/die" in request else HI)
            if b"/die" in request:
                return

    async def leave(url):
        async with await pool.exchange("GET", url + "/leave") as answer:
            return await answer.read()

    server = await serve(handler)
    acts = (fetch, lambda _, url: leave(url), lambda pool, url: fetch(pool, url + "/die"))
    results = await asyncio.gather(*(acts[number % 3](pool, server.url) for number in range(1000)))
    assert results[0::3] == [(200, b"hi", "")] * 334
    assert results[1::3] == [b"h"] * 333
    assert results[2::3] == [(200, b"h", "cut")] * 333
    assert server.accepted == 1000
    await until(lambda: pool.open_connections == pool.idle_connections)
    assert pool.idle_connections == 64
