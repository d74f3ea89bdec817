"""What leaves: the exact bytes, and what never does."""

from __future__ import annotations

import contextlib

import pytest

from nexus.api import BackendError
from nexus.upstream.request import Address, target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.fixture
async def sent(serve, pool, fetch):
    """`await sent(method, path, …)`: the request as the server received it, and the server's host:port."""

    async def sent(method, path="", host="127.0.0.1", **options):
        seen = []

        async def handler(peer):
            seen.append(await peer.request())
            await peer.send(OK)

        server = await serve(handler, host)
        assert await fetch(pool, server.url + path, method, **options) == (200, b"", "")
        return seen[0], server.url.removeprefix("http://").encode()

    return sent


async def test_a_post(sent):
    request, host = await sent(
        "POST", "/v1/chat?a=%20b&c", headers=[("Content-Type", "a/b"), ("x-latin", "\xe9\t"), ("x-empty", "")], body=b"hello"
    )
    assert request == (
        b"POST /v1/chat?a=%20b&c HTTP/1.1\r\nhost: " + host + b"\r\ncontent-type: a/b\r\nx-latin: \xe9\t\r\nx-empty: \r\n"
        b"accept-encoding: identity\r\ncontent-length: 5\r\n\r\nhello"
    )


async def test_an_empty_post_says_so(sent):
    request, _ = await sent("POST")
    assert request.startswith(b"POST / HTTP/1.1\r\n")
    assert request.endswith(b"content-length: 0\r\n\r\n")


async def test_a_get_has_no_length_and_keeps_the_encoding_it_was_given(sent):
    request, host = await sent("GET", "/a", headers=(("Accept-Encoding", "br"),))
    assert request == b"GET /a HTTP/1.1\r\nhost: " + host + b"\r\naccept-encoding: br\r\n\r\n"


async def test_a_get_with_a_body_has_a_length(sent):
    request, _ = await sent("GET", "/a", body=b"x")
    assert request.endswith(b"content-length: 1\r\n\r\nx")


@pytest.mark.parametrize("size", [65_535, 65_536, 3_000_000])
async def test_large_bodies(size, sent):
    body = bytes(range(256)) * (size // 256 + 1)
    request, _ = await sent("POST", body=body[:size])
    assert request.partition(b"\r\n\r\n")[2] == body[:size]


async def test_an_ipv6_literal(sent):
    try:
        request, host = await sent("GET", "/", host="::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    assert host.startswith(b"[::1]:")
    assert b"host: " + host + b"\r\n" in request


@pytest.mark.parametrize(
    ("url", "address", "host", "path"),
    [
        ("http://gpu", Address(False, "gpu", 80), "gpu", "/"),
        ("http://GPU:80/a?b", Address(False, "gpu", 80), "gpu", "/a?b"),
        ("https://gpu:443/a/", Address(True, "gpu", 443), "gpu", "/a/"),
        ("https://gpu:80/?", Address(True, "gpu", 80), "gpu:80", "/"),
        ("http://gpu:0/", Address(False, "gpu", 0), "gpu:0", "/"),
        ("http://[::1]/", Address(False, "::1", 80), "[::1]", "/"),
        ("http://[fe80::1%25eth0]:8000/", Address(False, "fe80::1%eth0", 8000), "[fe80::1]:8000", "/"),
    ],
)
def test_urls(url, address, host, path):
    assert target("GET", url) == (address, f"GET {path} HTTP/1.1\r\nhost: {host}\r\n", "GET")


def test_an_address_prints_as_host_and_port():
    assert [str(Address(False, host, 80)) for host in ("gpu", "::1")] == ["gpu:80", "[::1]:80"]


BAD_HEADERS = [
    ("x\r\ny", "1"), ("x\n", "1"), ("x y", "1"), ("x:", "1"), ("", "1"), ("x\x00", "1"), ("\xe9", "1"), ("x\u2028", "1"),
    ("x", "1\r\nevil: 2"), ("x", "1\n2"), ("x", "1\r2"), ("x", "\x00"), ("x", "\u0100"), ("x", "\x7f"), ("x", "\x1b"),
    ("Host", "evil"), ("content-length", "1"), ("Transfer-Encoding", "chunked"), ("connection", "close"), ("expect", "100-continue"),
    ("upgrade", "h2c"), ("te", "trailers"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD_HEADERS)
async def test_headers_that_http_does_not_allow(name, value, pool):
    for _ in range(2):
        with pytest.raises(ValueError, match="header"):
            await pool.exchange("POST", "http://127.0.0.1:1/", headers=[("x-good", "1"), (name, value)])


async def test_an_error_does_not_show_the_value(pool):
    with pytest.raises(ValueError, match="authorization") as caught:
        await pool.exchange("POST", "http://127.0.0.1:1/", headers=[("authorization", "Bearer sk-secret\n")])
    assert "sk-secret" not in str(caught.value)


@pytest.mark.parametrize("method", ["", "GET ", "GE\r\nT", "G\x00", "CONNECT", "GÉT"])
async def test_bad_methods(method, pool):
    with pytest.raises(ValueError, match="method"):
        await pool.exchange(method, "http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:1/a b", "http://127.0.0.1:1/\r\nevil: 1", "http://127.0.0.1:1/\n", "http://127.0.0.1:1/\x00", "http://h\xe9/",
        "ftp://127.0.0.1/", "127.0.0.1:1", "http:///x", "http://me:pass@127.0.0.1:1/", "http://127.0.0.1:1/#part",
        "http://127.0.0.1:99999/", "http://[::1/", "",
    ],
)  # fmt: skip
async def test_bad_urls(url, pool):
    with pytest.raises(ValueError, match=r"URL|[Pp]ort") as caught:
        await pool.exchange("GET", url)
    assert "pass" not in str(caught.value)


async def test_many_urls_and_names_are_not_all_remembered(pool):
    """Both may be chosen by clients."""
    for number in range(3000):
        with contextlib.suppress(BackendError):  # nobody listens there
            await pool.exchange("GET", f"http://127.0.0.1:1/{number}", headers=[(f"x-{number}", "")])
    assert len(pool._targets) <= 1024
