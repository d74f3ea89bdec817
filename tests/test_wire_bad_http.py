"""What is hardly HTTP, or no HTTP at all: a JSON error where an answer is possible, else a closed connection; never a second request."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

import nexus.downstream.connection
import nexus.downstream.listener
import nexus.webserver

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, post

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
SIZE = b"Content-Length: %d\r\n" % len(GOOD)
SMUGGLED = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"

GARBAGE = {
    "tls hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    "zeros": b"\0" * 100,
    "words": b"hello there\r\n\r\n",
    "http/9.9": b"GET /v1/models HTTP/9.9\r\n\r\n",
    "http/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "no path": b"GET  HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "endless line": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "endless header": HEAD + b"X-A: " + b"x" * 100_000 + b"\r\n" + SIZE + b"\r\n" + GOOD,
    "endless headers": HEAD + b"X-A: x\r\n" * 10_000 + SIZE + b"\r\n" + GOOD,
    "header without colon": HEAD + b"X-A\r\n" + SIZE + b"\r\n" + GOOD,
    "blank before the colon": HEAD + b"X-A : x\r\n" + SIZE + b"\r\n" + GOOD,
    "blank in a name": HEAD + b"X A: x\r\n" + SIZE + b"\r\n" + GOOD,
    "folded header": HEAD + b"X-A: x\r\n  folded\r\n" + SIZE + b"\r\n" + GOOD,
    "zero in a header": HEAD + b"X-A: a\0b\r\n" + SIZE + b"\r\n" + GOOD,
    "bare carriage return": HEAD + b"X-A: a\rX-B: b\r\n" + SIZE + b"\r\n" + GOOD,
    "bare line feed": HEAD + b"X-A: a\nX-B: b\r\n" + SIZE + b"\r\n" + GOOD,
    "bare line feeds": HEAD.replace(b"\r\n", b"\n") + SIZE.replace(b"\r\n", b"\n") + b"\n" + GOOD,
    "negative length": HEAD + b"Content-Length: -5\r\n\r\n" + GOOD,
    "signed length": HEAD + b"Content-Length: +%d\r\n\r\n" % len(GOOD) + GOOD,
    "length of letters": HEAD + b"Content-Length: ten\r\n\r\n" + GOOD,
    "length in hex": HEAD + b"Content-Length: 0x10\r\n\r\n" + GOOD,
    "length beyond numbers": HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n" + GOOD,
    "list of lengths": HEAD + b"Content-Length: 5, 5\r\n\r\n" + GOOD,
}

SMUGGLING = {
    "length and chunked": HEAD + SIZE + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": HEAD + b"Transfer-Encoding: chunked\r\n" + SIZE + b"\r\n0\r\n\r\n",
    "two lengths": HEAD + SIZE + b"Content-Length: 5\r\n\r\n" + GOOD,
    "xchunked": HEAD + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "xchunked and length": HEAD + b"Transfer-Encoding: xchunked\r\n" + SIZE + b"\r\n" + GOOD,
    "identity and chunked": HEAD + b"Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n" + SIZE + b"\r\n0\r\n\r\n",
    "chunked, identity": HEAD + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunk size of letters": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "negative chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n\r\n0\r\n\r\n",
    "endless chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n\r\n0\r\n\r\n",
    "chunk longer than it says": HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + GOOD + b"\r\n0\r\n\r\n",
    "chunk ends with a line feed": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}\n0\r\n\r\n",
    "zero behind chunked": HEAD + b"Transfer-Encoding: chunked\0\r\n\r\n0\r\n\r\n",
}


@pytest.fixture
async def shared(tmp_path):
    """One gateway that must be as good as new after the test."""
    async with tiny() as up, open_house(tmp_path, up) as house:
        yield house, up
        assert (await house.post()).status == 200


async def test_garbage_is_a_400_in_the_dialect_or_a_closed_connection(shared):
    house, up = shared
    for what, garbage in GARBAGE.items():
        async with house.line() as line:
            await line.say(garbage)
            got = await line.hear_or_closed()
            if got is not None:
                said = (got.status, got.error["code"], got.error["type"])
                assert said == (400, "malformed_http", "invalid_request_error"), (what, got)
            assert not await line.closed(), what
    assert not up.calls(CHAT)


async def test_a_request_is_never_two(shared):
    house, up = shared
    for what, smuggling in SMUGGLING.items():
        async with house.line() as line:
            await line.say(smuggling + SMUGGLED)
            got = await line.hear()
            assert got.status == 400, (what, got)
            assert got.error["code"] in ("malformed_http", "invalid_request"), (what, got)
            rest = await line.closed()
        assert set(re.findall(rb"HTTP/1\.[01] (\d+)", rest)) <= {b"400"}, (what, rest)
    assert not up.calls("/v1/embeddings")
    assert not up.calls(CHAT)


async def test_requests_that_come_in_one_packet_are_answered_in_order(shared):
    house, up = shared
    async with house.line() as line:
        await line.say(post(GOOD) + post(b"nonsense") + b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n" + post(GOOD))
        answers = [await line.hear() for _ in range(4)]
        assert [got.status for got in answers] == [200, 400, 200, 200]
        assert answers[2].json["status"] == "healthy"
        assert len(up.calls(CHAT)) == 2


async def test_garbage_behind_a_request_ends_the_connection_after_the_answer(shared):
    house, _ = shared
    async with house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        await line.say(b"\x16\x03\x01 nonsense\r\n\r\n")
        got = await line.hear()
        assert (got.status, got.error["code"]) == (400, "malformed_http")
        assert not await line.closed()


async def test_half_a_head_and_silence_is_not_waited_for(tmp_path, monkeypatch):
    for room in (nexus.webserver, nexus.downstream.connection):
        monkeypatch.setattr(room, "SILENCE_SECONDS", 0.7)
    for room in (nexus.webserver, nexus.downstream.listener):
        monkeypatch.setattr(room, "SWEEP_SECONDS", 0.05)
    async with tiny() as up, open_house(tmp_path, up) as house:
        async with house.line() as mute, house.line() as half, house.line() as dribbling, house.line() as fine:
            await half.say(HEAD)
            await fine.ask()
            assert (await fine.hear()).status == 200

            async def dribble():
                for byte in HEAD + b"X-Endless: " + b"x" * 5000:
                    await dribbling.say(bytes([byte]))
                    await asyncio.sleep(0.01)

            task = asyncio.get_running_loop().create_task(dribble())
            assert await asyncio.gather(mute.closed(), half.closed(), dribbling.closed()) == [b"", b"", b""]
            task.cancel()
            await fine.ask()
            assert (await fine.hear()).status == 200


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/models", CHAT])
async def test_a_websocket_is_declined_and_the_connection_goes_on(shared, path):
    house, _ = shared
    upgrade = (
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
    )
    async with house.line() as line:
        await line.say(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\n\r\n".encode())
        got = await line.hear()
        assert got.status == {"/v1/responses": 426, "/v1/models": 200, CHAT: 405}[path]
        if got.status == 426:
            assert got.error["code"] == "upgrade_not_supported"
        await line.ask()
        assert (await line.hear()).status == 200


ELSEWHERE = {
    "unknown path": ("GET", "/v1/nothing", 404, "unknown_path"),
    "unknown path, posted": ("POST", "/v2/chat/completions", 404, "unknown_path"),
    "v1 twice": ("POST", "/v1" + CHAT, 404, "unknown_path"),
    "no v1": ("POST", "/chat/completions", 404, "unknown_path"),
    "slash too many": ("POST", CHAT + "/", 404, "unknown_path"),
    "slash too many in front": ("POST", "/" + CHAT, 404, "unknown_path"),
    "parent directory": ("GET", "/v1/../etc/passwd", 404, "unknown_path"),
    "escaped zero": ("GET", "/v1/%00%0d%0a", 404, "unknown_path"),
    "broken escape": ("GET", "/v1/%zz%", 404, "unknown_path"),
    "responses": ("POST", "/v1/responses", 404, "unknown_path"),
    "get": ("GET", CHAT, 405, "method_not_allowed"),
    "put": ("PUT", CHAT, 405, "method_not_allowed"),
    "delete": ("DELETE", "/v1/models", 405, "method_not_allowed"),
    "options of no page": ("OPTIONS", CHAT, 405, "method_not_allowed"),
    "asterisk": ("OPTIONS", "*", 404, "unknown_path"),
    "connect": ("CONNECT", "somewhere:443", 404, "unknown_path"),
    "trace": ("TRACE", "/v1/models", 405, "method_not_allowed"),
    "own method": ("BREW", CHAT, 400, "malformed_http"),
    "model that is not there": ("GET", "/v1/models/org/model:tag", 404, "model_not_found"),
}


async def test_a_path_or_method_that_is_not_served(shared):
    house, _ = shared
    for what, (method, path, status, code) in ELSEWHERE.items():
        async with house.line() as line:
            await line.say(f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
            got = await line.hear()
            assert (got.status, got.error["code"]) == (status, code), (what, got)
            if what in ("v1 twice", "no v1"):
                assert "base URL" in got.error["message"]
            if status == 405:
                assert got.headers["allow"] == ("POST" if path == CHAT else "GET, HEAD"), what


@pytest.mark.parametrize(
    ("path", "advice"),
    [
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
        ("/v1/modles", "did you mean /v1/models?"),
        ("/v1/messagess", "did you mean /v1/messages?"),
        ("/api/chat", "clients of Ollama's own API are not served yet: use OpenAI's, under /v1"),
        ("/api/v1/chat/completions", "did you mean /v1/chat/completions?"),
        ("/v1/moderations", "try GET /v1/models"),
        ("/v1/images/generations", "try GET /v1/models"),
    ],
)
async def test_a_wrong_path_gets_advice(shared, path, advice):
    house, _ = shared
    async with house.line() as line:
        await line.say(f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode())
        got = await line.hear()
        assert (got.status, got.error["code"]) == (404, "unknown_path")
        assert got.error["message"].endswith(f"; {advice}")


async def test_who_opens_the_address_in_a_browser_reads_what_to_do_with_it(shared):
    house, _ = shared
    async with house.line() as line:
        await line.say(b"GET /?a=b HTTP/1.1\r\nHost: localhost:6398\r\n\r\n")
        got = await line.hear()
        assert (got.status, got.headers["content-type"]) == (200, "text/plain; charset=utf-8")
        text = got.body.decode()
        assert "Clients of OpenAI's API take http://localhost:6398/v1 as their base URL.\n" in text
        assert "Clients of Anthropic's API take http://localhost:6398.\n" in text
        assert "key" not in text


@pytest.mark.parametrize(
    "host", ["localhost/x", "localhost:6398/x<script>", "localhost#a", "me:pw@127.0.0.1", "localhost?a", "a b", "localhost<b>"]
)
async def test_a_host_that_is_none_is_turned_away(shared, host):
    house, _ = shared
    async with house.line() as line:
        await line.say(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        got = await line.hear()
        assert (got.status, got.error["code"]) == (403, "host_not_allowed")


async def test_head_answers_without_a_body(shared):
    house, _ = shared
    async with house.line() as line:
        for path, status in (("/v1/models", 200), ("/health", 200), ("/nothing", 404), (CHAT, 405)):
            await line.say(f"HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            head = await line.reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 %d " % status), head
        await line.ask()
        assert (await line.hear()).status == 200


async def test_a_client_that_asks_before_it_sends_is_told_to_go_on_or_why_not(shared):
    house, up = shared
    async with house.line() as line:
        await line.say(post(b"", CHAT, "Expect: 100-continue", f"Content-Length: {len(GOOD)}"))
        assert (await line.reader.readuntil(b"\r\n\r\n")) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await line.say(GOOD)
        assert (await line.hear()).status == 200
        await line.say(post(b"", CHAT, "Expect: 100-continue", f"Content-Length: {2**30}"))
        assert (await line.hear()).status == 413
    assert json.loads(up.calls(CHAT)[0].body) == json.loads(GOOD)
