"""What is not HTTP/1.1, or too much of it, is an error and never an answer."""

from __future__ import annotations

import pytest

from nexus.api import BackendError

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        b"garbage\r\n\r\n",
        b"\x16\x03\x01\x02\x00",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"<html>hello</html>",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/0.9 200 OK\r\n\r\n",
        b"HTTP/1.2 200 OK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 000 OK\r\n\r\n",
        b"HTTP/1.1 600 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 20a OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        OK + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        OK + b"Content-Length: 1, 2\r\n\r\nab",
        OK + b"Content-Length: -1\r\n\r\n",
        OK + b"Content-Length: +1\r\n\r\na",
        OK + b"Content-Length: 0x1\r\n\r\na",
        OK + b"Content-Length: \r\n\r\n",
        OK + b"Content-Length: 99999999999999999999999\r\n\r\n",
        OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        OK + b"Transfer-Encoding: identity\r\n\r\n",
        OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        OK + b"X: a\r\n folded\r\nContent-Length: 0\r\n\r\n",
        OK + b" X: a\r\nContent-Length: 0\r\n\r\n",
        OK + b"X : a\r\nContent-Length: 0\r\n\r\n",
        OK + b": a\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\x00b\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\rb\r\nContent-Length: 0\r\n\r\n",
        OK + b"X: a\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
    ],
)
async def test_a_bad_head_is_malformed(reply, replies, pool):
    server = await replies(reply)
    with pytest.raises(BackendError) as caught:
        async with await pool.exchange("GET", server.url + "/secret?key=1"):
            pytest.fail("there is no answer")
    assert (caught.value.code, caught.value.sent, caught.value.reused) == ("malformed", True, False)
    assert caught.value.hint.startswith(server.url.removeprefix("http://") + " ")
    assert "secret" not in caught.value.hint


@pytest.mark.parametrize(
    "chunks",
    [b"g\r\nhi", b"-1\r\n", b"+1\r\na", b"0x1\r\na", b" 1\r\na", b"\r\n", b"1\na\n", b"1\r\nabc\r\n", b"f" * 18 + b"\r\n"],
)
async def test_a_bad_chunk_comes_after_what_was_good(chunks, replies, pool, fetch):
    server = await replies(CHUNKED + b"5\r\nhello\r\n", chunks)
    status, body, code = await fetch(pool, server.url)
    assert (status, body[:5], code) == (200, b"hello", "malformed")


@pytest.mark.parametrize(
    "reply",
    [
        OK + b"X: " + b"a" * 9000 + b"\r\n\r\n",
        OK + b"".join(b"X: %d\r\n" % n for n in range(40)) + b"Content-Length: 0\r\n\r\n",
        OK + b"X: 1\r\n" * 2000,
        OK + b"X: " + b"a" * 100_000,
        OK + b"a" * 100_000,
        b"HTTP/1.1 200 " + b"a" * 100_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        b"\r\n" * 100_000,
        CHUNKED + b"0\r\n" + b"X: 1\r\n" * 40,
        CHUNKED + b"0\r\n" + b"X: 1\r\n" * 20_000,
        CHUNKED + b"0\r\nX: " + b"a" * 100_000,
        CHUNKED + b"1;" + b"a" * 100_000,
    ],
)
@pytest.mark.parametrize("size", [97, 4096, 1_000_000])
async def test_what_has_no_end_is_cut_short(reply, size, serve, make_pool, fetch):
    """Headers, interim answers, trailers, chunk extensions: as many and as long as the limits say."""
    pool = make_pool(max_header_bytes=8192, max_headers=32)

    async def handler(peer):
        await peer.request()
        for at in range(0, len(reply), size):
            await peer.send(reply[at : at + size])
        await peer.gone()

    server = await serve(handler)
    status, body, code = await fetch(pool, server.url)
    assert (body, code) == (b"", "malformed")
    assert status == (200 if reply.startswith(CHUNKED) else 0)


async def test_heads_within_the_limits_pass(replies, make_pool, fetch):
    pool = make_pool(max_header_bytes=8192, max_headers=32)
    server = await replies(OK + b"".join(b"X: " + b"a" * 200 + b"\r\n" for _ in range(31)) + b"Content-Length: 1\r\n\r\na")
    assert await fetch(pool, server.url) == (200, b"a", "")


async def test_many_tiny_chunks_are_no_endless_header(serve, make_pool, fetch):
    """Framing is counted only while it brings no body."""
    pool = make_pool(max_header_bytes=1024)

    async def handler(peer):
        await peer.request()
        await peer.send(CHUNKED)
        for _ in range(1000):
            await peer.send(b"1\r\n", b"a\r\n")
        await peer.send(b"0\r\n\r\n")

    server = await serve(handler)
    assert await fetch(pool, server.url) == (200, b"a" * 1000, "")
