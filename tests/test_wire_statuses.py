"""The outcome table: what each status of a backend means for the request, for the backend, and for the client at the end."""

from __future__ import annotations

import asyncio
import email.utils
import gzip
import time

import pytest

import nexus.reading
from nexus.attempt import MAX_REJECTION_BYTES
from nexus.testing import Respond

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

SAID = {"error": {"message": "as it is", "type": "t", "param": None, "code": "c"}}
# status: how the claim ended, whether the share of failures grows
FAILS_OVER = {404: "rejected", 401: "rejected", 402: "rejected", 403: "rejected", 410: "rejected", 408: "failed", 424: "failed"}
FAILS_OVER |= {500: "failed", 502: "failed", 503: "rate", 504: "failed", 529: "rate", 599: "failed", 429: "rate", 498: "rate"}
FAILS_OVER |= {300: "failed", 307: "failed"}
REJECTED = (400, 405, 409, 413, 415, 418, 422, 426, 451, 499)


def only_first(first, then=None):
    """A script for several servers: the first that is asked plays `first`."""
    acts = iter([first])
    return lambda received: next(acts, then or Respond(json={"choices": [{"message": {}}]}))


@pytest.mark.parametrize("status", FAILS_OVER)
async def test_another_backend_answers_and_the_claim_ends_as_the_table_says(tmp_path, status):
    first = Respond(status, json=SAID, headers={"Retry-After": "7", "Location": "/elsewhere"})
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        script = only_first(first)
        for up in (a, b):
            up.on(CHAT, script, method="POST")
        got = await house.post()
        assert got.status == 200
        told = ("1", "capability-match") if FAILS_OVER[status] == "rate" else ("2", "failover")
        assert (got.headers["x-nexus-attempts"], got.headers["x-nexus-route-reason"]) == told
        assert "retry-after" not in got.headers
        assert house.ledger.outcomes == [FAILS_OVER[status], "ok"]
        assert house.ledger.finished[0].status == status
        first_asked = house.ledger.finished[0].candidate.backend
        (pair,) = house.gateway.fleet.standings[first_asked].pairs.values()
        assert bool(pair.failures) == (FAILS_OVER[status] == "failed" or status in (403, 404, 410))
        assert (pair.paused_until > house.gateway.clock.now()) == (FAILS_OVER[status] == "rate")
        assert (house.gateway.fleet.standings[first_asked].suspension is not None) == (status in (401, 402))


@pytest.mark.parametrize("body", [GOOD, STREAMED], ids=["whole", "stream"])
async def test_any_other_4xx_is_the_clients_to_read_untouched(tmp_path, body):
    odd = b'{"error":  "odd \xff bytes"}\r\n'
    headers = {"Content-Type": "application/problem+json; x=1", "X-RateLimit-Left": "3", "OpenAI-Version": "v", "Retry-After": "9"}
    own = {"Set-Cookie": "a=b", "Server": "secret", "X-Other": "x"}
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        for n, status in enumerate(REJECTED, start=1):
            for up in (a, b):
                up.on(CHAT, Respond(status, body=odd, headers=headers | own), method="POST")
            got = await house.post(body)
            assert (got.status, got.body) == (status, odd)
            assert {name.lower(): value for name, value in headers.items()}.items() <= got.headers.items(), got.headers
            assert got.headers.get("server") != "secret"
            assert not {"set-cookie", "x-other"} & got.headers.keys()
            assert got.headers["x-nexus-attempts"] == "1"
            assert got.headers["x-nexus-backend"] in "ab"
            assert house.ledger.outcomes == ["rejected"] * n
        assert {e.outcome for e in house.ledger.answered} == {"refused"}
        assert not any(p.failures for s in house.gateway.fleet.standings.values() for p in s.pairs.values())


async def test_a_rejection_longer_than_is_held_is_told_anew(tmp_path):
    long = b'{"error":{"message":"' + b"x" * MAX_REJECTION_BYTES + b'"}}'
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.on(CHAT, Respond(400, body=long), method="POST")
        got = await house.post()
    assert (got.status, got.error["code"], len(got.body) < 500) == (400, "backend_rejected", True)


async def test_a_rejection_that_is_packed_says_so(tmp_path):
    packed = gzip.compress(b'{"error":"x"}')
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.on(CHAT, Respond(400, body=packed, headers={"Content-Encoding": "gzip"}), method="POST")
        got = await house.post()
        assert (got.status, got.body) == (400, b'{"error":"x"}')  # the client unpacked it: it was told to


