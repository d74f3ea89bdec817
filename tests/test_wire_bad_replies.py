"""Replies that no client can use: each is a failed attempt, told as such, and another backend answers where there is one."""

from __future__ import annotations

import gzip
import json

import pytest

from nexus.testing import CutAfter, Dribble, ErrorEventFirst, Malformed, Respond, Stream, sse

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

JSON = {"Content-Type": "application/json"}
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
SSE = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
BODY = b'{"choices":[{"message":{}}]}'
EVENT = sse({"choices": [{"index": 0, "delta": {"content": "x"}}]})

ANY = {
    "nothing": (Malformed(b""), "reset"),
    "garbage": (Malformed(b"\x00\xff\x16 not http at all\r\n\r\n"), "malformed"),
    "half a status line": (Malformed(b"HTTP/1.1 20"), "cut"),
    "status of letters": (Malformed(b"HTTP/1.1 OK\r\n\r\n"), "malformed"),
    "status 42": (Malformed(b"HTTP/1.1 042 What\r\nContent-Length: 0\r\n\r\n"), "malformed"),
    "status 999": (Malformed(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"), "malformed"),
    "http/2": (Malformed(b"HTTP/2 200\r\n\r\n"), "malformed"),
    "endless header": (Malformed(OK + b"X-A: " + b"x" * 200_000 + b"\r\n\r\n"), "malformed"),
    "endless headers": (Malformed(OK + b"X-A: x\r\n" * 20_000 + b"\r\n"), "malformed"),
    "endless early hints": (Malformed(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 5000), "malformed"),
    "folded header": (Malformed(OK + b"X-A: a\r\n b\r\nContent-Length: 28\r\n\r\n" + BODY), "malformed"),
    "zero in a header": (Malformed(OK + b"X-A: a\0b\r\nContent-Length: 28\r\n\r\n" + BODY), "malformed"),
    "switched protocols": (Malformed(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"), "malformed"),
    "length and chunked": (Malformed(OK + b"Content-Length: 28\r\nTransfer-Encoding: chunked\r\n\r\n" + BODY), "malformed"),
    "two lengths": (Malformed(OK + b"Content-Length: 28\r\nContent-Length: 5\r\n\r\n" + BODY), "malformed"),
    "negative length": (Malformed(OK + b"Content-Length: -1\r\n\r\n" + BODY), "malformed"),
    "chunk size of letters": (Malformed(SSE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + EVENT), "malformed"),
    "coding that nobody asked for": (Malformed(OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), "malformed"),
    "redirect": (Respond(302, headers={"Location": "http://127.0.0.1:1/"}), "status"),
    "not modified": (Respond(304), "status"),
    "no content": (Respond(204), None),
    "reset content": (Respond(205), None),
}

WHOLE = {
    "too short": (Malformed(OK + b"Content-Length: 50\r\n\r\n" + BODY), "cut"),
    "empty body": (Respond(headers=JSON), "malformed"),
    "no json": (Respond(body=b"<html>It works!</html>", headers={"Content-Type": "text/html"}), "malformed"),
    "an array": (Respond(json=[]), "malformed"),
    "half of json": (Respond(body=BODY[:-1], headers=JSON), "malformed"),
    "packed": (Respond(body=gzip.compress(BODY), headers=JSON | {"Content-Encoding": "gzip"}), "malformed"),
}

STREAMS = {
    "json": (Respond(json={"choices": [{"message": {}}]}), "malformed"),
    "no content type": (Malformed(b"HTTP/1.1 200 OK\r\n\r\n" + EVENT), "malformed"),
    "empty": (Stream([], done=False), "no_answer"),
    "comments only": (Stream([b": hello\n\n", b": still there\n\n"], done=False), "no_answer"),
    "half an event": (Stream([EVENT[:-1]], done=False), "no_answer"),
    "packed": (Stream([gzip.compress(EVENT)], done=False, headers={"Content-Encoding": "gzip"}), "malformed"),
    "error first": (ErrorEventFirst(), "error_event"),
    "error behind a comment": (Stream([b": wait\n\n", {"error": "no memory"}]), "error_event"),
    "vLLM's error": (Stream([{"object": "error", "message": "no", "code": 500}]), "error_event"),
    "llama.cpp's old error": (Stream([b'error: {"code":500,"message":"no"}\n\n'], done=False), "error_event"),
}


def cases():
    for body, table in ((GOOD, ANY | WHOLE), (STREAMED, ANY | STREAMS)):
        for what, (act, code) in table.items():
            yield what, act, body, code


async def test_one_backend_and_a_reply_that_cannot_be_used_is_a_502_that_says_so(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        for what, act, body, code in cases():
            up.on(CHAT, act, method="POST")
            got = await house.post(body)
            assert (got.status, got.error["code"]) == (502, "all_attempts_failed"), (what, got)
            assert [a["backend"] for a in got.error["context"]["attempts"]] == ["a"], what
            assert "a (tiny): " in got.error["message"], what
            assert house.ledger.outcomes[-1] == "failed", what
            assert code in (None, house.ledger.finished[-1].code), (what, house.ledger.finished[-1].code)
        assert len(house.ledger.claimed) == len(house.ledger.answered)


async def test_two_backends_and_the_other_one_answers(tmp_path):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        good = {GOOD: Respond(json={"choices": [{"message": {}}]}), STREAMED: Stream([EVENT])}
        for what, act, body, _ in cases():
            script = iter([act])
            for up in (a, b):
                up.on(CHAT, lambda received, script=script, body=body: next(script, good[body]), method="POST")
            got = await house.post(body)
            assert got.status == 200, (what, got)
            if act == Malformed(b"") and got.headers["x-nexus-attempts"] == "1":
                continue  # the connection had been used before, and was tried once more
            assert (got.headers["x-nexus-attempts"], got.headers["x-nexus-route-reason"]) == ("2", "failover"), what
            assert house.ledger.outcomes[-2:] == ["failed", "ok"], what
            attempts = house.ledger.answered[-1].attempts
            assert len({attempt.backend for attempt in attempts}) == 2, what
            story = await house.get(f"/nexus/requests/{got.headers['x-nexus-request-id']}")
            assert [attempt["outcome"] for attempt in story["attempts"]] == ["failed", "ok"], what


async def test_interim_answers_are_skipped(tmp_path):
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Malformed(hints + OK + b"Content-Length: 28\r\n\r\n" + BODY), path=CHAT)
        got = await house.post()
        assert (got.status, got.body) == (200, BODY)
        assert "link" not in got.headers


async def test_a_body_longer_than_it_says_ends_where_it_says(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(
            Malformed(OK + b"Content-Length: 28\r\n\r\n" + BODY + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"), path=CHAT
        )
        assert (await house.post()).body == BODY
        assert "bad" not in str((await house.post()).json)


async def test_an_error_in_the_middle_of_a_stream_is_passed_on_once_and_nothing_normal_follows(tmp_path):
    error = {"error": {"message": "no memory", "code": 500}}
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        up.next(Stream([EVENT, error], done=False), path=CHAT)
        await line.ask(STREAMED)
        got = await line.hear()
        assert got.whole
        assert got.body == EVENT + sse(error)
        assert (house.ledger.finished[-1].outcome, house.ledger.answered[-1].outcome) == ("failed", "broken")


async def test_garbage_in_the_middle_of_a_stream_becomes_an_error_event(tmp_path):
    good = b"%x\r\n%b\r\n" % (len(EVENT), EVENT)
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for n, rest in enumerate((b"zz\r\n", b"-5\r\n", b"5\r\nabc", b"\0\0\0", b"5\r\n12345678", b""), start=1):
            up.next(Dribble(Malformed(SSE + b"Transfer-Encoding: chunked\r\n\r\n" + good + rest), 64), path=CHAT)
            await line.ask(STREAMED)
            got = await line.hear()
            if got.status == 200:
                assert got.whole
                assert got.body.startswith(EVENT)
                assert got.last_error["code"] == "backend_broke_off"
            else:  # it came in one piece with the head
                assert got.status == 502
            assert len(house.ledger.finished) == n


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_bytes_are_the_backends_own_however_they_come(tmp_path, size):
    events = [
        b": a comment\r\n\r\n",
        b'event: x\ndata: {"choices":[{"delta":{"content":"\xc3\xa4"}}]}\n\n',
        b'data: {"a"\n:1}\r\n\r\n',
    ]
    events += [b"id: 7\nretry: 10\ndata:{}\n\n", b'data: {"choices":[{"finish_reason":"stop"}]}\r\n\r\n', b"data: [DONE]\n\n"]
    whole = json.dumps({"choices": [{"message": {}}], "odd": "\u00e4" * 50}, indent=3).encode() + b"\r\n"
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Dribble(Stream(events, done=False), size), Dribble(Respond(body=whole, headers=JSON), size), path=CHAT)
        assert (await house.post(STREAMED)).body == b"".join(events)
        assert (await house.post()).body == whole


async def test_a_body_too_large_to_be_held_passes_through_and_breaks_off_visibly(tmp_path):
    whole = b'{"choices":[{"message":{}}],"text":"%b","usage":{"prompt_tokens":3,"completion_tokens":4}}' % (b"x" * 18 * 2**20)
    act = Respond(body=whole, headers=JSON)
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(act, CutAfter(len(whole) - 1000, act), path=CHAT)
        assert (await house.post()).body == whole
        assert house.ledger.finished[0].usage.output_tokens == 4
        async with house.line() as line:
            await line.ask(GOOD)
            got = await line.hear()
            assert (got.status, got.whole) == (200, False)
            assert whole.startswith(got.body)
            assert (house.ledger.outcomes[-1], house.ledger.answered[-1].outcome) == ("failed", "broken")
