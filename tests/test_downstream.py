"""Our own connections with clients: what they take, what they leave to aiohttp, and how they end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import socket

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import nexus.downstream.connection
import nexus.downstream.listener
import nexus.downstream.visit
import nexus.server
from nexus.context import RequestContext
from nexus.dialects.openai import OpenAI
from nexus.downstream.head import Head, read_head
from nexus.downstream.listener import Listener
from nexus.downstream.text import head_of
from nexus.downstream.visit import SMALL_BYTES, DirectVisit
from nexus.keys import new_key
from nexus.relay import keep_alive
from nexus.tasks import Tasks
from nexus.testing import Hang, Respond, until

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED, post

PLAIN = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n%b\r\n"
MODELS = b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
WELCOME = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

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
    "another host": b"Host: evil.example\r\n",
    "very many headers": b"X-A: a\r\n" * 130,
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


@pytest.mark.parametrize(
    "line",
    [
        b"POST /v1/chat/completions HTTP/1.0",
        b"GET /v1/chat/completions HTTP/1.1",
        b"PUT /v1/chat/completions HTTP/1.1",
        b"POST /v1/chat/completions  HTTP/1.1",
        b"POST http://localhost/v1/chat/completions HTTP/1.1",
        b"POST /v1/chat/completions#part HTTP/1.1",
        b"POST * HTTP/1.1",
        "POST /v1/chät HTTP/1.1".encode(),
    ],
)
def test_so_is_another_line_than_that_of_a_post(line):
    assert read_head((PLAIN % b"").replace(b"POST /v1/chat/completions HTTP/1.1", line)) is None


# The grammar of RFC 9112 without what it only tolerates
STRICT = re.compile(rb"(?:POST|GET) /[!\x22$-~]* HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)*+\r\n")
BITS = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"\0",
    b"\x7f",
    b"\x80",
    b"\x0b",
    b"(",
    b"@",
    b"#",
    b",",
    b"-",
    b"HTTP/1.0",
    *NOT_PLAIN.values(),
]


@given(
    st.sampled_from([PLAIN % b"X-A: a \r\n", MODELS]),
    st.lists(st.tuples(st.integers(0, 120), st.integers(0, 2), st.sampled_from(BITS)), max_size=3),
)
@example(MODELS, [(3, 0, b" ")])
@example(MODELS, [(0, 0, b"\r\n")])
def test_nothing_is_read_that_is_not_strictly_a_head(data, changes):
    for at, left_out, bit in changes:
        data = data[:at] + bit + data[at + left_out :]
    data = data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    head = read_head(data)
    if head is not None:
        assert STRICT.fullmatch(data)
        assert data.lower().count(b"\nhost:") == 1
        assert head.headers["host"]


def test_a_page_is_asked_for_without_a_body():
    head = read_head(MODELS.replace(b"models ", b"models/a%2Fb?c=%2F "))
    assert head == Head("GET", "/v1/models/a/b", "c=%2F", {"host": "localhost"}, 0)
    assert read_head(MODELS.replace(b"\r\n\r\n", b"\r\nContent-Length: 0\r\n\r\n")) is not None
    assert read_head(MODELS.replace(b"\r\n\r\n", b"\r\nContent-Length: 5\r\n\r\n")) is None
    assert read_head(MODELS.replace(b"GET", b"HEAD")) is None


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
    make = nexus.server.WebServer.__call__

    def counted(self):
        given.append(make(self))
        return given[-1]

    monkeypatch.setattr(nexus.server.WebServer, "__call__", counted)
    return given


async def test_plain_requests_of_a_dialect_are_answered_without_aiohttp(tmp_path, handed):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for body in (GOOD, STREAMED, b"nonsense", GOOD):
            await line.ask(body)
            assert (await line.hear()).status == (400 if body == b"nonsense" else 200)
        assert not handed


async def test_so_is_what_every_client_asks_for_before(tmp_path, handed):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.say(MODELS)
        assert [model["id"] for model in (await line.hear()).json["data"]] == ["tiny"]
        await line.ask()
        assert (await line.hear()).status == 200
        await line.say(HEALTH)
        assert (await line.hear()).json["status"] == "healthy"
        await line.say(MODELS.replace(b"models", b"models/tiny"))
        assert (await line.hear()).json["id"] == "tiny"
        assert not handed


PAGES = {
    "no such model": (b"/v1/models/none", b"", 404),
    "a name in escapes": (b"/v1/models/%74iny", b"", 200),
    "half an escape": (b"/v1/models/tin%", b"", 404),
    "another origin": (b"/v1/models", b"Origin: http://evil.example\r\n", 403),
    "our own origin": (b"/v1/models", b"Origin: http://localhost\r\n", 200),
    "our own origin and no model": (b"/v1/models/none", b"Origin: http://localhost\r\n", 404),
    "another host": (b"/v1/models", b"Host: evil.example\r\n", 403),
    "an id of a client's": (b"/v1/models/none", b"X-Request-Id: mine\r\n", 404),
    "a query": (b"/v1/models?limit=1&limit=2&after=&x", b"anthropic-version: 2023-06-01\r\n", 200),
    "a bad query": (b"/v1/models?limit=no", b"anthropic-version: 2023-06-01\r\n", None),
    "health by another name": (b"/health", b"Host: evil.example\r\n", 200),
    "health of another origin": (b"/health", b"Origin: http://evil.example\r\n", 403),
    "readiness": (b"/health/ready", b"", 200),
}


@pytest.mark.parametrize(("path", "header", "status"), PAGES.values(), ids=PAGES)
async def test_a_page_is_the_same_on_both_kinds_of_connections(tmp_path, handed, path, header, status):
    host = b"" if header.startswith(b"Host") else b"Host: localhost\r\n"
    async with tiny() as up, open_house(tmp_path, up) as house:
        answers = []
        for more in (b"", b"Connection: keep-alive, x\r\n"):
            async with house.line() as line:
                await line.say(b"GET %b HTTP/1.1\r\n%b%b%b\r\n" % (path, host, header, more))
                got = await line.hear()
                headers = {name: value for name, value in got.headers.items() if name not in ("date", "server")}
                if "mine" not in headers.get("x-nexus-request-id", ""):
                    headers.pop("x-nexus-request-id", None)
                said = re.sub(rb'"uptime_seconds":[0-9.]+|"request_id":"[^"]+"', b"", got.body)
                answers.append((got.status, headers, re.sub(rb"[0-9a-f]{32}", b"", said)))
            assert len(handed) == bool(more)
        assert answers[0] == answers[1]
        assert answers[0][0] == status or status is None


@pytest.mark.parametrize("origin", [b"", b"Origin: http://localhost\r\n"])
async def test_a_page_needs_its_key_and_says_so(tmp_path, handed, origin):
    text, hashed = new_key()
    async with tiny() as up, open_house(tmp_path, up, keys=[{"name": "me", "hash": hashed}]) as house, house.line() as line:
        for given, status in ((text, 200), ("nx-wrong", 401)):
            await line.say(MODELS.replace(b"\r\n\r\n", b"\r\n%bAuthorization: Bearer %b\r\n\r\n" % (origin, given.encode())))
            got = await line.hear()
            assert got.status == status
            assert got.headers.get("access-control-allow-origin") == ("http://localhost" if origin else None)
        assert (got.error["code"], got.headers["www-authenticate"]) == ("invalid_key", "Bearer")
        await line.say(HEALTH)
        assert (await line.hear()).json["problems"] == {}
        assert not handed


async def test_a_page_that_fails_is_a_500_and_the_connection_goes_on(tmp_path, handed, monkeypatch):
    async def fails(self, *asked):
        raise RuntimeError("a mistake")

    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        monkeypatch.setattr("nexus.served.Served.written", fails)
        await line.say(MODELS)
        got = await line.hear()
        assert (got.status, got.error["code"]) == (500, "internal_error")
        assert any("failed inside Nexus" in said for said in house.errors.said)
        house.errors.said.clear()
        await line.say(HEALTH)
        assert (await line.hear()).status == 200
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
        await line.say(post() + MODELS + WELCOME + post() + WELCOME[:10])
        answers = [await line.hear() for _ in range(4)]
        await line.say(WELCOME[10:])
        answers.append(await line.hear())
        assert [got.status for got in answers] == [200] * 5
        assert [b"Nexus " in got.body for got in answers] == [False, False, True, False, True]
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


@pytest.fixture
def kept(monkeypatch):
    """Our own connections."""
    made = []
    begin = nexus.downstream.connection.Connection.connection_made

    def connection_made(self, transport):
        made.append(self)
        begin(self, transport)

    monkeypatch.setattr(nexus.downstream.connection.Connection, "connection_made", connection_made)
    return made


async def test_who_sends_far_ahead_is_not_read_from(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(nexus.downstream.connection, "AHEAD_BYTES", 2000)
    monkeypatch.setattr(nexus.downstream.listener, "SCRATCH_BYTES", 4096)
    count, most = 200, 0
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        up.on(CHAT, Respond(json={"choices": [{"message": {}}]}), method="POST")
        saying = asyncio.get_running_loop().create_task(line.say(post() * count))
        for _ in range(count):
            assert (await line.hear()).status == 200
            most = max(most, len(kept[-1]._held))
        await saying
        assert 2000 < most <= 2000 + 4096
        await until(lambda: kept[-1].transport.is_reading())


async def test_no_sign_of_life_follows_the_end(tmp_path, kept):
    """One that was due in the turn in which the stream ended."""
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        seen = []
        dialect = OpenAI()
        streaming = RequestContext("r", dialect, dialect.endpoints[0], 0.0)
        streaming.streaming = True
        end = nexus.downstream.visit.DirectVisit.end

        async def ended(self):
            await end(self)
            seen.append(self)
            await keep_alive(self, streaming)
            with pytest.raises(RuntimeError):
                await self.write(b": late")

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(nexus.downstream.visit.DirectVisit, "end", ended)
            for _ in range(2):
                await line.ask(STREAMED)
                assert (await line.hear()).body.endswith(b"[DONE]\n\n")
        assert len(seen) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_stop_while_a_slow_client_takes_its_answer_gives_no_second_one(tmp_path, way):
    huge = {"choices": [{"message": {}}], "text": "x" * 8_000_000}
    async with tiny() as up, open_house(tmp_path, up, way=way) as house, house.line() as line:
        up.on(CHAT, Respond(json=huge), method="POST")
        await line.ask()
        head = await line.reader.readuntil(b"\r\n\r\n")
        for watch in house.watches:
            watch.cut()
        size = int(head.lower().partition(b"content-length: ")[2].split()[0])
        cut_off = (EOFError, ConnectionError) if way == "embedded" else ()  # there it is aiohttp that ends the connection
        with contextlib.suppress(*cut_off):
            assert json.loads(await line.reader.readexactly(size)) == huge
            await line.ask(b"nonsense")
            assert (await line.hear()).status == 400
        await until(lambda: house.ledger.answered)
        assert (house.ledger.answered[0].status, house.ledger.answered[0].outcome) == (200, "ok")


@pytest.mark.parametrize("way", WAYS)
async def test_who_leaves_before_all_of_a_complete_answer_was_taken_has_left(tmp_path, way):
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, Respond(json={"choices": [{"message": {}}], "text": "x" * 8_000_000}), method="POST")
        async with house.line() as line:
            await line.ask()
            await line.reader.readuntil(b"\r\n\r\n")
        await until(lambda: house.ledger.answered)
        assert house.ledger.answered[0].outcome == "client_left"
        assert house.ledger.outcomes == ["ok"]  # the server had said all


async def test_a_large_answer_leaves_behind_those_that_were_posted(tmp_path, kept):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        (listener,) = house.listeners
        listener.outbox.company += 2
        kept[-1].post(b"first,")
        visit = DirectVisit(kept[-1], Head("POST", "/", "", {}, 0), "", b"", lambda: 0.0)
        await visit.whole(200, {}, b"x" * SMALL_BYTES)
        listener.outbox.company -= 2
        assert (await line.reader.readexactly(14)) == b"first,HTTP/1.1"


async def test_a_request_behind_one_that_was_cut_is_not_forgotten(tmp_path, kept):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        up.on(CHAT, Respond(json={"choices": [{"message": {}}], "text": "x" * 8_000_000}), method="POST")
        await line.ask()
        await line.reader.readuntil(b"\r\n\r\n")
        await line.ask()
        await until(lambda: kept[-1]._held)
        for watch in house.watches:
            watch.cut()
        with contextlib.suppress(ConnectionError):
            await line.reader.read()
        assert not len(house.listeners[0])


@pytest.mark.parametrize("hosts", [b"", b"Host: localhost\r\nHost: evil.example\r\n"], ids=["none", "two"])
async def test_a_request_names_one_host(tmp_path, hosts):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.say(post().replace(b"Host: localhost\r\n", hosts))
        got = await line.hear()
        assert (got.status, got.error["code"]) == (400, "malformed_http")


async def test_what_a_refused_client_goes_on_to_send_is_not_kept(tmp_path, kept):
    async with tiny() as up, open_house(tmp_path, up, server={"max_body_bytes": 1000}) as house, house.line() as line:
        await line.say(post(b"x" * 1_000_000)[:50_000])
        assert (await line.hear()).status == 413
        await line.say(b"x" * 900_000)
        assert kept[-1]._held == b""
        assert kept[-1]._last
        assert kept[-1].transport.is_reading()


async def test_a_stop_lets_what_is_written_leave(tmp_path):
    text = "x" * 3_000_000
    async with tiny() as up, contextlib.AsyncExitStack() as stack:
        house = await stack.enter_async_context(open_house(tmp_path, up))
        line = await stack.enter_async_context(house.line())
        up.on(CHAT, Respond(json={"choices": [{"message": {}}], "text": text}), method="POST")
        await line.ask()
        await until(lambda: house.ledger.claimed and not house.in_flight)
        closing = [asyncio.get_running_loop().create_task(listener.close(5)) for listener in house.listeners]
        assert len((await line.hear()).body) > len(text)
        await asyncio.gather(*closing)
        assert not any(map(len, house.listeners))


async def test_letters_leave_before_their_connections_are_closed(tmp_path, kept):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        (listener,) = house.listeners
        listener.outbox.company += 2
        kept[-1].post(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        listener.outbox.company -= 2
        await listener.close(1)
        assert (await line.hear()).status == 200
        assert not len(listener)


async def test_a_stop_awaits_the_work_on_what_it_cuts(tmp_path, kept):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        up.on(CHAT, Hang(), method="POST")
        await line.ask()
        await until(lambda: house.in_flight == 1)
        task = kept[-1].task
        await house.listeners[0].close(1)
        assert task.done()
        assert [event.outcome for event in house.ledger.answered] == ["client_left"]


async def test_a_peer_that_lost_its_power_is_noticed_some_day(tmp_path, kept):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        taken = kept[-1].transport.get_extra_info("socket")
        assert taken.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


async def test_both_ways_say_the_same_in_their_headers(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        heads = []
        for header in ("X-A: a", "Connection: keep-alive, x"):
            await line.ask(GOOD, CHAT, header)
            got = await line.hear()
            heads.append({name: value for name, value in got.headers.items() if name not in ("date", "x-nexus-request-id")})
        assert heads[1].pop("server").startswith("Python")
        assert heads[0] == heads[1]


@pytest.mark.parametrize(
    ("header", "status"), [("Origin: http://evil.example", 403), ("Host: evil.example", 403), ("X-A: a", 200)], ids=str
)
async def test_the_door_judges_every_request_of_a_connection(tmp_path, header, status):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        request = post(GOOD, CHAT, header)
        await line.say(request.replace(b"Host: localhost\r\n", b"") if header.startswith("Host") else request)
        assert (await line.hear()).status == status


async def test_a_key_is_needed_for_every_request_of_a_connection(tmp_path):
    text, hashed = new_key()
    async with tiny() as up, open_house(tmp_path, up, keys=[{"name": "me", "hash": hashed}]) as house, house.line() as line:
        for given, status in ((text, 200), ("nx-wrong", 401)):
            await line.ask(GOOD, CHAT, f"Authorization: Bearer {given}")
            assert (await line.hear()).status == status


async def test_who_is_turned_away_by_a_stop_is_told(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask()
        assert (await line.hear()).status == 200
        house.gateway.draining = True
        await line.ask()
        got = await line.hear()
        assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "stopping", "1")
        house.gateway.draining = False


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


# ---------------------------------------------------------------- a rush


@contextlib.asynccontextmanager
async def open_listener():
    """A listener that leaves everything to nobody, and its address."""
    listener = Listener(lambda head: None, asyncio.Protocol, asyncio.get_running_loop().time)
    address = await listener.bind("127.0.0.1", 0)
    try:
        yield listener, address
    finally:
        await listener.close(5)


async def test_a_rush_is_taken_a_few_at_a_time_and_nobody_is_turned_away(monkeypatch):
    monkeypatch.setattr(nexus.downstream.listener, "TAKEN_AT_ONCE", 8)
    count = 60
    async with open_listener() as (listener, address):
        with contextlib.ExitStack() as stack:
            for _ in range(count):  # the loop does not run meanwhile: all of them wait
                stack.enter_context(socket.create_connection(address, timeout=5))
            before = 0
            async with asyncio.timeout(10):
                while len(listener) < count:
                    await asyncio.sleep(0)
                    assert len(listener) - before <= 8 + 1  # newer versions of Python take one more than they are told
                    before = len(listener)


async def test_every_address_of_a_name_has_the_long_queue(monkeypatch):
    monkeypatch.setattr(nexus.downstream.listener, "TAKEN_AT_ONCE", 8)
    async with Tasks(logging.getLogger("nexus")):
        listener = Listener(lambda head: None, asyncio.Protocol, asyncio.get_running_loop().time)
        await listener.bind("", 0)
        assert listener._server is not None
        families = {each.family for each in listener._server.sockets}
        with contextlib.ExitStack() as stack:
            for each in listener._server.sockets:
                host = "::1" if each.family == socket.AF_INET6 else "127.0.0.1"
                for _ in range(100):  # nobody takes them meanwhile
                    stack.enter_context(socket.create_connection((host, each.getsockname()[1]), timeout=5))
        assert socket.AF_INET in families
        await listener.close(5)
