"""Our own connections with clients: what they take, what they leave to aiohttp, and how they end."""

from __future__ import annotations

import asyncio

import pytest

import nexus.downstream.connection
import nexus.downstream.listener
import nexus.downstream.visit
import nexus.server
from nexus.downstream.head import read_head
from nexus.downstream.text import head_of
from nexus.testing import Respond, Slow, until

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED, post

PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n%b\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"

NOT_PLAIN = {
    "chunked": b"Transfer-Encoding: chunked\r\n",
    "packed": b"Content-Encoding: gzip\r\n",
    "expecting": b"Expect: 100-continue\r\n",
    "upgrading": b"Connection: upgrade\r\nUpgrade: websocket\r\n",
    "upgrading in part": b"Connection: keep-alive, upgrade\r\n",
    "closing": b"Connection: close\r\n",
    "with trailers": b"Trailer: X-Sum\r\n",
    "another length": b"Content-Length: 6\r\n",
    "folded": b"X-A: a\r\n b\r\n",
    "no header": b"X-A\r\n",
}


# ---------------------------------------------------------------- heads


def test_the_head_of_a_plain_request():
    head = read_head(
        PLAIN.replace(b"completions ", b"completions?beta=true&x ") % b"X-A:  one \r\nx-a: two\r\nX-B: gr\xc3\xbcn\r\n"
    )
    assert head is not None
    assert (head.path, head.query, head.length) == ("/v1/chat/completions", "beta=true&x", 5)
    assert head.headers == {"host": "localhost", "content-length": "5", "x-a": "one, two", "x-b": "grün"}


@pytest.mark.parametrize("header", NOT_PLAIN.values(), ids=NOT_PLAIN)
def test_a_request_that_is_not_plain_is_left_to_aiohttp(header):
    assert read_head(PLAIN % b"") is not None
    assert read_head(PLAIN % header) is None


@pytest.mark.parametrize("length", [b"", b"-5", b"+5", b"5, 5", b"0x5", b"9" * 16, b"0" * 5000, "٥".encode()])
def test_so_is_one_without_a_length_that_is_a_number(length):
    assert read_head(PLAIN.replace(b" 5\r\n", b" " + length + b"\r\n") % b"") is None
    assert read_head((PLAIN % b"").replace(b"Content-Length: 5\r\n", b"")) is None


def test_so_is_another_version_of_http():
    assert read_head((PLAIN % b"").replace(b"1.1", b"1.0")) is None


@pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", "a\rb", "a\0b"])
def test_no_header_of_an_answer_holds_a_line_break(value):
    assert head_of(200, {"X-A": "a"}, "").startswith(b"HTTP/1.1 200 OK\r\nX-A: a\r\nDate: ")
    with pytest.raises(ValueError, match="line break"):
        head_of(200, {"X-A": value}, "")


def test_a_status_that_has_no_name_is_sent_all_the_same():
    assert head_of(529, {}, "").startswith(b"HTTP/1.1 529 \r\n")


# ---------------------------------------------------------------- connections


@pytest.fixture
def handed(monkeypatch):
    """The connections that aiohttp was given."""
    given = []
    make = nexus.server._Server.__call__

    def counted(self):
        given.append(make(self))
        return given[-1]

    monkeypatch.setattr(nexus.server._Server, "__call__", counted)
    return given


async def test_plain_requests_of_a_dialect_are_answered_without_aiohttp(tmp_path, handed):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for body in (GOOD, STREAMED, b"nonsense", GOOD):
            await line.ask(body)
            assert (await line.hear()).status == (400 if body == b"nonsense" else 200)
        assert not handed


@pytest.mark.parametrize("header", ["Connection: close", "Transfer-Encoding: chunked", "Expect: 100-continue"])
async def test_the_others_are_aiohttps(tmp_path, handed, header):
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(GOOD), GOOD) if "chunked" in header else GOOD
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask(body, CHAT, header)
        assert (await line.hear()).status == 200
        assert len(handed) == 1


async def test_a_connection_goes_over_with_all_that_has_come(tmp_path, handed):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.say(post() + post() + MODELS + post() + MODELS[:10])
        answers = [await line.hear() for _ in range(4)]
        await line.say(MODELS[10:])
        answers.append(await line.hear())
        assert [got.status for got in answers] == [200] * 5
        assert ["data" in got.json for got in answers] == [False, False, True, False, True]
        assert len(handed) == 1


async def test_a_request_in_single_bytes(tmp_path, handed):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for byte in post():
            await line.say(bytes([byte]))
            await asyncio.sleep(0)
        assert (await line.hear()).status == 200
        assert not handed


async def test_a_body_in_pieces_between_which_others_are_answered(tmp_path):
    head, pieces = post()[: -len(GOOD)], [GOOD[at : at + 20] for at in range(0, len(GOOD), 20)]
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as slow, house.line() as other:
        await slow.say(head)
        for piece in pieces[:-1]:
            await slow.say(piece)
            await other.ask()
            assert (await other.hear()).status == 200
        assert sum(bodies.held for bodies in house.bodies) == len(GOOD) - len(pieces[-1])
        await slow.say(pieces[-1])
        assert (await slow.hear()).status == 200


async def test_who_sends_far_ahead_is_not_read_from(tmp_path, monkeypatch):
    monkeypatch.setattr(nexus.downstream.connection, "AHEAD_BYTES", 2000)
    kept = []
    make = nexus.downstream.connection.Connection.connection_made

    def made(self, transport):
        kept.append(self)
        make(self, transport)

    monkeypatch.setattr(nexus.downstream.connection.Connection, "connection_made", made)
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        up.on(CHAT, Slow(0.1, Respond(json={"choices": []})), method="POST")
        await line.say(post())
        await until(lambda: house.in_flight == 1)
        await line.say(post() * 20)
        await until(lambda: not kept[-1].transport.is_reading())
        for _ in range(21):
            assert (await line.hear()).status == 200
        await until(lambda: kept[-1].transport.is_reading())


async def test_who_says_nothing_between_two_requests_is_not_waited_for_for_ever(tmp_path, monkeypatch):
    monkeypatch.setattr(nexus.downstream.connection, "KEEPALIVE_SECONDS", 0.2)
    monkeypatch.setattr(nexus.downstream.listener, "SWEEP_SECONDS", 0.05)
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        assert await line.closed() == b""


async def test_an_answer_before_all_of_the_body_is_the_last_and_can_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(nexus.downstream.connection, "LINGER_SECONDS", 0.2)
    monkeypatch.setattr(nexus.downstream.listener, "SWEEP_SECONDS", 0.05)
    async with tiny() as up, open_house(tmp_path, up, server={"max_body_bytes": 1000}) as house, house.line() as line:
        await line.say(post(b"x" * 100_000)[:50_000])
        got = await line.hear()
        assert (got.status, got.headers["connection"]) == (413, "close")
        await line.say(b"x" * 50_000 + post())
        assert await line.closed() == b""


async def test_a_failure_of_our_own_closes_the_connection_and_is_logged(tmp_path, monkeypatch):
    async with tiny() as up, open_house(tmp_path, up) as house:

        async def fails(visit, status, headers, body):
            raise RuntimeError("a mistake")

        with monkeypatch.context() as patched:
            patched.setattr(nexus.downstream.visit.DirectVisit, "whole", fails)
            async with house.line() as line:
                await line.ask()
                assert await line.closed() == b""
        assert any("failed inside Nexus" in said for said in house.errors.said)
        house.errors.said.clear()
        assert (await house.post()).status == 200
