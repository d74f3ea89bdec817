"""Anthropic's dialect and backend behind a whole gateway: the same dialect on both sides, another on either, and the real llama.cpp."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest

from nexus.dialects.members import members_of
from nexus.testing import (
    CutAfter,
    FakeModel,
    Held,
    Respond,
    Stream,
    a_body,
    anthropic_event,
    anthropic_problem,
    anthropic_server,
    openai_server,
)
from nexus.testing.gateway import RunningGateway

from .asking import CHAT, Said, a_backend, fleet, settled

MESSAGES, COUNT = "/v1/messages", "/v1/messages/count_tokens"
KEY = "sk-ant-of-the-backend"
VERSION = {"anthropic-version": "2026-10-21"}
GET = {"name": "get_weather", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}
GET_OPENAI = {"type": "function", "function": {"name": "get_weather", "parameters": GET["input_schema"]}}
START = anthropic_event("message_start", message={"id": "msg_1", "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}})
OPENED = anthropic_event("content_block_start", index=0, content_block={"type": "text", "text": ""})
WORD = anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": "word"})


@attrs.frozen
class House:
    """A gateway before Anthropic's cloud, which has `claude-tiny`, and an OpenAI-compatible server, which has `tiny`."""

    gateway: RunningGateway
    cloud: Any
    server: Any


@pytest.fixture
async def house(nexus_gateway: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setenv("ANTHROPIC_KEY", KEY)
    async with anthropic_server(api_key=KEY, thinking="hm") as cloud, openai_server([FakeModel("tiny", vision=True)]) as server:
        config = fleet(a_backend("cloud", cloud, "anthropic", api_key_env="ANTHROPIC_KEY"), a_backend("home", server))
        yield House(await settled(await nexus_gateway(config)), cloud, server)


def asked(model: str = "claude-tiny", **fields: Any) -> dict[str, Any]:
    return {"model": model, "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}], **fields}


async def post(house: House, body: Any, path: str = MESSAGES, **headers: str) -> Said:
    sent = {"data": body} if isinstance(body, bytes) else {"json": body}
    async with house.gateway.client.post(path, headers=VERSION | headers, **sent) as answer:
        return Said(answer.status, answer.headers.copy(), await answer.read())


def events(said: Said) -> list[dict[str, Any]]:
    """The events of Anthropic's stream; every one is named by its `event:` line."""
    found = []
    for frame in said.body.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def text(said: Said) -> str:
    return "".join(event["delta"].get("text", "") for event in events(said) if event["type"] == "content_block_delta")


# ---------------------------------------------------------------- the same dialect on both sides


async def test_a_request_passes_with_its_fields_byte_for_byte_its_headers_and_its_query(house: House):
    body = json.dumps(
        asked(
            system=[{"type": "text", "text": "é", "cache_control": {"type": "ephemeral"}}],
            thinking={"type": "adaptive", "display": "omitted"},
            context_management={"edits": []},
            never_heard_of={"a": [1]},
        ),
        indent=1,
    ).encode()
    said = await post(house, body, f"{MESSAGES}?beta=true&secret=1", **{"anthropic-beta": "a,b", "x-api-key": "the-clients"})
    (call,) = house.cloud.calls(MESSAGES)
    assert members_of(call.body) == members_of(body)
    assert call.query == "beta=true"
    assert (call.header("anthropic-beta"), call.header("anthropic-version")) == ("a,b", "2026-10-21")
    assert (call.header("x-api-key"), call.header("authorization")) == (KEY, None)
    assert [block["type"] for block in said.json["content"]] == ["thinking", "text"]
    assert (said.status, said.nexus("Backend"), said.nexus("Translation-Loss")) == (200, "cloud", None)


async def test_a_stream_passes_byte_for_byte(house: House):
    frames = [START, OPENED, WORD, anthropic_event("hologram", odd=1), anthropic_event("message_stop")]
    house.cloud.next(Stream(frames, done=False, headers={"Request-Id": "req_upstream"}), path=MESSAGES)
    said = await post(house, asked(stream=True))
    assert said.body == b"".join(frames)
    assert said.headers["Request-Id"] == "req_upstream"
    assert said.headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize("stream", [False, True])
async def test_usage_is_watched(house: House, stream: bool):
    said = await post(house, asked(stream=stream))
    assert said.status == 200
    async with house.gateway.client.get("/nexus/requests?limit=1") as answer:
        (told,) = (await answer.json())["requests"]
    assert told["usage"]["source"] == "reported"
    assert told["usage"]["output_tokens"] == 9


async def test_an_aliased_name_is_the_only_thing_that_changes(nexus_gateway: Any):
    async with anthropic_server() as cloud:
        config = fleet(a_backend("cloud", cloud, "anthropic"), routing={"aliases": {"claude-opus-5-5": "claude-tiny"}})
        house = House(await settled(await nexus_gateway(config)), cloud, None)
        said = await post(house, asked("claude-opus-5-5"))
    (call,) = cloud.calls(MESSAGES)
    assert members_of(call.body) == members_of(json.dumps(asked("claude-tiny")).encode())
    assert said.status == 200


async def test_a_rejection_is_the_clouds_own(house: House):
    house.cloud.next(anthropic_problem(400, "invalid_request_error", "messages: too odd"), path=MESSAGES)
    said = await post(house, asked())
    assert (said.status, said.json["request_id"], said.error["message"]) == (400, "req_0123456789", "messages: too odd")


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (529, "overloaded_error"), (500, "api_error")])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_cloud_that_cannot_now_is_passed_over(nexus_gateway: Any, status: int, kind: str, stream: bool):
    async with anthropic_server() as first, anthropic_server() as second:
        config = fleet(a_backend("first", first, "anthropic"), a_backend("second", second, "anthropic"))
        house = House(await settled(await nexus_gateway(config)), first, second)
        first.next(anthropic_problem(status, kind, "not now", retry_after="7"), path=MESSAGES)
        said = await post(house, asked(stream=stream))
    attempts = "2" if status == 500 else "1"  # who is only busy has not failed
    assert (said.status, said.nexus("Backend"), said.nexus("Attempts")) == (200, "second", attempts)


