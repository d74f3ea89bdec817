"""The scripted server, seen from outside: by raw sockets where bytes matter, by a client where they do not."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess

import aiohttp
import attrs
import pytest

from nexus.testing import (
    CutAfter,
    Dribble,
    ErrorEventFirst,
    Hang,
    Held,
    Malformed,
    Respond,
    ScriptedUpstream,
    Slow,
    Stream,
    sse,
    until,
)

GET = b"GET /x HTTP/1.1\r\nHost: here\r\n\r\n"


def soon(coro):
    """Run it beside the test."""
    return asyncio.get_running_loop().create_task(coro)


@contextlib.asynccontextmanager
async def connected(up):
    reader, writer = await asyncio.open_connection(up.host, up.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def raw(up, request=GET):
    """All bytes of the answer, until the server closes."""
    async with connected(up) as (reader, writer):
        writer.write(request)
        return await asyncio.wait_for(reader.read(), 5)


@pytest.fixture
async def session():
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield session


# ---- answers


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_respond_in_every_framing(upstream, session, framing):
    upstream.default = Respond(201, json={"é": 1}, headers={"X-Odd": "yes"}, framing=framing)
    async with session.get(upstream.url) as answer:
        assert (answer.status, answer.headers["X-Odd"], await answer.json()) == (201, "yes", {"é": 1})
    assert upstream.finished == 1


async def test_the_wire_of_an_answer(upstream):
    upstream.default = Respond(body=b"hi", framing="close")
    wire = await raw(upstream)
    assert wire == b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\nhi"


async def test_the_script_may_set_any_header(upstream):
    upstream.default = Respond(299, body=b"hi", headers=[("content-length", "7"), ("A", "1"), ("A", "2")])
    wire = await raw(upstream, GET.replace(b"Host: here", b"Host: here\r\nConnection: close"))
    assert wire.startswith(b"HTTP/1.1 299 Scripted\r\n")
    assert b"content-length: 7\r\nA: 1\r\nA: 2\r\n" in wire
    assert b"Content-Length" not in wire


async def test_head_has_no_body(upstream, session):
    upstream.default = Respond(body=b"four")
    async with session.head(upstream.url) as answer:
        assert answer.headers["Content-Length"] == "4"
    async with session.get(upstream.url) as answer:
        assert await answer.read() == b"four"
    assert upstream.connections == 1, "an answer to HEAD must leave the connection usable"


async def test_a_stream_sends_every_kind_of_event(upstream, session):
    upstream.default = Stream([b": raw\n\n", "text", {"n": 1}])
    async with session.get(upstream.url) as answer:
        assert answer.content_type == "text/event-stream"
        assert await answer.read() == b': raw\n\ndata: text\n\ndata: {"n":1}\n\ndata: [DONE]\n\n'


async def test_a_stream_waits_for_the_test(upstream, session):
    gate = asyncio.Event()
    upstream.default = Stream(["before", gate, "after"], done=False)
    async with session.get(upstream.url) as answer:
        assert await answer.content.readany() == sse("before")
        assert upstream.in_flight == 1
        gate.set()
        assert await answer.read() == sse("after")


async def test_a_stream_is_paced(upstream, session):
    upstream.default = Stream(["a", "b", "c"], interval=0.02, done=False)
    clock = asyncio.get_running_loop().time
    start = clock()
    async with session.get(upstream.url) as answer:
        assert await answer.read() == sse("a") + sse("b") + sse("c")
    assert clock() - start >= 0.04


@pytest.mark.parametrize(("end", "error"), [("cut", aiohttp.ClientPayloadError), ("reset", aiohttp.ClientError)])
async def test_a_stream_that_breaks(upstream, session, end, error):
    upstream.default = Stream(["a"], end=end)
    with pytest.raises((error, ConnectionResetError)):
        async with session.get(upstream.url) as answer:
            await answer.read()
    assert upstream.disconnected == 0, "the server went, not the client"


async def test_slow_and_held_come_later(upstream, session):
    gate = asyncio.Event()
    upstream.on("/held", Held(gate, Respond(204))).on("/slow", Slow(0.02, Respond(205)))
    held = soon(session.get(f"{upstream.url}/held"))
    await upstream.until(lambda: upstream.calls("/held"))
    async with session.get(f"{upstream.url}/slow") as answer:
        assert answer.status == 205
    assert not held.done()
    gate.set()
    async with await held as answer:
        assert answer.status == 204


async def test_hang_ends_when_the_client_goes(upstream):
    upstream.default = Hang()
    async with connected(upstream) as (_, writer):
        writer.write(GET)
        await upstream.until(lambda: upstream.in_flight == 1)
    await upstream.until(lambda: upstream.in_flight == 0)
    assert (upstream.disconnected, upstream.finished) == (1, 0)


async def test_a_client_that_goes_in_mid_stream_is_counted_once(upstream, session):
    upstream.default = Stream(["x" * 1000] * 1000, interval=0.001)
    async with session.get(upstream.url) as answer:
        await answer.content.readany()
    await upstream.until(lambda: upstream.disconnected)
    await upstream.until(lambda: not upstream.open_connections)
    assert upstream.disconnected == 1


async def test_cut_after_every_byte(upstream):
    upstream.default = whole = Respond(body=b"hello", framing="close")
    wire = await raw(upstream)
    for n in range(len(wire) + 1):
        upstream.default = CutAfter(n, whole)
        assert await raw(upstream) == wire[:n]
    assert upstream.disconnected == 0


async def test_cut_with_a_reset(upstream):
    upstream.default = CutAfter(20, Respond(body=b"x" * 1000), reset=True)
    async with connected(upstream) as (reader, writer):
        writer.write(GET)
        await upstream.until(lambda: not upstream.open_connections)
        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1000)


async def test_dribble_sends_every_byte_alone(upstream):
    whole = Respond(body=b"hello", framing="close")
    upstream.default = whole
    expected = await raw(upstream)
    upstream.default = Dribble(whole)
    sent = []

    class Recorder:
        head_only = False

        async def send(self, data):
            sent.append(data)

        async def pause(self, seconds):
            pass

        def close(self):
            sent.append("closed")

    await upstream.default.play(Recorder())
    assert b"".join(sent[:-1]) == expected == await raw(upstream)
    assert {len(piece) for piece in sent[:-1]} == {1}
    assert sent[-1] == "closed"


async def test_malformed_bytes_are_sent_as_they_are(upstream):
    upstream.default = Malformed(b"\x00\xffnot http")
    assert await raw(upstream) == b"\x00\xffnot http"


async def test_an_error_event_first(upstream, session):
    upstream.default = ErrorEventFirst("out of memory")
    async with session.get(upstream.url) as answer:
        assert answer.status == 200
        assert b'data: {"error":{"message":"out of memory"' in await answer.read()


@pytest.mark.parametrize("wrong", [{"framing": "none"}, {"end": "late"}])
def test_a_misspelt_script_is_refused(wrong):
    with pytest.raises(ValueError, match="must be in"):
        Stream(["a"], **wrong)


def test_acts_are_values():
    assert Respond(json=[1]) == Respond(json=[1]) != Respond(json=[2])
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        Respond().status = 500


# ---- the script


async def test_the_order_of_the_script(upstream, session):
    upstream.default = Respond(500)
    upstream.on("/p", Respond(501)).on("/p", Respond(502), method="POST")
    upstream.next(Respond(503), Respond(504)).next(Respond(505), path="/p")

    async def status(path, method="GET"):
        async with session.request(method, upstream.url + path) as answer:
            return answer.status

    assert [await status("/p"), await status("/p"), await status("/p")] == [505, 503, 504]
    assert [await status("/p"), await status("/p?q=1", "POST"), await status("/else")] == [501, 502, 500]


async def test_a_script_may_be_a_function_of_the_request(upstream, session):
    upstream.default = lambda received: Respond(json=received.json["n"] + 1)
    async with session.post(upstream.url, json={"n": 1}) as answer:
        assert await answer.json() == 2


async def test_what_was_received(upstream, session):
    upstream.default = Respond()
    async with session.post(f"{upstream.url}/a%20b?q=1", json={"x": 1}, headers={"X-Two": "  2 "}):
        pass
    (received,) = upstream.requests
    assert (received.method, received.path, received.query) == ("POST", "/a%20b", "q=1")
    assert (received.header("x-two"), received.header("none"), received.json) == ("2", None, {"x": 1})
    assert upstream.calls("/a%20b") == [received]


async def test_chunked_requests_are_read(upstream, session):
    upstream.default = Respond()

    async def body():
        yield b"one"
        yield b"two" * 100_000

    async with session.post(upstream.url, data=body()):
        pass
    assert upstream.requests[0].body == b"one" + b"two" * 100_000


async def test_only_the_last_requests_are_kept(session):
    async with ScriptedUpstream(Respond(), remember=3) as up:
        for n in range(5):
            async with session.get(f"{up.url}/{n}"):
                pass
        assert [received.path for received in up.requests] == ["/2", "/3", "/4"]
        assert up.finished == 5


SMUGGLED = {
    "two lengths": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "length and chunked": b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nx",
    "odd coding": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\nx",
    "odd length": b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\nx",
    "odd chunk": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "long chunk": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n",
    "bare newline": b"GET / HTTP/1.1\r\nA: 1\nB: 2\r\n\r\n",
    "space before the colon": b"GET / HTTP/1.1\r\nA : 1\r\n\r\n",
    "no version": b"GET /\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", SMUGGLED.values(), ids=SMUGGLED.keys())
async def test_what_no_client_may_send_is_a_violation(upstream, request_bytes):
    upstream.default = Respond()
    assert (await raw(upstream, request_bytes)).startswith(b"HTTP/1.1 400 ")
    assert len(upstream.violations) == 1
    assert upstream.requests == []


async def test_half_a_request_is_a_violation(upstream):
    async with connected(upstream) as (_, writer):
        writer.write(GET[:-2])
    await upstream.until(lambda: upstream.violations)
    assert "ended within a request" in upstream.violations[0]


# ---- connections


async def test_connections_are_kept(upstream, session):
    upstream.default = Respond(json=1)
    for _ in range(3):
        async with session.get(upstream.url) as answer:
            await answer.read()
    assert [received.connection for received in upstream.requests] == [0, 0, 0]
    assert (upstream.connections, upstream.open_connections) == (1, 1)


async def test_stopped_it_refuses_and_restarted_it_has_the_same_port(upstream, session):
    upstream.default = Respond(json=1)
    url = upstream.url
    upstream.stop_listening()
    assert not upstream.listening
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(upstream.host, upstream.port)
    await upstream.start_listening()
    assert upstream.url == url
    async with session.get(url) as answer:
        assert answer.status == 200


async def test_nobody_else_gets_the_port_while_it_is_down(upstream):
    upstream.stop_listening()
    with pytest.raises(OSError, match="in use"), socket.socket() as other:
        other.bind((upstream.host, upstream.port))


async def test_killed_every_connection_is_reset(upstream):
    upstream.default = Hang()
    async with connected(upstream) as (reader, writer):
        writer.write(GET)
        await upstream.until(lambda: upstream.in_flight)
        upstream.kill()
        with pytest.raises(ConnectionResetError):
            await reader.read()
    await upstream.until(lambda: not upstream.in_flight)
    assert upstream.disconnected == 0


async def test_leaving_it_ends_whatever_it_was_doing():
    async with ScriptedUpstream(Hang()) as up:
        _, writer = await asyncio.open_connection(up.host, up.port)
        writer.write(GET)
        await up.until(lambda: up.in_flight)
    assert (up.in_flight, up.open_connections, up.listening) == (0, 0, False)
    writer.close()


async def test_a_crashing_script_is_not_hidden():
    up = ScriptedUpstream(lambda received: received.json["missing"])
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(up)
        assert await raw(up, b"POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}") == b""
        assert up.in_flight == 0
        with pytest.raises(KeyError, match="missing"):
            await stack.aclose()


async def test_tls(session, tls_context):
    server, client = tls_context
    async with ScriptedUpstream(Respond(json=1), ssl=server) as up, session.get(up.url, ssl=client) as answer:
        assert up.url.startswith("https://")
        assert await answer.json() == 1


@pytest.fixture
def tls_context(tmp_path):
    """A server's and a client's context for a certificate made on the spot."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=127.0.0.1"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", "key.pem", "-out", "cert.pem"]
    subprocess.run([*command.split(), *names], cwd=tmp_path, check=True, capture_output=True)
    server, client = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH), ssl.create_default_context()
    server.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    client.load_verify_locations(tmp_path / "cert.pem")
    return server, client


