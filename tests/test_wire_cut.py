"""Replies of a backend cut at each byte.  Before the client has one, another backend answers; afterwards the client sees the break."""

from __future__ import annotations

import json

import pytest

from nexus.testing import CutAfter, Respond, Stream

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
SAID = {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}}]}
WHOLE = json.dumps(SAID | {"usage": USAGE}).encode()
LENGTH = Respond(body=WHOLE, headers={"Content-Type": "application/json"})
CHUNKED = Respond(body=WHOLE, headers={"Content-Type": "application/json"}, framing="chunked")


def chunk(delta, finish=None):
    return {"id": "c", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


STREAM = Stream([chunk({"role": "assistant"}), chunk({"content": "hi"}), chunk({}, "stop")])


CLOSING = b"\r\n0\r\n\r\n"  # what comes after the last event, with which the answer is complete


class Recorder:
    """A wire that keeps what is sent."""

    head_only = False

    def __init__(self):
        self.sent = b""

    async def send(self, data):
        self.sent += data

    async def pause(self, seconds):
        pass

    def close(self):
        pass

    reset = close


async def bytes_of(act):
    wire = Recorder()
    await act.play(wire)
    return wire.sent


def first_then(first, then):
    """A script for several servers: the first one that is asked plays `first`, all others `then`."""
    acts = iter([first])
    return lambda received: next(acts, then)


async def answers(house, line, body):
    await line.ask(body)
    return await line.hear()


REPLIES = {"length": (LENGTH, GOOD), "chunked": (CHUNKED, GOOD), "stream": (STREAM, STREAMED)}


@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("kind", REPLIES)
async def test_one_backend_and_its_reply_is_cut_at_each_byte(tmp_path, kind, reset):
    act, body = REPLIES[kind]
    size = len(await bytes_of(act))
    seen = set()
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for n in range(0, size, 3 if reset else 1):
            up.next(CutAfter(n, act, reset=reset), path=CHAT)
            got = await answers(house, line, body)
            assert got.whole, n
            seen.add(told(n, got, house, complete=kind == "stream" and n >= size - len(CLOSING)))
        assert (await answers(house, line, body)).status == 200
        assert len(up.calls(CHAT)) == len(house.ledger.claimed) == len(house.ledger.answered)
    # a reset may take with it what was not read yet
    assert seen - ({"ok"} if reset else set()) == {"refused"} | ({"broken"} if kind == "stream" else set()) | (
        {"ok"} if kind == "stream" and not reset else set()
    )


def told(n, got, house, *, complete):
    """One cut reply: what the client got fits what the witnesses saw.  Gives the outcome.  `complete` says that its last event came,
    and only the end of the body did not."""
    answered, finished = house.ledger.answered[-1], house.ledger.finished[-1]
    if finished.outcome == "ok":
        assert complete, n
        assert answered.outcome == "ok", n
        assert got.events[-1] == b"data: [DONE]", n
        return answered.outcome
    assert finished.outcome == "failed", n
    assert finished.code in ("reset", "cut", "malformed", "no_answer"), (n, finished)
    if got.status == 502:
        assert (got.error["code"], answered.outcome) == ("all_attempts_failed", "refused"), n
        assert got.headers["x-nexus-attempts"] == "1", n
        return answered.outcome
    assert (got.status, answered.outcome, answered.status) == (200, "broken", 200), (n, got)
    assert got.events[0] == b"data: " + json.dumps(STREAM_CHUNKS[0], separators=(",", ":")).encode(), n
    error = json.loads(got.events[-1].removeprefix(b"data: "))["error"]
    assert (error["code"], error["type"]) == ("backend_broke_off", "server_error"), n
    # all that the backend had said may have arrived before it broke off
    assert b"[DONE]" not in got.body or len(got.events) == 5, n
    return answered.outcome


STREAM_CHUNKS = [chunk({"role": "assistant"}), chunk({"content": "hi"}), chunk({}, "stop")]


@pytest.mark.parametrize("kind", REPLIES)
async def test_two_backends_and_the_reply_of_the_first_is_cut_at_each_byte(tmp_path, kind):
    act, body = REPLIES[kind]
    size = len(await bytes_of(act))
    failovers = 0
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house, house.line() as line:
        for n in range(0, size, 2):
            script = first_then(CutAfter(n, act), act)
            for up in (a, b):
                up.on(CHAT, script, method="POST")
            got = await answers(house, line, body)
            assert (got.status, got.whole) == (200, True), (n, got)
            if house.ledger.answered[-1].outcome == "broken":
                assert got.headers["x-nexus-attempts"] == "1", n
                continue
            if n >= size - len(CLOSING) and kind == "stream":
                assert got.headers["x-nexus-attempts"] == "1", n
                assert got.events[-1] == b"data: [DONE]", n
                continue
            failovers += 1
            assert (got.headers["x-nexus-attempts"], got.headers["x-nexus-route-reason"]) == ("2", "failover"), n
            assert house.ledger.outcomes[-2:] == ["failed", "ok"], n
            assert got.body == (WHOLE if body is GOOD else b"".join(await events_of())), n
        assert {e.outcome for e in house.ledger.answered} == {"ok"} | ({"broken"} if kind == "stream" else set())
        assert failovers > 50
        assert len(a.calls(CHAT)) + len(b.calls(CHAT)) == len(house.ledger.claimed)


async def events_of():
    return [b"data: " + json.dumps(e, separators=(",", ":")).encode() + b"\n\n" for e in STREAM_CHUNKS] + [b"data: [DONE]\n\n"]


@pytest.mark.parametrize("framing", ["chunked", "close"])
async def test_a_stream_without_its_last_event_is_broken_however_properly_it_ends(tmp_path, framing):
    async with tiny() as up, open_house(tmp_path, up) as house:
        for n in (1, 2):
            up.next(Stream(STREAM_CHUNKS[:n], done=False, framing=framing), path=CHAT)
            got = await house.post(STREAMED)
            assert got.status == 200
            assert len(got.events) == n + 1
            assert got.last_error["code"] == "backend_broke_off"
        assert [(e.outcome, e.code) for e in house.ledger.finished] == [("failed", "cut")] * 2
        # a server that says why it stopped but not [DONE] has said all there is
        up.next(Stream(STREAM_CHUNKS, done=False, framing=framing), path=CHAT)
        got = await house.post(STREAMED)
        assert got.events == [e.strip() for e in (await events_of())[:-1]]
        assert house.ledger.outcomes[-1] == "ok"


async def test_a_reply_that_ends_with_its_connection_is_whole_when_it_is_json(tmp_path):
    act = Respond(body=WHOLE, headers={"Content-Type": "application/json"}, framing="close")
    size = len(await bytes_of(act))
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for n in range(0, size + 1):
            up.next(CutAfter(n, act), path=CHAT)
            got = await answers(house, line, GOOD)
            assert got.status == (200 if n == size else 502), n
            assert got.body == WHOLE or got.error["code"] == "all_attempts_failed"


async def test_a_sweep_spares_a_connection_that_has_not_been_asked_yet(tmp_path, monkeypatch):
    async with tiny() as up, open_house(tmp_path, up) as house:
        pool = house.gateway.upstream
        opened = pool.opened

        def swept_at_once(connection):
            opened(connection)
            pool.sweep(pool.clock())

        monkeypatch.setattr(pool, "opened", swept_at_once)
        assert (await house.post()).headers["x-nexus-attempts"] == "1"
        assert house.ledger.outcomes == ["ok"]