async def test_an_error_as_the_first_event_is_a_failed_attempt(nexus_gateway: Any):
    async with anthropic_server() as first, anthropic_server() as second:
        config = fleet(a_backend("first", first, "anthropic"), a_backend("second", second, "anthropic"))
        house = House(await settled(await nexus_gateway(config)), first, second)
        error = anthropic_event("error", error={"type": "overloaded_error", "message": "Overloaded"})
        first.next(Stream([anthropic_event("ping"), error], done=False), path=MESSAGES)
        said = await post(house, asked(stream=True))
    assert (said.status, said.nexus("Backend")) == (200, "second")
    assert b"Overloaded" not in said.body


async def test_a_stream_that_breaks_off_ends_with_an_error_event_and_no_normal_end(house: House):
    house.cloud.next(Stream([START, OPENED, WORD], done=False, end="cut"), path=MESSAGES)
    *_, last = events(await post(house, asked(stream=True)))
    assert (last["type"], last["error"]["type"], last["error"]["code"]) == ("error", "api_error", "backend_broke_off")
    assert last["request_id"]


async def test_a_stream_without_its_last_event_is_cut(house: House):
    house.cloud.next(Stream([START, OPENED, WORD], done=False), path=MESSAGES)
    assert events(await post(house, asked(stream=True)))[-1]["type"] == "error"


