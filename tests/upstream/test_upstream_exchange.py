"""Deadlines, back-pressure, early answers, giving up, and connections that do not come about."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket

import pytest

from nexus.api import BackendError

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"
STREAM = OK + b"Transfer-Encoding: chunked\r\n\r\n"
MIB = 1 << 20


@pytest.fixture
async def scripted(serve):
    """`await scripted(piece, …)`: a server that takes one request and sends the next piece whenever `server.go()` is called."""

    async def start(*pieces):
        gate = asyncio.Semaphore(0)
        asked, gone = asyncio.Event(), asyncio.Event()

        async def handler(peer):
            await peer.request()
            asked.set()
            for piece in pieces:
                await gate.acquire()
                await peer.send(piece)
            await peer.gone()
            gone.set()

        server = await serve(handler)
        server.go, server.asked, server.gone = gate.release, asked, gone
        return server

    return start


# ---- deadlines: only the sweep looks at the clock


async def test_no_answer_in_time(scripted, pool, hands):
    server = await scripted()
    async with asyncio.TaskGroup() as group:

        async def ask():
            with pytest.raises(BackendError) as caught:
                async with await pool.exchange("GET", server.url, first_byte_by=hands.now + 10, answer_by=hands.now + 20):
                    pytest.fail("there is no answer")
            return caught.value

        task = group.create_task(ask())
        await server.asked.wait()
        pool.sweep(hands.now + 9.9)
        await asyncio.sleep(0)
        assert not task.done()
        pool.sweep(hands.now + 10)
    problem = task.result()
    assert (problem.code, problem.sent, problem.reused, problem.timed_out) == ("first_byte_timeout", True, False, True)
    await server.gone.wait()


async def test_the_first_byte_is_one_of_the_body(scripted, pool, hands):
    """Servers send a head long before the first token; until then `idle_timeout` does not hold."""
    server = await scripted(STREAM)
    server.go()
    async with await pool.exchange("GET", server.url, first_byte_by=hands.now + 10, idle_timeout=2) as answer:
        assert answer.status == 200
        pool.sweep(hands.now + 9)
        pool.sweep(hands.now + 10)
        with pytest.raises(BackendError, match="first_byte_timeout"):
            await answer.read()


async def test_idle_in_the_middle(scripted, pool, hands):
    server = await scripted(STREAM + b"1\r\na\r\n", b"1\r\nb\r\n")
    server.go()
    async with await pool.exchange("GET", server.url, first_byte_by=hands.now + 1, idle_timeout=5) as answer:
        assert await answer.read() == b"a"
        hands.now += 4.9
        pool.sweep(hands.now)
        server.go()
        assert await answer.read() == b"b"
        pool.sweep(hands.now + 4.9)
        pool.sweep(hands.now + 5)
        with pytest.raises(BackendError, match="idle_timeout"):
            await answer.read()
        with pytest.raises(BackendError, match="idle_timeout"):
            await answer.read()


async def test_idle_holds_from_the_head_where_there_is_no_first_byte_deadline(scripted, pool, hands):
    server = await scripted(STREAM)
    server.go()
    async with await pool.exchange("GET", server.url, idle_timeout=5) as answer:
        pool.sweep(hands.now + 4.9)
        pool.sweep(hands.now + 5)
        with pytest.raises(BackendError, match="idle_timeout"):
            await answer.read()


async def test_a_slow_reader_is_not_an_idle_peer(scripted, pool, hands):
    server = await scripted(STREAM + b"1\r\na\r\n", b"1\r\nb\r\n")
    server.go()
    async with await pool.exchange("GET", server.url, idle_timeout=5) as answer:
        pool.sweep(hands.now + 100)
        assert await answer.read() == b"a"
        hands.now += 104.9
        pool.sweep(hands.now)
        server.go()
        assert await answer.read() == b"b"
        pool.sweep(hands.now + 4.9)
        pool.sweep(hands.now + 5)
        with pytest.raises(BackendError, match="idle_timeout"):
            await answer.read()


async def test_the_whole_answer_in_time(scripted, pool, hands):
    """What has arrived before the deadline is still handed over."""
    server = await scripted(STREAM + b"1\r\na\r\n")
    server.go()
    async with await pool.exchange("GET", server.url, answer_by=hands.now + 60, idle_timeout=5) as answer:
        pool.sweep(hands.now + 60)
        assert await answer.read() == b"a"
        with pytest.raises(BackendError, match="answer_timeout") as caught:
            await answer.read()
        assert caught.value.sent


async def test_a_finished_answer_has_no_deadline(replies, pool, hands, gather):
    server = await replies(HI)
    async with await pool.exchange(
        "GET", server.url, first_byte_by=hands.now + 1, answer_by=hands.now + 1, idle_timeout=1
    ) as answer:
        pool.sweep(hands.now + 2)
        assert await gather(answer) == b"hi"


# ---- back-pressure


async def test_what_nobody_reads_is_not_taken(serve, pool, until, gather):
    """50 MiB: the peer is held back, and all of it comes once it is read."""
    piece = bytes(range(256)) * 4096
    peers = []

    async def handler(peer):
        peers.append(peer)
        await peer.request()
        await peer.send(OK + b"Content-Length: %d\r\n\r\n" % (50 * MIB))
        for _ in range(50):
            await peer.send(piece)
        await peer.gone()

    server = await serve(handler)
    async with await pool.exchange("GET", server.url) as answer:
        await until(lambda: answer._connection.paused)
        held = answer._answer.buffered
        for _ in range(200):
            await asyncio.sleep(0)
        assert 65536 < answer._answer.buffered == held <= 2 * 65536
        assert peers[0].sent < 40 * MIB
        assert await gather(answer) == piece * 50
    assert pool.idle_connections == 1


async def test_a_long_stream_is_read_piece_by_piece(serve, pool):
    async def handler(peer):
        while await peer.request():
            await peer.send(STREAM)
            for _ in range(64):
                await peer.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            await peer.send(b"0\r\n\r\n")

    server = await serve(handler)
    for _ in range(2):
        total = largest = 0
        async with await pool.exchange("GET", server.url) as answer:
            while piece := await answer.read():
                total += len(piece)
                largest = max(largest, len(piece))
        assert total == 64 * 65536
        assert largest <= 2 * 65536
    assert server.accepted == 1


async def test_leaving_while_held_back(serve, pool, until):
    async def handler(peer):
        await peer.request()
        await peer.send(OK + b"\r\n")
        while True:
            await peer.send(b"x" * MIB)

    server = await serve(handler)
    async with await pool.exchange("GET", server.url) as answer:
        await until(lambda: answer._connection.paused)
    await until(lambda: pool.open_connections == 0)


# ---- the server answers before it has taken the request


@pytest.mark.parametrize("goodbye", [False, True])
async def test_an_early_answer(goodbye, serve, pool, fetch, until):
    """The answer counts, the rest of the 10 MB is thrown away, and the connection is not used again."""

    async def handler(peer):
        await peer.head()
        await peer.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
        if not goodbye:
            await peer.gone()

    server = await serve(handler)
    for _ in range(5):
        assert await fetch(pool, server.url, "POST", body=b"x" * 10_000_000) == (413, b"no", "")
        await until(lambda: pool.open_connections == 0)
    assert server.accepted == 5


async def test_a_request_that_is_taken_slowly(serve, pool, fetch):
    async def handler(peer):
        while await peer.request():
            await peer.send(HI)

    server = await serve(handler)
    for _ in range(2):
        assert await fetch(pool, server.url, "POST", body=b"x" * 10_000_000) == (200, b"hi", "")
    assert server.accepted == 1


async def test_a_server_that_breaks_while_it_is_written_to(serve, pool, fetch, until):
    async def handler(peer):
        await peer.head()
        peer.reset()

    server = await serve(handler)
    assert await fetch(pool, server.url, "POST", body=b"x" * 10_000_000) == (0, b"", "reset")
    await until(lambda: pool.open_connections == 0)


# ---- giving up


@pytest.mark.parametrize("stage", ["head", "half a head", "body", "while writing"])
async def test_cancelled(stage, serve, pool, until):
    """At every await the connection is closed at once, and the server learns of it."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handler(peer):
        await peer.head()
        await peer.send({"half a head": OK, "body": STREAM + b"1\r\na\r\n"}.get(stage, b""))
        asked.set()
        if stage != "while writing":
            await peer.gone()
            gone.set()
        else:
            await never.wait()

    async def ask():
        async with await pool.exchange("POST", server.url, body=b"x" * (20_000_000 if stage == "while writing" else 1)) as answer:
            assert await answer.read() == b"a"
            reading.set()
            await answer.read()
            pytest.fail("there is no more")

    never, reading = asyncio.Event(), asyncio.Event()
    server = await serve(handler)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(ask())
        await (reading if stage == "body" else asked).wait()
        task.cancel()
    assert task.cancelled()
    await until(lambda: pool.open_connections == 0)
    if stage != "while writing":
        await gone.wait()


