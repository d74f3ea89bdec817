"""Bodies that no client should send: each gets a JSON error in the dialect, and the connection goes on."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest

import nexus.body
from nexus.dialects.members import members_of
from nexus.testing import a_body, until

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, Answer, post

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
DEEP = 100_000
COMPLETION, EMBEDDINGS = "/v1/completions", "/v1/embeddings"


def chat(**fields):
    """A chat body; what is None is left out."""
    body = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], **fields}
    return json.dumps({name: value for name, value in body.items() if value is not None}).encode()


NO_JSON = {
    "nothing": b"",
    "blank": b"  \n",
    "word": b"nonsense",
    "cut": b'{"model":',
    "cut in a string": b'{"model":"tiny","messages":[{"role":"us',
    "two values": GOOD + b"{}",
    "single quotes": b"{'model':'tiny'}",
    "trailing comma": b'{"model":"tiny",%s,}' % MESSAGES,
    "not a number": b'{"model":"tiny","temperature":NaN,%s}' % MESSAGES,
    "leading zero": b'{"model":"tiny","n":01,%s}' % MESSAGES,
    "control character": b'{"model":"ti\x01ny",%s}' % MESSAGES,
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "utf-16": GOOD.decode().encode("utf-16"),
    "bad utf-8 in a key": b'{"m\xffdel":1,%s}' % MESSAGES,
    "bad utf-8 in the model": b'{"model":"t\xff",%s}' % MESSAGES,
    "bad utf-8 in a message": b'{"model":"tiny","messages":[{"role":"user","content":"\xc3\x28"}]}',
    "surrogate in utf-8": b'{"model":"tiny","messages":[{"role":"user","content":"\xed\xa0\x80"}]}',
    "lone surrogate in the model": b'{"model":"\\ud800",%s}' % MESSAGES,
    "array": b"[]",
    "string": b'"tiny"',
    "number": b"5",
    "null": b"null",
    "deep array": b"[" * DEEP,
    "deep object": b'{"a":' * DEEP,
    "deep and closed": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep messages": b'{"model":"tiny","messages":%s%s}' % (b"[" * DEEP, b"]" * DEEP),
    "deep image": b'{"model":"tiny","messages":[{"content":[{"type":"image_url","x":%s%s}]}]}' % (b"[" * DEEP, b"]" * DEEP),
    "deep stream_options": b'{"model":"tiny","stream_options":%s%s,%s}' % (b"[" * DEEP, b"]" * DEEP, MESSAGES),
    "deep unknown field": b'{"model":"tiny",%s,"extra":%s%s}' % (MESSAGES, b"[" * DEEP, b"]" * DEEP),
}

WRONG_TYPES = {
    "no model": (chat(model=None), "model"),
    "no messages": (chat(messages=None), "messages"),
    "model a number": (chat(model=5), "model"),
    "model null": (b'{"model":null,%s}' % MESSAGES, "model"),
    "model a list": (chat(model=["tiny"]), "model"),
    "model empty": (chat(model=""), "model"),
    "model endless": (chat(model="x" * 600), "model"),
    "messages a string": (chat(messages="hi"), "messages"),
    "messages an object": (chat(messages={"role": "user"}), "messages"),
    "messages null": (b'{"model":"tiny","messages":null}', "messages"),
    "stream a word": (chat(stream="yes"), "stream"),
    "stream a number": (chat(stream=1), "stream"),
    "stream a list": (chat(stream=[True]), "stream"),
    "stream_options a number": (chat(stream_options=5), "stream_options"),
    "stream_options a list": (chat(stream_options=["include_usage"]), "stream_options"),
    "max_tokens a word": (chat(max_tokens="many"), "max_tokens"),
    "max_tokens negative": (chat(max_tokens=-2), "max_tokens"),
    "max_tokens true": (chat(max_tokens=True), "max_tokens"),
    "max_tokens astronomical": (b'{"model":"tiny","max_tokens":1e308,%s}' % MESSAGES, "max_tokens"),
    "max_tokens beyond floats": (b'{"model":"tiny","max_tokens":1e999,%s}' % MESSAGES, "max_tokens"),
    "max_completion_tokens a list": (chat(max_completion_tokens=[1]), "max_completion_tokens"),
    "n a word": (chat(n="two"), "n"),
    "n negative": (chat(n=-3), "n"),
    "Model": (b'{"model":"tiny","Model":"other",%s}' % MESSAGES, "Model"),
    "STREAM": (b'{"model":"tiny","STREAM":true,%s}' % MESSAGES, "STREAM"),
    "long s in stream": ('{"model":"tiny","\u017ftream":true,"messages":[]}'.encode(), "\u017ftream"),
}


async def test_what_is_no_json_object_is_a_400_and_the_connection_goes_on(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for what, body in NO_JSON.items():
            for path in (CHAT, COMPLETION, EMBEDDINGS):
                await line.ask(body, path)
                got = await line.hear()
                assert (got.status, got.error["code"]) == (400, "invalid_request"), (what, path, got)
        await line.ask()
        assert (await line.hear()).status == 200
        assert [call.body for call in up.calls(CHAT)] == [GOOD]
        assert {e.outcome for e in house.ledger.answered} == {"refused", "ok"}


@pytest.mark.parametrize("path", [CHAT, COMPLETION, EMBEDDINGS, "/v1/messages"])
async def test_an_empty_body_is_told_what_to_send(tmp_path, path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for body in (b"", b" \n"):
            await line.ask(body, path)
            got = await line.hear()
            assert got.status == 400
            assert "the body is empty: send a JSON object, with the field 'model' (GET /v1/models " in got.json["error"]["message"]


async def test_a_field_of_the_wrong_type_is_a_400_that_names_it(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for what, (body, field) in WRONG_TYPES.items():
            await line.ask(body)
            got = await line.hear()
            error = got.error
            assert (got.status, error["code"], error["type"]) == (400, "invalid_request", "invalid_request_error"), (what, got)
            assert error["param"] == field, (what, got)
            assert field in error["message"], (what, got)
        assert not up.calls(CHAT)
        assert not house.ledger.claimed


@pytest.mark.parametrize(("path", "field"), [(COMPLETION, "prompt"), (EMBEDDINGS, "input")])
async def test_a_prompt_must_be_there_and_what_it_is_the_backend_judges(tmp_path, path, field):
    async with tiny() as up, open_house(tmp_path, up) as house:
        got = await house.post(b'{"model":"tiny"}', path)
        assert (got.status, got.error["param"]) == (400, field)
        for odd in (b"5", b"{}", b"null", b"true"):
            got = await house.post(b'{"model":"tiny","%s":%s}' % (field.encode(), odd), path)
            assert got.status == 400, got
            assert got.json["error"]["message"] == f"Missing or wrong parameter: '{field}'."
            assert got.headers["x-nexus-backend"] == "a"


@pytest.mark.parametrize(
    "twice",
    [b'"model":"nobody","model":"tiny"', b'"model":"tiny","m\\u006fdel":"tiny"', b'"model":"tiny","stream":false,"stream":true'],
)
async def test_a_field_that_decides_may_not_stand_twice(tmp_path, twice):
    async with tiny() as up, open_house(tmp_path, up) as house:
        got = await house.post(b"{%s,%s}" % (twice, MESSAGES))
        assert (got.status, got.error["code"]) == (400, "invalid_request")
        assert "twice" in got.error["message"]
        assert not up.calls(CHAT)


async def test_a_field_that_only_looks_twice_is_fine(tmp_path):
    body = b'{"model":"tiny","metadata":{"model":"x"},%s}' % MESSAGES
    async with tiny() as up, open_house(tmp_path, up) as house:
        assert (await house.post(body)).status == 200
        assert up.calls(CHAT)[0].body == body


async def test_a_body_that_says_it_is_too_large_is_refused_before_it_is_sent(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.say(post(b"", CHAT, f"Content-Length: {65 * 2**20}"))
        got = await line.hear()
        assert (got.status, got.error["code"]) == (413, "request_too_large")
        await line.closed()


@pytest.mark.parametrize("chunked", [False, True])
async def test_65_mib_are_refused_while_they_come_and_the_client_hears_why(tmp_path, chunked):
    size, piece = 65 * 2**20, b"x" * 2**20
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.say(post(b"", CHAT, framing))
        for _ in range(65):
            await line.say(b"100000\r\n" + piece + b"\r\n" if chunked else piece)
        await line.say(b"0\r\n\r\n" if chunked else b"")
        got = await line.hear()
        assert (got.status, got.error["code"], got.headers["connection"]) == (413, "request_too_large", "close")
        assert not await line.closed()
        assert not up.calls(CHAT)


async def test_a_small_body_that_unpacks_into_a_large_one_is_refused(tmp_path):
    bomb = gzip.compress(b" " * 20 * 2**20)
    async with tiny() as up, open_house(tmp_path, up, server={"max_body_bytes": 2**20}) as house:
        got = await house.post(bomb, Content_Encoding="gzip")
        assert (got.status, got.error["code"]) == (413, "request_too_large")


async def test_packed_bodies_are_unpacked_and_broken_ones_are_a_400(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        assert (await house.post(gzip.compress(GOOD), Content_Encoding="gzip")).status == 200
        assert up.calls(CHAT)[0].body == GOOD
        assert up.calls(CHAT)[0].header("content-encoding") is None
        got = await house.post(b"not packed at all", Content_Encoding="gzip")
        assert (got.status, got.error["code"]) == (400, "invalid_request")


async def test_all_bodies_together_are_bounded_while_they_arrive(tmp_path):
    limits = {"max_body_bytes": 80_000, "max_inflight_body_bytes": 100_000}
    async with tiny() as up, open_house(tmp_path, up, server=limits) as house:
        async with house.line() as first, house.line() as second, house.line() as third:
            await first.say(post(b"x" * 60_000, CHAT, "Content-Length: 60001"))
            await second.say(post(b"ea60\r\n" + b"y" * 20_000, CHAT, "Transfer-Encoding: chunked"))
            await until(lambda: house.state()["bytes held"] == 80_000)
            await third.say(post(b"", CHAT, "Content-Length: 50000"))
            got = await third.hear()
            assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "overloaded", "1")
            await second.say(b"y" * 30_000)
            got = await second.hear()
            assert (got.status, got.error["code"]) == (503, "overloaded")
            await first.say(b"}")
            assert (await first.hear()).status == 400


async def test_a_body_that_stops_coming_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(nexus.body, "SILENCE_SECONDS", 0.2)
    async with tiny() as up, open_house(tmp_path, up) as house:
        async with house.line() as line, house.line() as chunked:
            await line.say(post(GOOD[:10], CHAT, f"Content-Length: {len(GOOD)}"))
            await chunked.say(post(b"5\r\n{", CHAT, "Transfer-Encoding: chunked"))
            for silent in (line, chunked):
                got: Answer = await silent.hear()
                assert (got.status, got.error["code"]) == (408, "request_timeout")
            await asyncio.gather(line.closed(), chunked.closed())


async def test_a_body_that_drips_is_not_waited_for(tmp_path, monkeypatch):
    """A byte comes before each pause is over, but at that rate the body would take a day."""
    monkeypatch.setattr(nexus.body, "SILENCE_SECONDS", 0.5)
    async with tiny() as up, open_house(tmp_path, up) as house:
        async with house.line() as line, house.line() as chunked, house.line() as brisk:
            await line.say(post(GOOD[:1], CHAT, "Content-Length: 60000"))
            await chunked.say(post(b"1\r\n{\r\n", CHAT, "Transfer-Encoding: chunked"))
            await brisk.say(post(GOOD[:9], CHAT, f"Content-Length: {len(GOOD) + 1500}"))
            for _ in range(10):  # longer than one pause, and never silent for so long
                for dripping, drop in ((line, b" "), (chunked, b"1\r\n \r\n"), (brisk, b" " * 150)):
                    await dripping.say(drop)
                await asyncio.sleep(0.1)
            await brisk.say(GOOD[9:])
            for dripping in (line, chunked):
                got: Answer = await dripping.hear()
                assert (got.status, got.error["code"]) == (408, "request_timeout")
            assert (await brisk.hear()).status == 200


async def test_fields_that_nobody_knows_reach_the_backend_byte_for_byte(tmp_path):
    body = b' { "zzz" : [1.0e2,\t"\\u00e9\xc3\xa9", {"a":null} ] , "model":"tiny" ,"messages":[ ],"n":1}\r\n'
    async with tiny() as up, open_house(tmp_path, up) as house:
        assert (await house.post(body)).status == 200
        assert members_of(up.calls(CHAT)[0].body) == members_of(body)
        assert (await house.post(a_body("tiny", prompt="x", input=[1]), CHAT)).status == 200