async def test_a_stream_stays_alive_before_its_first_event(nexus_gateway: Any):
    gate = asyncio.Event()
    async with anthropic_server() as cloud:
        config = fleet(a_backend("cloud", cloud, "anthropic"), server={"stream_keepalive_seconds": 1})
        gateway = await settled(await nexus_gateway(config))
        whole = Stream([START, OPENED, WORD, anthropic_event("message_stop")], done=False)
        cloud.next(Held(gate, whole), path=MESSAGES)
        async with gateway.client.post(MESSAGES, json=asked(stream=True), headers=VERSION) as answer:
            assert answer.headers["X-Nexus-Pending"] == "true"
            assert await answer.content.readuntil(b"\n\n") == b": keep-alive\n\n"
            gate.set()
            rest = await answer.read()
    assert rest.replace(b": keep-alive\n\n", b"") == START + OPENED + WORD + anthropic_event("message_stop")


LLAMACPP_SAYS = {"error": {"code": 400, "message": "request (18014 tokens) exceeds the available context size (8192 tokens), try increasing it", "type": "exceed_context_size_error"}}  # fmt: skip


async def test_an_error_of_another_shape_is_told_in_anthropics(house: House):
    house.cloud.next(Respond(422, json={"error": {"code": 422, "message": "no such thing", "type": "odd"}}), path=MESSAGES)
    said = await post(house, asked(), **{"X-Request-Id": "mine"})
    assert said.status == 422
    assert (said.json["type"], said.json["request_id"], said.headers["Content-Type"]) == ("error", "mine", "application/json")
    assert (said.json["error"]["type"], said.json["error"]["message"]) == ("invalid_request_error", "no such thing")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("model", "path"), [("claude-tiny", MESSAGES), ("tiny", CHAT)])
async def test_a_prompt_too_long_for_the_server_is_told_in_words_that_agents_know(
    house: House, model: str, path: str, stream: bool
):
    server = house.cloud if path == MESSAGES else house.server
    server.next(Respond(400, json=LLAMACPP_SAYS), path=path)
    said = await post(house, asked(model, stream=stream))
    assert (said.status, said.json["type"], said.json["error"]["type"]) == (400, "error", "invalid_request_error")
    assert said.json["error"]["message"] == "prompt is too long: 18014 tokens > 8192 maximum"
    assert said.json["error"]["code"] == "context_length_exceeded"


async def test_anthropics_own_error_passes_byte_for_byte(house: House):
    own = b'{"type":"error", "error":{"type":"invalid_request_error","message":"prompt is too long: 9 tokens > 8 maximum"}}'
    house.cloud.next(Respond(400, body=own), path=MESSAGES)
    said = await post(house, asked())
    assert (said.status, said.body) == (400, own)


# ---------------------------------------------------------------- counting