async def test_left_in_the_middle(scripted, pool, until):
    server = await scripted(STREAM + b"1\r\na\r\n")
    server.go()
    async with await pool.exchange("GET", server.url) as answer:
        assert await answer.read() == b"a"
    await server.gone.wait()
    await until(lambda: pool.open_connections == 0)
    with pytest.raises(RuntimeError, match="left"):
        await answer.read()


async def test_a_cancelled_read_loses_nothing(scripted, pool):
    """Somebody may wait for a piece with a time limit, send a keep-alive, and go on."""
    server = await scripted(STREAM, b"1\r\na\r\n", b"1\r\nb\r\n", b"0\r\n\r\n")
    server.go()
    async with await pool.exchange("GET", server.url) as answer:
        for piece in (b"a", b"b", b""):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0):
                    pytest.fail(repr(await answer.read()))
            server.go()
            assert await answer.read() == piece
    assert pool.idle_connections == 1


# ---- connections that do not come about


@pytest.fixture
def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


@pytest.fixture
def deaf():
    """A port that never answers: its backlog is full, so the kernel drops what knocks."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            knocker = stack.enter_context(socket.socket())
            knocker.setblocking(False)
            knocker.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]


async def refused(pool, url, **options):
    with pytest.raises(BackendError) as caught:
        async with await pool.exchange("POST", url, body=b"x", **options):
            pytest.fail("there is no server")
    assert pool.open_connections == 0
    assert not caught.value.sent
    return caught.value


async def test_refused(pool, free_port):
    problem = await refused(pool, f"http://127.0.0.1:{free_port}/v1?key=secret")
    assert (problem.code, problem.hint) == ("connect_refused", f"127.0.0.1:{free_port} refused the connection")


async def test_refused_by_every_address_of_a_name(pool, free_port, monkeypatch):
    async def names(host, port, **_):
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        return [(family, kind, 6, "", ("127.0.0.1", port)), (family, kind, 6, "", ("127.0.0.2", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    assert (await refused(pool, f"http://gpu.test:{free_port}/")).code == "connect_refused"


async def test_the_second_address_of_a_name(serve, pool, fetch, monkeypatch, replies):
    server = await replies(HI)
    port = int(server.url.rpartition(":")[2])

    async def names(host, port, **_):
        family, kind = socket.AF_INET, socket.SOCK_STREAM
        return [(family, kind, 6, "", ("127.0.0.2", port)), (family, kind, 6, "", ("127.0.0.1", port))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    assert await fetch(pool, f"http://gpu.test:{port}/") == (200, b"hi", "")


async def test_a_name_without_an_address(pool, monkeypatch):
    async def names(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names)
    problem = await refused(pool, "http://gpu.test:8000/")
    assert (problem.code, problem.hint) == ("connect_failed", "gpu.test:8000: Name or service not known")


async def test_no_way_there(pool, monkeypatch):
    async def unreachable(*_, **__):
        raise OSError(errno.EHOSTUNREACH, "No route to host")

    monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", unreachable)
    assert (await refused(pool, "http://192.0.2.1:8000/")).code == "connect_failed"


async def test_nobody_picks_up(make_pool, deaf):
    problem = await refused(make_pool(connect_timeout=0.05), f"http://127.0.0.1:{deaf}/")
    assert problem.code == "connect_timeout"
    problem = await refused(make_pool(connect_timeout=60), f"http://127.0.0.1:{deaf}/", connect_timeout=0.05)
    assert (problem.code, "0.05 s" in problem.hint) == ("connect_timeout", True)


@pytest.mark.parametrize("deadline", ["first_byte_by", "answer_by"])
async def test_a_deadline_before_the_connect_timeout(deadline, pool, deaf, hands):
    problem = await refused(pool, f"http://127.0.0.1:{deaf}/", **{deadline: hands.now + 0.05})
    assert problem.code == deadline.removesuffix("_by") + "_timeout"


async def test_a_server_that_closes_as_soon_as_it_has_accepted(serve, pool, monkeypatch, until):
    """Where that is known before a byte was written, none is."""

    async def handler(peer):
        pass

    server = await serve(handler)
    loop = asyncio.get_running_loop()
    connect = loop.create_connection

    async def late(*args, **options):
        made = await connect(*args, **options)
        await until(lambda: pool.open_connections == 0)
        return made

    monkeypatch.setattr(loop, "create_connection", late)
    assert (await refused(pool, server.url)).code == "reset"


async def test_cancelled_while_connecting(pool, deaf):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(refused(pool, f"http://127.0.0.1:{deaf}/"))
        for _ in range(5):
            await asyncio.sleep(0)
        task.cancel()
    assert task.cancelled()
    assert pool.open_connections == 0


async def test_cancelled_at_every_turn_of_a_connect(replies, pool, until):
    """Whatever turn of the loop it comes in, no socket stays."""
    server = await replies(HI)

    async def ask():
        async with await pool.exchange("GET", server.url) as answer:
            await answer.read()
            await asyncio.Event().wait()

    for turns in range(20):
        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
        await until(lambda: pool.open_connections == pool.idle_connections)
        pool.sweep(1e9)
    await until(lambda: pool.open_connections == 0)


async def test_small_writes_leave_at_once(replies, pool):
    server = await replies(HI)
    async with await pool.exchange("GET", server.url + "/") as answer:
        assert answer.status == 200
    (connection,) = pool._connections
    sock = connection._transport.get_extra_info("socket")
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
