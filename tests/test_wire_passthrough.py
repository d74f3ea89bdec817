"""What passes through unchanged, and the little that does not: the model's name, a usage event that Nexus itself asked for."""

from __future__ import annotations

import json
import random

import pytest
from msgspec import Raw

from nexus.dialects.members import members_of
from nexus.testing import Respond, Stream, a_body, sse

from .wire import open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

ODD = b'{ "messages":[ {"role":"user","content":"the \\"model\\":\\"alias\\" \\u00e9 \xc3\xa9"} ] ,\n "zzz":[1.0e2,{"model":"alias"}],"model" : "alias" ,"n":1}\r\n'
COUNTS = {"prompt_tokens": 30, "completion_tokens": 7, "total_tokens": 37, "prompt_tokens_details": {"cached_tokens": 20}}
CHOICE = {"index": 0, "delta": {"content": 'caf\u00e9 "usage": {'}, "finish_reason": None}
USAGE = sse({"id": "c", "choices": [], "usage": COUNTS})
DONE = b"data: [DONE]\n\n"
TAKES = {"takes_usage": True}


def said(*, ending=b"\n\n", usage=True):
    """The events of a stream as a server words them."""
    chunks = [{"id": "c", "choices": [CHOICE], "usage": None}] * 5
    chunks += [{"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None}]
    events = [b": hi" + ending] + [b"data: " + json.dumps(c, ensure_ascii=False).encode() + ending for c in chunks]
    return [*events, *([USAGE] if usage else []), DONE]


async def test_an_alias_changes_the_models_value_and_no_other(tmp_path):
    async with tiny() as up, open_house(tmp_path, up, routing={"aliases": {"alias": "tiny"}}) as house:
        got = await house.post(ODD)
        assert (got.status, got.headers["x-nexus-model"]) == (200, "tiny")
        assert members_of(up.calls(CHAT)[0].body) == members_of(ODD) | {"model": Raw(b'"tiny"')}


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        (b"", b',"stream_options":{"include_usage":true}}'),
        (b',"stream_options":null', b',"stream_options":{"include_usage":true}}'),
        (b',"stream_options":{}', b',"stream_options":{"include_usage":true}}'),
        (b',"stream_options":{"include_usage":false,"x":1}', b',"stream_options":{"include_usage":true,"x":1}}'),
        (b',"stream_options":{"x":1}', b',"stream_options":{"x":1,"include_usage":true}}'),
    ],
)
async def test_usage_that_only_nexus_asked_for_is_counted_and_taken_out(tmp_path, asked, sent):
    body = STREAMED[:-1] + asked + b"}"
    async with tiny() as up, open_house(tmp_path, up, a=TAKES) as house:
        up.next(Stream(said(), done=False), path=CHAT)
        got = await house.post(body)
        assert up.calls(CHAT)[0].body == STREAMED[:-1] + sent
        assert got.body == b"".join(said(usage=False))
        await reported(house, got)


async def test_usage_that_the_client_asked_for_stays(tmp_path):
    body = a_body("tiny", stream=True, stream_options={"include_usage": True})
    async with tiny() as up, open_house(tmp_path, up, a=TAKES) as house:
        up.next(Stream(said(), done=False), path=CHAT)
        got = await house.post(body)
        assert up.calls(CHAT)[0].body == body
        assert got.body == b"".join(said())
        await reported(house, got)


async def test_a_server_that_is_not_known_to_take_stream_options_is_not_asked(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Stream(said(), done=False), path=CHAT)
        got = await house.post(STREAMED)
        assert up.calls(CHAT)[0].body == STREAMED
        assert got.body == b"".join(said())  # it says so of itself, and what it says is passed on
        await reported(house, got)


async def reported(house, got):
    story = await house.get(f"/nexus/requests/{got.headers['x-nexus-request-id']}")
    assert story["usage"] == {
        "input_tokens": 30,
        "output_tokens": 7,
        "cached_tokens": 20,
        "reasoning_tokens": 0,
        "source": "reported",
    }
    assert house.ledger.finished[-1].usage == house.ledger.answered[-1].usage


async def test_usage_that_nobody_reports_is_counted(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Stream(said(usage=False), done=False), Respond(json={"choices": [{"message": {"content": "x" * 400}}]}), path=CHAT)
        for body in (STREAMED, GOOD):
            got = await house.post(body)
            usage = (await house.get(f"/nexus/requests/{got.headers['x-nexus-request-id']}"))["usage"]
            assert usage["source"] == "counted"
            assert usage["output_tokens"] >= 4
            assert usage["input_tokens"] > 0


@pytest.mark.parametrize(
    "odd", [{"prompt_tokens": "many"}, [], "x", {"prompt_tokens": -5, "completion_tokens": 1e300}, {"a": None}]
)
async def test_usage_that_makes_no_sense_is_passed_on_and_harms_nothing(tmp_path, odd):
    events = [*said(usage=False)[:-1], sse({"choices": [], "usage": odd}), DONE]
    whole = json.dumps({"choices": [{"message": {}}], "usage": odd}).encode()
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Stream(events, done=False), Respond(body=whole, headers={"Content-Type": "application/json"}), path=CHAT)
        assert (await house.post(STREAMED)).body == b"".join(events)
        assert (await house.post()).body == whole


class Pieces(Stream):
    """A stream whose chunks end anywhere."""

    async def _play_events(self, wire, chunked):
        for piece in self.events:
            await wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))


@pytest.mark.parametrize("ending", [b"\n\n", b"\r\n\r\n"])
async def test_a_stream_cut_into_random_chunks_arrives_as_it_was_said(tmp_path, ending):
    dice = random.Random(6398)
    stream = b"".join(said(ending=ending))
    async with tiny() as up, open_house(tmp_path, up, a=TAKES) as house:
        for _ in range(150):
            cuts = sorted(dice.sample(range(1, len(stream)), dice.randint(0, 40)))
            pieces = [stream[start:end] for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
            up.next(Pieces(pieces), path=CHAT)
            got = await house.post(STREAMED)
            assert got.body == b"".join(said(ending=ending, usage=False)), pieces
        assert {event.usage.output_tokens for event in house.ledger.finished} == {7}