async def test_the_cloud_counts_exactly(house: House):
    said = await post(house, {"model": "claude-tiny", "messages": asked()["messages"], "tools": []}, f"{COUNT}?beta=true")
    assert (said.status, said.nexus("Token-Count")) == (200, "exact")
    assert said.json == {"input_tokens": len(json.dumps([asked()["messages"]])) // 4}
    assert house.cloud.calls(COUNT)


async def test_where_nobody_counts_it_is_an_estimate(house: House):
    said = await post(house, {"model": "tiny", "messages": [{"role": "user", "content": "word " * 100}]}, COUNT)
    assert (said.status, said.nexus("Token-Count")) == (200, "estimated")
    assert 50 <= said.json["input_tokens"] <= 300


@pytest.mark.parametrize("act", [Respond(429, headers={"Retry-After": "50"}), Respond(404), Respond(500), Respond(200, body=b"no")])
async def test_a_count_that_fails_is_an_estimate_and_hurts_no_chat(house: House, act: Respond):
    house.cloud.on(COUNT, act)
    for _ in range(12):  # more than would eject a backend
        said = await post(house, {"model": "claude-tiny", "messages": asked()["messages"]}, COUNT)
        assert (said.status, said.nexus("Token-Count")) == (200, "estimated")
    assert len(house.cloud.calls(COUNT)) == 12
    chat = await post(house, asked())
    assert (chat.status, chat.nexus("Backend")) == (200, "cloud")
    (pair,) = house.gateway.gateway.fleet.standings["cloud"].pairs.values()
    assert (pair.failures, pair.paused_until, pair.claimed) == (0.0, 0.0, 0)


@pytest.mark.parametrize("other", [False, True])
async def test_a_count_never_takes_a_prompt_where_a_chat_would_not_go(nexus_gateway: Any, other: bool):
    """The home server cannot count; the cloud, with the model itself or with its fallback, could."""
    async with anthropic_server() as cloud, openai_server([FakeModel("mine" if other else "claude-tiny")]) as server:
        (model,) = server.models
        config = fleet(
            a_backend("cloud", cloud, "anthropic"),
            a_backend("home", server),
            routing={"fallbacks": {model: ["claude-tiny"]} if other else {}},
        )
        gateway = await settled(await nexus_gateway(config))
        for path, told in ((MESSAGES, ("home", None)), (COUNT, (None, "estimated"))):
            async with gateway.client.post(path, json=asked(model), headers=VERSION) as answer:
                assert answer.status == 200
                assert (answer.headers.get("X-Nexus-Backend"), answer.headers.get("X-Nexus-Token-Count")) == told
        assert not cloud.calls(COUNT)


async def test_a_count_that_the_server_rejects_is_its_word(house: House):
    house.cloud.on(COUNT, anthropic_problem(400, "invalid_request_error", "no"))
    said = await post(house, {"model": "claude-tiny", "messages": asked()["messages"]}, COUNT)
    assert (said.status, said.json["error"]["message"], said.nexus("Token-Count")) == (400, "no", None)


async def test_nothing_is_counted_for_a_model_that_nobody_serves(house: House):
    said = await post(house, {"model": "nobodys", "messages": asked()["messages"]}, COUNT)
    assert (said.status, said.error["type"]) == (404, "not_found_error")


# ---------------------------------------------------------------- a client of Anthropic's, a server of OpenAI's


async def test_a_message_from_an_openai_server(house: House):
    said = await post(house, asked("tiny", system="be brief", top_k=3, context_management={"edits": []}))
    (chat,) = house.server.calls(CHAT)
    assert [message["role"] for message in chat.json["messages"]] == ["system", "user"]
    assert (said.status, said.json["type"], said.json["stop_reason"]) == (200, "message", "end_turn")
    assert said.json["content"] == [{"type": "text", "text": "The quick brown fox jumps over the lazy dog."}]
    assert said.json["usage"]["output_tokens"] == 9
    assert "context_management" in (said.nexus("Translation-Loss") or "")


async def test_a_stream_from_an_openai_server(house: House):
    said = await post(house, asked("tiny", stream=True))
    found = events(said)
    kinds = [event["type"] for event in found]
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert text(said) == "The quick brown fox jumps over the lazy dog."
    assert found[-2]["delta"]["stop_reason"] == "end_turn"
    assert found[-2]["usage"]["output_tokens"] == 9


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_round_trip_at_an_openai_server(house: House, stream: bool):
    house.server.tool = True
    first = await post(house, asked("tiny", tools=[GET], stream=stream))
    call = _called(first, stream)
    assert (call["name"], call["input"]) == ("get_weather", {"city": "text"})
    result = {"type": "tool_result", "tool_use_id": call["id"], "content": [{"type": "text", "text": "rain"}]}
    turns = [*asked()["messages"], {"role": "assistant", "content": [call]}, {"role": "user", "content": [result]}]
    second = await post(house, asked("tiny", tools=[GET], stream=stream, messages=turns))
    sent = house.server.calls(CHAT)[-1].json["messages"]
    assert sent[-1] == {"role": "tool", "tool_call_id": call["id"], "content": "rain"}
    assert json.loads(sent[-2]["tool_calls"][0]["function"]["arguments"]) == {"city": "text"}
    assert "quick brown" in (text(second) if stream else second.json["content"][0]["text"])


def _called(said: Said, stream: bool) -> dict[str, Any]:
    if not stream:
        assert said.json["stop_reason"] == "tool_use"
        return next(block for block in said.json["content"] if block["type"] == "tool_use")
    found = events(said)
    assert found[-2]["delta"]["stop_reason"] == "tool_use"
    call = next(
        e["content_block"] for e in found if e["type"] == "content_block_start" and e["content_block"]["type"] == "tool_use"
    )
    pieces = [e["delta"]["partial_json"] for e in found if e["type"] == "content_block_delta" and "partial_json" in e["delta"]]
    return {**call, "input": json.loads("".join(pieces))}


async def test_a_picture_reaches_an_openai_server(house: House):
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    said = await post(house, asked("tiny", messages=[{"role": "user", "content": [picture]}]))
    (chat,) = house.server.calls(CHAT)
    assert said.status == 200
    assert chat.json["messages"][0]["content"][0]["image_url"]["url"] == "data:image/png;base64,QUJD"


async def test_a_search_that_only_the_cloud_can_do_is_refused_by_name(house: House):
    search = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}
    said = await post(house, asked("tiny", tools=[search]))
    assert (said.status, said.error["type"], said.error["code"]) == (400, "invalid_request_error", "translation_loss")
    assert "web_search" in said.error["message"]
    assert house.server.calls(CHAT) == []
    said = await post(house, asked("tiny", tools=[search, GET]))
    assert (said.status, said.nexus("Translation-Loss")) == (200, "web_search")


