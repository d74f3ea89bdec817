"""Every way in which an answer may be framed: whole, split at every byte, cut at every byte."""

from __future__ import annotations

import attrs
import pytest

OK = b"HTTP/1.1 200 OK\r\n"


@attrs.frozen
class Form:
    """A canonical answer.  `reusable` says whether the connection may serve again, `open_end` that only closing ends the body."""

    name: str
    head: bytes
    wire: bytes
    body: bytes
    reusable: bool
    method: str = "GET"
    status: int = 200
    open_end: bool = False

    @property
    def reply(self) -> bytes:
        return self.head + self.wire


FORMS = (
    Form("content-length", OK + b"Content-Type: a/b\r\nContent-Length: 11\r\n\r\n", b"hello world", b"hello world", True),
    Form("empty", OK + b"Content-Length: 0\r\n\r\n", b"", b"", True),
    Form(
        "chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n", b"hello world", True
    ),
    Form(
        "trailers",
        OK + b"Transfer-Encoding: Chunked\r\nTrailer: X-Sum\r\n\r\n",
        b"B\r\nhello world\r\n0\r\nX-Sum: 1\r\nX-More: 2\r\n\r\n",
        b"hello world",
        True,
    ),
    Form("until close", OK + b"Content-Type: a/b\r\n\r\n", b"hello world", b"hello world", False, open_end=True),
    Form("http/1.0", b"HTTP/1.0 200 OK\r\n\r\n", b"hello world", b"hello world", False, open_end=True),
    Form("1.0 length", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", b"hello", b"hello", False),
    Form("1.0 keep-alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\n", b"hello", b"hello", True),
    Form("connection close", OK + b"Connection: x, close\r\nContent-Length: 5\r\n\r\n", b"hello", b"hello", False),
    Form(
        "interim",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK + b"Content-Length: 5\r\n\r\n",
        b"hello",
        b"hello",
        True,
    ),
    Form(
        "interim chunked",
        b"HTTP/1.1 102 Processing\r\nTransfer-Encoding: chunked\r\n\r\n" + OK + b"Transfer-Encoding: chunked\r\n\r\n",
        b"5\r\nhello\r\n0\r\n\r\n",
        b"hello",
        True,
    ),
    Form("head", OK + b"Content-Length: 11\r\n\r\n", b"", b"", True, method="HEAD"),
    Form("head chunked", OK + b"Transfer-Encoding: chunked\r\n\r\n", b"", b"", True, method="HEAD"),
    Form("204", b"HTTP/1.1 204 No Content\r\n\r\n", b"", b"", True, status=204),
    Form("304", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 11\r\n\r\n", b"", b"", True, status=304),
    Form("error", b"HTTP/1.1 503\r\nRetry-After: 1\r\nContent-Length: 2\r\n\r\n", b"{}", b"{}", True, status=503),
)

every_form = pytest.mark.parametrize("form", FORMS, ids=lambda form: form.name)


@every_form
async def test_whole(form, serve, pool, fetch):
    async def handler(peer):
        while await peer.request():
            await peer.send(form.reply)
            if form.open_end:
                return

    server = await serve(handler)
    for _ in range(3):
        assert await fetch(pool, server.url, form.method) == (form.status, form.body, "")
        assert pool.idle_connections == form.reusable
    assert server.accepted == (1 if form.reusable else 3)


@every_form
async def test_split_at_every_byte(form, serve, pool, fetch):
    """Two pieces, for every border, and byte by byte."""
    borders = range(1, len(form.reply))
    scripts = [(form.reply[:at], form.reply[at:]) for at in borders]
    scripts.append(tuple(form.reply[at : at + 1] for at in range(len(form.reply))))
    waiting = iter(scripts)

    async def handler(peer):
        while await peer.request():
            await peer.send(*next(waiting))
            if form.open_end:
                return

    server = await serve(handler)
    for script in scripts:
        assert await fetch(pool, server.url, form.method) == (form.status, form.body, ""), script


@every_form
async def test_cut_at_every_byte(form, serve, pool, fetch):
    """Never a hang, and never a short body that looks whole, but where only closing ends the body."""
    cuts = iter(range(len(form.reply)))

    async def handler(peer):
        await peer.request()
        await peer.send(form.reply[: next(cuts)])

    server = await serve(handler)
    for at in range(len(form.reply)):
        status, body, code = await fetch(pool, server.url, form.method)
        if at < len(form.head):
            assert (status, body, code) == (0, b"", "cut" if at else "reset"), at
        else:
            assert status == form.status
            assert form.body.startswith(body)
            assert code == ("" if form.open_end else "cut"), at
        assert not form.open_end or len(body) == max(0, at - len(form.head))


@every_form
async def test_reset_at_every_byte(form, serve, pool, fetch):
    """RST instead of FIN: then the end of an open-ended body is not to be believed either."""
    cuts = iter(range(len(form.reply) + 1))

    async def handler(peer):
        await peer.request()
        at = next(cuts)
        await peer.send(form.reply[:at])
        peer.reset()

    server = await serve(handler)
    for at in range(len(form.reply) + 1):
        status, body, code = await fetch(pool, server.url, form.method)
        whole = at == len(form.reply) and not form.open_end
        if whole:
            assert (status, body, code) == (form.status, form.body, "")
        else:
            assert code == ("cut" if at else "reset"), at
            assert form.body.startswith(body)


async def test_headers_are_lower_case_and_repeated_ones_stay_repeated(replies, pool):
    server = await replies(OK + b"X-A: 1\r\nSet-Cookie: a\r\nset-cookie:  b\xe9 \t\r\nX-Empty:\r\nContent-Length: 0\r\n\r\n")
    async with await pool.exchange("GET", server.url) as answer:
        assert answer.headers == (
            ("x-a", "1"), ("set-cookie", "a"), ("set-cookie", "b\xe9"), ("x-empty", ""), ("content-length", "0"),
        )  # fmt: skip


async def test_a_trailer_does_not_reach_the_next_answer(serve, pool):
    """httptools keeps the last trailer until the next header comes."""

    async def handler(peer):
        await peer.request()
        await peer.send(OK + b"Transfer-Encoding: chunked\r\n\r\n0\r\nX-Evil: 1\r\n\r\n")
        await peer.request()
        await peer.send(OK + b"Content-Length: 0\r\n\r\n")

    server = await serve(handler)
    for headers in ((("transfer-encoding", "chunked"),), (("content-length", "0"),)):
        async with await pool.exchange("GET", server.url) as answer:
            assert await answer.read() == b""
            assert answer.headers == headers
    assert server.accepted == 1


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("GET", OK + b"Content-Length: 2\r\n\r\nhi"),
        ("GET", OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"),
        ("GET", OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi"),
        ("GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        ("GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
        ("HEAD", OK + b"Content-Length: 9\r\n\r\n"),
        ("HEAD", OK + b"\r\n"),
    ],
)
@pytest.mark.parametrize("together", [True, False])
async def test_bytes_after_the_end_spoil_the_connection_not_the_answer(method, reply, together, serve, pool, fetch, until):
    surplus = b""

    async def handler(peer):
        if await peer.request():
            await peer.send(*([reply + surplus] if together else [reply, surplus]))
            await peer.gone()

    server = await serve(handler)
    for surplus in (b"x", OK + b"Content-Length: 0\r\n\r\n", b"\x00", b"HTTP"):
        for _ in range(2):
            _, body, code = await fetch(pool, server.url, method)
            assert (body, code) == (b"hi" if reply.endswith((b"hi", b"0\r\n\r\n")) else b"", ""), surplus
            await until(lambda: pool.open_connections == 0)
    assert server.accepted == 8
