"""The same over TLS, and what is not accepted."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess

import pytest

from nexus.api import BackendError

OK = b"HTTP/1.1 200 OK\r\n"
HI = OK + b"Content-Length: 2\r\n\r\nhi"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [*command.split(), "-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def server_context(certificate):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    return context


@pytest.fixture
def trusting(make_pool, certificate):
    """A pool that knows the certificate."""
    made = []

    def context():
        made.append(ssl.create_default_context(cafile=str(certificate / "cert.pem")))
        return made[-1]

    pool = make_pool(ssl_context=context)
    pool.contexts = made
    return pool


async def test_kept_and_reused_with_one_context(serve, trusting, fetch, server_context):
    async def handler(peer):
        while await peer.request():
            await peer.send(HI)

    server = await serve(handler, ssl=server_context)
    for _ in range(3):
        assert await fetch(trusting, server.url, "POST", body=b"x" * 100_000) == (200, b"hi", "")
    assert server.accepted == 1
    assert len(trusting.contexts) == 1


async def test_no_context_is_made_for_plain_http(replies, trusting, fetch):
    server = await replies(HI)
    assert await fetch(trusting, server.url) == (200, b"hi", "")
    assert trusting.contexts == []


async def test_a_large_body_with_back_pressure(serve, trusting, server_context, until, gather):
    piece = bytes(range(256)) * 4096

    async def handler(peer):
        while await peer.request():
            await peer.send(OK + b"Content-Length: %d\r\n\r\n" % (16 * len(piece)))
            for _ in range(16):
                await peer.send(piece)

    server = await serve(handler, ssl=server_context)
    for _ in range(2):
        async with await trusting.exchange("GET", server.url) as answer:
            await until(lambda: answer._connection.paused)
            assert answer._answer.buffered <= 2 * 65536
            assert await gather(answer) == piece * 16
    assert server.accepted == 1


async def test_until_close(serve, trusting, fetch, server_context):
    async def handler(peer):
        await peer.request()
        await peer.send(OK + b"\r\n", b"hello")

    server = await serve(handler, ssl=server_context)
    assert await fetch(trusting, server.url) == (200, b"hello", "")


async def test_a_body_cut_without_a_goodbye_is_not_whole(serve, trusting, fetch, server_context):
    """Whoever sits on the line can close it; only the peer can say that it has finished."""

    async def handler(peer):
        await peer.request()
        await peer.send(OK + b"\r\n", b"hello")
        peer.writer.transport.abort()

    server = await serve(handler, ssl=server_context)
    assert await fetch(trusting, server.url) == (200, b"hello", "cut")


async def failed(pool, url):
    with pytest.raises(BackendError) as caught:
        async with await pool.exchange("POST", url, body=b"x"):
            pytest.fail("there is no answer")
    assert not caught.value.sent
    assert pool.open_connections == 0
    return caught.value


async def test_an_unknown_certificate(serve, pool, server_context):
    async def handler(peer):
        await peer.gone()

    server = await serve(handler, ssl=server_context)
    problem = await failed(pool, server.url)
    assert problem.code == "tls_failed"
    assert "certificate" in problem.hint


async def test_a_certificate_for_somebody_else(serve, trusting, server_context):
    async def handler(peer):
        await peer.gone()

    server = await serve(handler, ssl=server_context)
    problem = await failed(trusting, server.url.replace("localhost", "127.0.0.1"))
    assert problem.code == "tls_failed"


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b""])
async def test_no_tls_there(answer, serve, pool):
    async def handler(peer):
        await peer.reader.read(1)
        await peer.send(answer)

    server = await serve(handler)
    assert (await failed(pool, server.url.replace("http:", "https:"))).code == "tls_failed"


async def test_cancelled_in_the_handshake(serve, pool):
    """A server that takes the connection and says nothing."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handler(peer):
        asked.set()
        await peer.gone()
        gone.set()

    server = await serve(handler)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(failed(pool, server.url.replace("http:", "https:")))
        await asked.wait()
        task.cancel()
    assert task.cancelled()
    await gone.wait()
    assert pool.open_connections == 0