async def test_an_openai_servers_rejection_in_anthropics_words(house: House):
    house.server.next(Respond(422, json={"error": {"message": "no such thing", "type": "x"}}), path=CHAT)
    said = await post(house, asked("tiny"))
    assert (said.status, said.error["message"]) == (422, "no such thing")
    assert said.json["type"] == "error"


async def test_an_openai_stream_that_is_cut_looks_cut(house: House):
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]}
    house.server.next(Stream([chunk], done=False), path=CHAT)
    found = events(await post(house, asked("tiny", stream=True)))
    assert found[-1]["type"] == "error"
    assert not [event for event in found if event["type"] == "message_stop"]


async def test_arguments_that_are_no_json_are_no_normal_end(house: House):
    function = {"name": "get_weather", "arguments": "city: Paris"}
    calls = [{"index": 0, "id": "c1", "type": "function", "function": function}]
    chunks = [
        {"id": "c", "choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": calls}, "finish_reason": None}]},
        {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    ]
    house.server.next(Stream(chunks), path=CHAT)
    found = events(await post(house, asked("tiny", stream=True, tools=[GET])))
    assert (found[-1]["type"], "get_weather" in found[-1]["error"]["message"]) == ("error", True)


# ---------------------------------------------------------------- a client of OpenAI's, Anthropic's cloud


async def chat(house: House, **fields: Any) -> Said:
    async with house.gateway.client.post(CHAT, data=a_body("claude-tiny", **fields)) as answer:
        return Said(answer.status, answer.headers.copy(), await answer.read())


def chunks(said: Said) -> list[dict[str, Any]]:
    *frames, done = said.body.decode().split("\n\n")[:-1]
    assert done == "data: [DONE]"
    return [json.loads(frame.removeprefix("data: ")) for frame in frames]


async def test_a_chat_with_anthropics_cloud(house: House):
    said = await chat(house, seed=7)
    (call,) = house.cloud.calls(MESSAGES)
    assert call.json["max_tokens"] == 4096  # all that the model can write, by the cloud's list
    assert {name: value for name, value in call.json.items() if name != "max_tokens"} == {
        "model": "claude-tiny",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "hello"}]}],
    }
    assert (call.header("anthropic-version"), call.header("x-api-key")) == ("2023-06-01", KEY)
    assert said.json["choices"][0]["message"]["content"] == "The quick brown fox jumps over the lazy dog."
    assert (said.json["choices"][0]["finish_reason"], said.json["usage"]["completion_tokens"]) == ("stop", 9)
    assert (said.nexus("Translation-Loss"), said.nexus("Backend-Type")) == ("seed", "cloud")


