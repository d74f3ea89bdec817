"""Frames that nobody should send: what each client of each server gets of them, through a real gateway.

None takes the gateway down, and none looks like a proper end.  How streams end is in `test_conformance_ends`.
"""

from __future__ import annotations

import base64
import json

import pytest

from nexus.testing import Respond, Stream, sse

from .cases import case
from .survivors import ANTHROPIC, NAMED, OPENAI, TABLES, TRANSLATED, WORDS, ask, between, is_broken, pairs, played, survivor

NO_JSON = b'data: {"type": "content_block_delta", "index": 0, \n\n'
NO_UTF8 = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\xff\xfe"},"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}\n\n'
NO_OBJECT = b"data: 7\n\n"
UNREADABLE = {"no JSON": NO_JSON, "no UTF-8": NO_UTF8, "no object": NO_OBJECT}


# ---------------------------------------------------------------- streams


@between
async def test_a_frame_that_cannot_be_read_ends_the_stream_as_an_error(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        rest = server.exchange(NAMED["plain"]).frames[-2:]
        for name, frame in UNREADABLE.items():
            with case(name):
                heard = await ask(at, client, Stream([*server.begun(WORDS), frame, *rest], done=False))
                is_broken(client, heard, "cannot be read")


@between
async def test_a_first_frame_that_cannot_be_read_is_a_failed_attempt(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        for name, frame in UNREADABLE.items():
            with case(name):
                heard = await ask(at, client, Stream([frame], done=False))
                assert heard.status == 502
                assert "cannot be read" in client.error(502, heard.body)


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
async def test_within_one_dialect_a_frame_passes_whatever_it_is(table, tmp_path):
    async with survivor(table, tmp_path) as at:
        for name, frame in UNREADABLE.items():
            with case(name):
                frames = [*table.begun(WORDS), frame, *table.exchange(NAMED["plain"]).frames[-3:]]
                heard = await ask(at, table, Stream(frames, done=False))
                assert (heard.status, heard.body) == (200, b"".join(frames))


@pairs
async def test_a_stream_without_its_last_event_is_broken(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, Stream(server.begun(WORDS), done=False))
        is_broken(client, heard)


@pairs
async def test_a_stream_that_ends_within_an_event_is_broken(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        half = server.exchange(NAMED["plain"]).frames[-2][:-9]
        heard = await ask(at, client, Stream([*server.begun(WORDS), half], done=False))
        is_broken(client, heard)


@pairs
async def test_a_stream_without_any_event_is_a_failed_attempt(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, Stream([b": nothing\n\n"], done=False))
        assert heard.status == 502
        assert client.error(502, heard.body)


@pairs
async def test_an_error_event_in_mid_stream_is_an_error_and_nothing_comes_after_it(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        late = server.exchange(NAMED["plain"]).frames[-2:]
        heard = await ask(at, client, Stream([*server.begun(WORDS), server.error_event("out of memory"), *late], done=False))
        is_broken(client, heard, "out of memory")


NO_CHOICE = {
    "null": [sse({"id": None, "choices": None, "model": None})],
    "empty": [sse({"id": "x", "choices": []})] * 2,
    "missing": [sse({"id": "x", "base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}})],
    "usage alone": [sse({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 0}})],
    "nothing": [],
}


@pytest.mark.parametrize("client", TABLES, ids=lambda table: table.dialect)
async def test_a_stream_without_a_choice_is_a_failed_attempt(client, tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        for name, frames in NO_CHOICE.items():
            for done in (True, False):
                with case(name, done):
                    heard = await ask(at, client, Stream(frames, done=done))
                    assert heard.status == 502, heard.body
                    assert client.error(502, heard.body)


UNKNOWN = b'event: brand_new\ndata: {"type":"brand_new","index":9,"novelty":["?"],"delta":{"type":"newer","text":7}}\n\n'


@pairs
async def test_an_event_of_an_unknown_type_changes_nothing(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        frames = server.exchange(NAMED["tools"]).frames
        frames = [frames[0], *(piece for frame in frames[1:-1] for piece in (UNKNOWN, frame)), frames[-1]]
        heard = await ask(at, client, Stream(frames, done=False))
        if client is server:
            assert heard.body == b"".join(frames)
        else:
            assert client.streamed(heard.body) == client.sayable(server.sayable(NAMED["tools"].said))


# ---------------------------------------------------------------- tool calls


@between
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_without_an_id_gets_one(client, server, stream, tmp_path):
    async with survivor(server, tmp_path) as at:
        for instead in (b'"id":"",', b'"id":null,', b""):
            with case(instead):
                heard = await ask(at, client, anonymous(server, instead, stream=stream), stream=stream)
                assert heard.status == 200, heard.body
                answer = client.streamed(heard.body) if stream else client.whole(heard.body)
                calls = answer.parts[-2:]
                assert [call.name for call in calls] == ["get_weather", "get_time"]
                assert all(call.id for call in calls)
                assert calls[0].id != calls[1].id
                assert [call.arguments for call in calls] == [call.arguments for call in NAMED["parallel tools"].said.parts]


def anonymous(server, instead, *, stream):
    exchange = server.exchange(NAMED["parallel tools"])
    whole = json.dumps(exchange.reply, separators=(",", ":"), ensure_ascii=False).encode()
    frames = list(exchange.frames) if stream else [whole]
    for id in (b"call_W1", b"call_T2"):
        frames = [frame.replace(b'"id":"%b",' % id, instead) for frame in frames]
    assert b"call_W1" not in b"".join(frames)
    return Stream(frames, done=False) if stream else Respond(body=frames[0], headers={"Content-Type": "application/json"})


@between
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_call_without_a_name_is_an_error(client, server, stream, tmp_path):
    async with survivor(server, tmp_path) as at:
        exchange = server.exchange(NAMED["tools"])
        whole = json.dumps(exchange.reply, separators=(",", ":"), ensure_ascii=False).encode()
        frames = [frame.replace(b'"name":"get_weather"', b'"name":""') for frame in (exchange.frames if stream else [whole])]
        act = Stream(frames, done=False) if stream else Respond(body=frames[0], headers={"Content-Type": "application/json"})
        heard = await ask(at, client, act, stream=stream)
        sentence = client.broken(heard.body)[1] if stream else client.error(502, heard.body)
        assert "tool call without a name" in sentence


def garbled(*, stream):
    """OpenAI's server lets the model say what it likes for arguments."""
    exchange = OPENAI.exchange(NAMED["tools"])
    whole = json.dumps(exchange.reply, separators=(",", ":"), ensure_ascii=False)
    said = json.dumps(NAMED["tools"].said.parts[-1].arguments, ensure_ascii=False)
    if not stream:
        body = whole.replace(said, json.dumps("{city: Paris")).encode()
        assert b"{city: Paris" in body
        return Respond(body=body, headers={"Content-Type": "application/json"})
    frames = [frame for frame in exchange.frames if b'"function":{"arguments":"}"}' not in frame]
    assert len(frames) == len(exchange.frames) - 1
    return Stream(frames, done=False)


async def test_arguments_that_are_no_json_have_no_place_in_anthropics_form(tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        heard = await ask(at, ANTHROPIC, garbled(stream=False), stream=False)
        assert heard.status == 502
        assert "get_weather" in ANTHROPIC.error(502, heard.body)
        heard = await ask(at, ANTHROPIC, garbled(stream=True))
        with pytest.raises(ValueError, match="no error event"):
            ANTHROPIC.streamed(heard.body)
        assert "get_weather" in ANTHROPIC.broken(heard.body)[1]


async def test_arguments_that_are_no_json_are_text_for_openais_clients(tmp_path):
    async with survivor(ANTHROPIC, tmp_path) as at:
        frames = [f for f in ANTHROPIC.exchange(NAMED["tools"]).frames if b'"partial_json":"}"' not in f]
        heard = await ask(at, OPENAI, Stream(frames, done=False))
        with pytest.raises(ValueError, match="delimiter"):
            OPENAI.streamed(heard.body)  # the strict reader parses them; a client gets the model's own words
        assert heard.body.endswith(b"data: [DONE]\n\n")
        assert b'"finish_reason":"tool_calls"' in heard.body


async def test_arguments_in_a_request_that_are_no_json_are_told_as_lost(tmp_path):
    request = json.loads(json.dumps(OPENAI.exchange(NAMED["tool results"]).request))
    request["messages"][1]["tool_calls"][0]["function"]["arguments"] = "{city: Paris"
    async with survivor(ANTHROPIC, tmp_path) as at:
        heard = await ask(at, OPENAI, played(ANTHROPIC, "tool results", stream=False), stream=False, request=request)
        assert (heard.status, heard.lost) == (200, {"tool_arguments"})
        assert at.upstream.requests[-1].json["messages"][1]["content"][1]["input"] == {"arguments": "{city: Paris"}


# ---------------------------------------------------------------- whole answers


BODIES = {
    "no JSON": b"<html>It works!</html>",
    "cut": b'{"id": "x", "choices": [{"index": 0, "message": {"role": "assi',
    "empty": b"",
    "no UTF-8": b'{"choices":[{"message":{"content":"\xff"}}],"content":[{"type":"text","text":"\xff"}]}',
    "a list": b"[]",
    "nothing said": b"{}",
    "null": b'{"id":null,"choices":null,"content":null,"model":null,"usage":null}',
    "no choice": b'{"id":"x","choices":[],"content":{}}',
    "choices that are none": b'{"choices":{},"content":"x"}',
    "a choice that is none": b'{"choices":[null]}',
    "a choice without a message": b'{"choices":[{"index":0,"finish_reason":"stop"}]}',
    "no message": b'{"choices":[{"message":null,"finish_reason":"stop"}]}',
    "a balance that is too low": b'{"base_resp":{"status_code":1008,"status_msg":"insufficient balance"},"choices":null}',
    "deep": b"[" * 100_000,
}


@pairs
async def test_a_whole_answer_that_is_no_answer_is_a_failed_attempt(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        for name, body in BODIES.items():
            with case(name):
                heard = await ask(at, client, Respond(body=body, headers={"Content-Type": "application/json"}), stream=False)
                if client is server and name == "no UTF-8":
                    assert (heard.status, heard.body) == (200, body)  # an answer: what is in it is the client's to read
                else:
                    assert heard.status == 502, heard.body
                    assert client.error(502, heard.body)


@pairs
async def test_an_error_with_status_200_is_a_failed_attempt(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        act = Respond(body=server.error_body(500, "out of memory"), headers={"Content-Type": "application/json"})
        heard = await ask(at, client, act, stream=False)
        assert heard.status == 502, heard.body
        assert "out of memory" in client.error(502, heard.body)


# ---------------------------------------------------------------- requests


@pairs
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_picture_by_url_where_only_base64_is_taken_is_refused_with_the_servers_words(client, server, stream, tmp_path):
    """Who sends a URL is told so; nobody downloads it for them."""
    sentence = "invalid image input: only base64 data is taken"
    async with survivor(server, tmp_path) as at:
        act = Respond(400, body=server.error_body(400, sentence), headers={"Content-Type": "application/json"})
        request = client.exchange(NAMED["images"]).request
        heard = await ask(at, client, act, stream=stream, request=request)
        assert heard.status == 400
        assert sentence in client.error(400, heard.body)
        assert len(at.upstream.requests) == 1
        assert "https://pictures.example/cat.jpg" in at.upstream.requests[0].body.decode()


WRONG = [
    (OPENAI, {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]}, "image_url"),
    (OPENAI, {"messages": [{"role": "king", "content": "hello"}]}, "messages[0]"),
    (OPENAI, {"tools": [{"type": "function", "function": {}}]}, "tools[0]"),
    (OPENAI, {"messages": [{"role": "tool", "content": "18 °C"}]}, "tool_call_id"),
    (OPENAI, {"response_format": {"type": "xml"}}, "response_format"),
    (ANTHROPIC, {"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "source"),
    (ANTHROPIC, {"messages": [{"role": "king", "content": "hello"}]}, "messages[0]"),
    (ANTHROPIC, {"tools": [{"input_schema": {}}]}, "tools[0]"),
    (ANTHROPIC, {"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "18 °C"}]}]}, "tool_use_id"),
    (ANTHROPIC, {"tool_choice": {"type": "tool"}}, "tool_choice"),
]


@between
async def test_a_request_that_cannot_be_read_is_a_400_that_says_where(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        for fields, named in [(fields, named) for whose, fields, named in WRONG if whose is client]:
            with case(named, fields):
                heard = await ask(at, client, Respond(500), stream=False, request={**client.simplest, **fields})
                assert heard.status == 400, heard.body
                assert named in client.error(400, heard.body)
                assert at.upstream.requests == []


async def test_a_picture_keeps_every_byte(tmp_path):
    """The longest value of a request, both ways."""
    picture = base64.b64encode(bytes(range(256)) * 2048).decode()
    for client, server in TRANSLATED:
        asked = json.dumps(client.exchange(NAMED["images"]).request)
        old = json.dumps(NAMED["images"].asked.messages[0].parts[1].data)[1:-1]
        async with survivor(server, tmp_path / client.dialect) as at:
            act = played(server, "images", stream=False)
            heard = await ask(at, client, act, stream=False, request=json.loads(asked.replace(old, picture)))
            assert heard.status == 200
            assert picture in at.upstream.requests[-1].body.decode()