# ---- load and waiting


async def test_two_thousand_streams_at_once(upstream, session):
    gate = asyncio.Event()
    upstream.default = Stream([{"n": n} for n in range(10)] + [gate, "end"])

    async def one():
        async with session.get(upstream.url) as answer:
            return await answer.read()

    tasks = [soon(one()) for _ in range(2000)]
    await upstream.until(lambda: upstream.in_flight == 2000, timeout=30)
    gate.set()
    assert set(await asyncio.gather(*tasks)) == {b"".join(sse({"n": n}) for n in range(10)) + sse("end") + sse("[DONE]")}
    assert (upstream.peak, upstream.finished, upstream.in_flight) == (2000, 2000, 0)


async def test_until_sees_what_lasts_for_a_moment(upstream, session):
    upstream.default = Respond()
    seen = soon(upstream.until(lambda: upstream.in_flight == 1))
    await asyncio.sleep(0)
    async with session.get(upstream.url):
        pass
    await asyncio.wait_for(seen, 5)
    assert upstream.in_flight == 0


async def test_until_says_what_it_saw_instead(upstream):
    with pytest.raises(TimeoutError, match=r"not true within 0\.05 s: .*requests=0, in_flight=0"):
        await upstream.until(lambda: upstream.requests, timeout=0.05)


async def test_until_raises_what_the_predicate_raises(upstream):
    state = {}
    with pytest.raises(KeyError):
        await until(lambda: state["missing"])
    waiting = soon(upstream.until(lambda: state.setdefault("n", 0) or 1 / 0))
    with pytest.raises(ZeroDivisionError):
        await waiting


async def test_until_looks_at_things_elsewhere():
    state = []
    asyncio.get_running_loop().call_later(0.03, state.append, 1)
    await until(lambda: state)
    assert state == [1]