async def test_a_streamed_chat_with_anthropics_cloud(house: House):
    said = await chat(house, stream=True, stream_options={"include_usage": True}, reasoning_effort="low")
    found = chunks(said)
    deltas = [chunk["choices"][0]["delta"] for chunk in found if chunk["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "The quick brown fox jumps over the lazy dog."
    assert "".join(delta.get("reasoning_content") or "" for delta in deltas) == "hm"
    assert (found[-1]["choices"], found[-1]["usage"]["completion_tokens"]) == ([], 9)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_tool_round_trip_with_anthropics_cloud(house: House, stream: bool):
    house.cloud.tool = True
    first = await chat(house, tools=[GET_OPENAI], stream=stream)
    if stream:
        pieces = [c["choices"][0]["delta"].get("tool_calls", [{}])[0] for c in chunks(first) if c["choices"]]
        id = next(piece["id"] for piece in pieces if piece.get("id"))
        arguments = "".join(piece.get("function", {}).get("arguments", "") for piece in pieces)
    else:
        (called,) = first.json["choices"][0]["message"]["tool_calls"]
        id, arguments = called["id"], called["function"]["arguments"]
    assert json.loads(arguments) == {"city": "text"}
    call = {"id": id, "type": "function", "function": {"name": "get_weather", "arguments": arguments}}
    turns = [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": id, "content": "rain"},
    ]
    second = await chat(house, tools=[GET_OPENAI], messages=turns)
    sent = house.cloud.calls(MESSAGES)[-1].json
    assert sent["system"] == [{"type": "text", "text": "be brief"}]
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
    assert second.json["choices"][0]["finish_reason"] == "stop"


async def test_an_answer_by_a_schema_from_anthropics_cloud(house: House):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    said = await chat(house, response_format={"type": "json_schema", "json_schema": {"name": "place", "schema": schema}})
    assert json.loads(said.json["choices"][0]["message"]["content"]) == {"city": "text"}


async def test_a_cut_in_anthropics_stream_looks_cut_to_a_client_of_openais(house: House):
    house.cloud.next(CutAfter(10**6, Stream([START, OPENED, WORD], done=False, end="cut")), path=MESSAGES)
    said = await chat(house, stream=True)
    assert b"[DONE]" not in said.body
    assert b"backend_broke_off" in said.body


async def test_the_clouds_error_in_openais_words(house: House):
    house.cloud.next(anthropic_problem(400, "invalid_request_error", "too odd"), path=MESSAGES)
    said = await chat(house)
    assert (said.status, said.error["message"], said.error["type"]) == (400, "too odd", "invalid_request_error")


async def test_what_a_whole_answer_loses_is_named(house: House):
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "text", "text": "it rains", "citations": [{"type": "web_search_result_location"}]},
    ]
    usage = {"input_tokens": 1, "output_tokens": 2}
    said = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-tiny", "content": content, "usage": usage}
    house.cloud.next(Respond(json={**said, "stop_reason": "stop_sequence", "stop_sequence": "END"}), path=MESSAGES)
    told = await chat(house)
    assert told.status == 200
    assert told.nexus("Translation-Loss") == "server_tool_results, citations, signature, redacted_thinking, stop_sequence"


# ---------------------------------------------------------------- errors and lists