@pytest.mark.parametrize(
    ("statuses", "status", "code"),
    [
        ((500, 503), 502, "all_attempts_failed"),
        ((404, 404), 502, "all_attempts_failed"),
        ((401, 403), 502, "all_attempts_failed"),
        ((429, 500), 502, "all_attempts_failed"),
        ((429, 429), 429, "rate_limited"),
    ],
)
async def test_when_all_have_failed_the_client_hears_what_each_of_them_said(tmp_path, statuses, status, code):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b, queue={"max_wait_seconds": 1}) as house:
        script = iter(
            [Respond(s, json={"error": {"message": f"reason {n}"}}, headers={"Retry-After": "20"}) for n, s in enumerate(statuses)]
        )
        for up in (a, b):
            up.on(CHAT, lambda received: next(script), method="POST")
        got = await house.post()
        tried = str(sum(s not in (429, 503) for s in statuses))  # those say when to come back: they are only busy
        assert (got.status, got.error["code"], got.headers["x-nexus-attempts"]) == (status, code, tried)
        assert [a["status"] for a in got.error["context"]["attempts"]] == list(statuses)
        for n, s in enumerate(statuses):
            assert f"answered {s}: reason {n}" in got.error["message"]
        assert ("retry-after" in got.headers) == (status == 429)


async def test_no_more_than_max_attempts_are_made(tmp_path):
    bad = Respond(500, json=SAID)
    async with tiny() as a, tiny() as b, tiny() as c, tiny() as d:
        async with open_house(tmp_path, a, b, c, d, routing={"max_attempts": 3}) as house:
            for up in (a, b, c, d):
                up.on(CHAT, bad, method="POST")
            got = await house.post()
            assert (got.status, got.headers["x-nexus-attempts"]) == (502, "3")
            assert sorted(len(up.calls(CHAT)) for up in (a, b, c, d)) == [0, 1, 1, 1]


def in_a_while():
    return email.utils.formatdate(time.time() + 30, usegmt=True)  # noqa: TID251 - a header has the world's time


@pytest.mark.parametrize(
    ("asks", "least", "most"), [("30", 29, 30), (in_a_while, 28, 31), (None, 4, 5), ("soon", 4, 5), ("1e9", 59, 59)]
)
async def test_a_429_pauses_the_pair_for_as_long_as_it_says(tmp_path, asks, least, most):
    headers = {} if asks is None else {"Retry-After": asks if isinstance(asks, str) else asks()}
    async with tiny() as up, open_house(tmp_path, up, queue={"max_wait_seconds": 1}) as house:
        up.next(Respond(429, json=SAID, headers=headers), path=CHAT)
        for _ in range(2):  # the second is told without asking
            got = await house.post()
            assert (got.status, got.error["code"], got.error["type"]) == (429, "rate_limited", "rate_limit_error")
            assert least <= int(got.headers["retry-after"]) <= most, got.headers
            assert got.error["context"]["eta_seconds"] == int(got.headers["retry-after"])
            assert got.headers["x-nexus-attempts"] == "0", "who is only busy has not been tried"
        assert len(up.calls(CHAT)) == 1


async def test_a_short_pause_is_waited_for_and_the_same_pair_answers(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Respond(429, json=SAID, headers={"Retry-After": "0.3"}), path=CHAT)
        got = await house.post()
        assert (got.status, got.headers["x-nexus-attempts"], got.headers["x-nexus-route-reason"]) == (200, "1", "capability-match")
        assert 250 <= int(got.headers["x-nexus-queue-ms"]) < 2000
        assert house.ledger.outcomes == ["rate", "ok"]


async def test_a_404_and_a_refused_key_ask_for_a_probe_and_are_told_of(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Respond(401, json=SAID), path=CHAT)
        assert (await house.post()).status == 502
        (backend,) = (await house.get("/nexus/backends"))["backends"]
        assert "api_key_env" in backend["problem"]
        asked = len(up.calls("/v1/models"))
        up.next(Respond(404, json=SAID), path=CHAT)
        assert (await house.post()).status == 502
        await up.until(lambda: len(up.calls("/v1/models")) > asked)


@pytest.mark.parametrize("status", [500, 429, 404])
async def test_an_error_that_never_ends_does_not_hold_up_the_next_attempt(tmp_path, monkeypatch, status):
    monkeypatch.setattr(nexus.reading, "ERROR_SECONDS", 0.1)
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        script = only_first(Endless(status))
        for up in (a, b):
            up.on(CHAT, script, method="POST")
        got = await asyncio.wait_for(house.post(), 5)
        assert (got.status, got.headers["x-nexus-attempts"]) == (200, "1" if status == 429 else "2")
        await a.until(lambda: a.disconnected + b.disconnected == 1)


class Endless(Respond):
    """An answer that announces more than it sends, and stays."""

    async def play(self, wire):
        await wire.send(b"HTTP/1.1 %d No\r\nContent-Length: 1000\r\n\r\n{" % self.status)
        await asyncio.Event().wait()