async def test_the_model_list_in_both_forms(house: House):
    async with house.gateway.client.get("/v1/models?limit=1000", headers=VERSION) as answer:
        listed = await answer.json()
    assert {model["id"] for model in listed["data"]} == {"tiny", "claude-tiny"}
    assert {model["type"] for model in listed["data"]} == {"model"}
    async with house.gateway.client.get("/v1/models?limit=1", headers=VERSION) as answer:
        first = await answer.json()
    async with house.gateway.client.get(f"/v1/models?limit=1&after_id={first['last_id']}", headers=VERSION) as answer:
        second = await answer.json()
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert first["data"] + second["data"] == listed["data"]
    async with house.gateway.client.get("/v1/models?limit=none", headers=VERSION) as answer:
        assert (answer.status, (await answer.json())["error"]["type"]) == (400, "invalid_request_error")
    async with house.gateway.client.get("/v1/models/claude-tiny", headers=VERSION) as answer:
        assert (await answer.json())["display_name"] == "claude-tiny"
    async with house.gateway.client.get("/v1/models") as answer:
        assert (await answer.json())["object"] == "list"


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (asked("nobodys"), 404, "not_found_error"),
        (b"{", 400, "invalid_request_error"),
        ({"messages": []}, 400, "invalid_request_error"),
        (b"\xff", 400, "invalid_request_error"),
    ],
)
async def test_errors_are_anthropics(house: House, body: Any, status: int, kind: str):
    said = await post(house, body)
    assert (said.status, said.json["type"], said.error["type"]) == (status, "error", kind)
    assert said.json["request_id"] == said.nexus("Request-Id")


async def test_a_model_that_is_unknown_is_told_with_the_nearest(house: House):
    said = await post(house, asked("claude-tinny"))
    assert said.error["context"]["nearest"][0] == "claude-tiny"


async def test_all_attempts_failed_is_told_with_its_context(house: House):
    house.cloud.next(*[anthropic_problem(502, "api_error", "Bad gateway")] * 3, path=MESSAGES)
    said = await post(house, asked())
    assert (said.status, said.error["type"]) == (502, "api_error")
    assert [attempt["status"] for attempt in said.error["context"]["attempts"]] == [502]


# ---------------------------------------------------------------- the real llama.cpp


async def test_llamacpps_own_messages_api_is_used(nexus_gateway: Any, llamacpp: Any):
    server = await asyncio.to_thread(llamacpp)
    config = fleet(a_backend("real", server.url, "llamacpp"))
    house = House(await settled(await nexus_gateway(config)), server, None)
    (candidate,) = house.gateway.gateway.fleet.standings["real"].candidates()
    assert candidate.speaks >= {("anthropic", "chat"), ("anthropic", "count")}
    whole = await post(house, asked(server.model, system=[{"type": "text", "text": "be brief"}]))
    assert whole.json["content"][0]["text"].startswith(" Hello from")
    assert whole.nexus("Translation-Loss") is None
    streamed = await post(house, asked(server.model, stream=True))
    assert text(streamed).startswith(" Hello from")
    counted = await post(house, {"model": server.model, "messages": asked()["messages"]}, COUNT)
    assert (counted.nexus("Token-Count"), counted.json["input_tokens"] > 0) == ("exact", True)


async def test_claude_codes_request_works_with_the_real_llamacpp_on_both_ways(nexus_gateway: Any, llamacpp: Any):
    server = await asyncio.to_thread(llamacpp)
    body = asked(
        server.model,
        stream=True,
        system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "say hi"}]},
            {"role": "system", "content": [{"type": "text", "text": "more"}], "output_config": {"effort": "high"}},
        ],
        thinking={"type": "adaptive", "display": "omitted"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "medium"},
        metadata={"user_id": "{}"},
        tools=[{**GET, "defer_loading": True}],
    )
    kinds = {"native": "llamacpp", "translated": "openai-compatible"}
    for name, kind in kinds.items():
        config = fleet(a_backend(name, server.url, kind))
        house = House(await settled(await nexus_gateway(config)), server, None)
        said = await post(house, body, f"{MESSAGES}?beta=true")
        assert said.status == 200, said.body
        assert events(said)[-1]["type"] == "message_stop"
        assert ("context_management" in (said.nexus("Translation-Loss") or "")) is (name == "translated")
