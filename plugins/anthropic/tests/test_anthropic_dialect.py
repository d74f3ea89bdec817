"""The dialect as it passes bytes through: the contract, with frames written for this project, and what the contract does not know."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nexus_anthropic import DIALECT
from nexus_anthropic.dialect import Anthropic

from nexus.api import BackendError, ModelEntry, Payload, Problem, Usage, replace
from nexus.testing.contracts import DialectContract, Golden

MESSAGES, COUNT = Anthropic.endpoints


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream, its `event:` line before its data."""
    return f"event: {kind}\ndata: ".encode() + json.dumps({"type": kind, **fields}).encode() + b"\n\n"


def ask(**fields: Any) -> bytes:
    body = {"model": "tiny", "max_tokens": 100, "messages": [{"role": "user", "content": "hello"}]}
    return json.dumps(body | fields).encode()


START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "tiny",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 7, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 30, "output_tokens": 1},
    },
)
TEXT = (
    event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    event("ping"),
    event(
        "content_block_delta", index=0, delta={"type": "text_delta", "text": 'hé "usage":{"output_tokens":9} "type":"message_stop"'}
    ),
    event("content_block_delta", index=0, delta={"type": "text_delta", "text": "\n\nevent: error\n\n"}),
    event("content_block_stop", index=0),
)
THINKING = (
    event("content_block_start", index=0, content_block={"type": "thinking", "thinking": "", "signature": ""}),
    event("content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "hm"}),
    event("content_block_delta", index=0, delta={"type": "signature_delta", "signature": "EqQBCgIYAg=="}),
    event("content_block_stop", index=0),
    event("content_block_start", index=1, content_block={"type": "tool_use", "id": "toolu_1", "name": "get", "input": {}}),
    event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": '{"a":'}),
    event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "1}"}),
    event("content_block_stop", index=1),
)


def end(reason: str, output: int) -> bytes:
    delta = {"stop_reason": reason, "stop_sequence": None}
    return event("message_delta", delta=delta, usage={"output_tokens": output}) + event("message_stop")


STREAMED = ask(stream=True)
TOLD = Usage(input_tokens=42, output_tokens=11, cached_tokens=30, source="reported")
WHOLE = json.dumps(
    {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": "hello"}],
        "stop_reason": "end_turn",
        "usage": {
            "input_tokens": 12,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 30,
            "output_tokens": 11,
            "output_tokens_details": {"thinking_tokens": 4},
        },
    }
).encode()
# llama.cpp: no `input` in the block, and blocks that close all together at the end
OVERLAPPING = b"".join(
    (
        START,
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        event("content_block_delta", index=0, delta={"type": "text_delta", "text": "I call"}),
        event("content_block_start", index=1, content_block={"type": "tool_use", "id": "x1", "name": "get"}),
        event("content_block_delta", index=1, delta={"type": "input_json_delta", "partial_json": "{}"}),
        event("content_block_stop", index=0),
        event("content_block_stop", index=1),
        end("tool_use", 11),
    )
)


class TestAnthropic(DialectContract):
    kind = DIALECT
    malformed = (b'{"model":"tiny"}', b'{"model":"tiny","messages":{}}', b'{"model":"tiny","messages":[],"Stream":true}')
    goldens = (
        Golden(path="/v1/messages", request=STREAMED, wire=START + b"".join(TEXT) + end("end_turn", 11), usage=TOLD),
        Golden(path="/v1/messages", request=STREAMED, wire=START + b"".join(THINKING) + end("tool_use", 11), usage=TOLD),
        Golden(path="/v1/messages", request=STREAMED, wire=OVERLAPPING, usage=TOLD),
        Golden(
            path="/v1/messages",
            request=ask(),
            wire=WHOLE,
            usage=Usage(input_tokens=42, output_tokens=11, cached_tokens=30, reasoning_tokens=4, source="reported"),
        ),
        Golden(
            path="/v1/messages/count_tokens",
            request=ask(tools=[]),
            wire=b'{"input_tokens": 12}',
            usage=Usage(source="reported"),
        ),
    )


def read(wire: bytes, **fields: Any) -> Any:
    """A reader that has been fed the wire."""
    dialect = Anthropic()
    facts = dialect.decode(MESSAGES, Payload(ask(stream=True, **fields)))
    reader = dialect.reader(MESSAGES, facts, hide_usage=False)
    assert reader.feed(wire) == wire
    return reader


# ---------------------------------------------------------------- replies


def test_windows_line_ends_are_boundaries_too():
    wire = (START + b"".join(TEXT) + end("end_turn", 11)).replace(b"\n", b"\r\n")
    reader = read(wire)
    assert reader.finish() == b""
    assert reader.usage() == TOLD


def test_usage_that_is_only_known_at_the_end_replaces_noughts():
    start = START.replace(b'"input_tokens": 7', b'"input_tokens": 0').replace(b": 5,", b": 0,").replace(b": 30,", b": 0,")
    delta = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"input_tokens": 40, "output_tokens": 3})
    reader = read(start + b"".join(TEXT) + delta + event("message_stop"))
    assert reader.usage() == Usage(input_tokens=40, output_tokens=3, source="reported")


def test_a_stream_in_its_middle_has_its_deltas_counted():
    usage = read(START + TEXT[0] + TEXT[2] * 20).usage()
    assert usage == Usage(input_tokens=42, output_tokens=20, cached_tokens=30, source="counted")


def test_a_ping_begins_nothing_since_an_error_may_follow():
    reader = read(event("ping"))
    assert not reader.begun
    reader.feed(event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    assert (reader.begun, reader.error) == (True, "Overloaded")


@pytest.mark.parametrize(
    "wire",
    [
        event("error", error={"type": "api_error", "message": "out of memory"}),
        b'data: {"error":{"code":500,"message":"out of memory","type":"server_error"}}\n\n',
        b'data: {"error": "out of memory"}\n\n',
    ],
)
def test_a_first_event_that_is_an_error(wire: bytes):
    assert read(wire).error == "out of memory"


def test_an_error_in_the_middle_is_not_a_cut():
    reader = read(START + TEXT[0] + event("error", error={"type": "overloaded_error", "message": "Overloaded"}))
    with pytest.raises(BackendError) as caught:
        reader.finish()
    assert caught.value.code == "error_event"


def test_a_text_that_quotes_the_last_event_is_not_the_last_event():
    with pytest.raises(BackendError) as caught:
        read(START + b"".join(TEXT)).finish()
    assert caught.value.code == "cut"


def test_a_whole_answer_that_is_no_json_is_malformed():
    dialect = Anthropic()
    reader = dialect.reader(MESSAGES, dialect.decode(MESSAGES, Payload(ask())), hide_usage=False)
    reader.feed(b"<html>")
    with pytest.raises(BackendError):
        reader.finish()


def test_the_usage_of_an_answer_too_large_to_be_kept_is_found_at_its_end():
    dialect = Anthropic()
    reader = dialect.reader(MESSAGES, dialect.decode(MESSAGES, Payload(ask())), hide_usage=False)
    reader.feed(b'{"content":[{"type":"text","text":"' + b"x" * 3_000_000)
    reader.feed(b'"}],"usage":{"input_tokens":3,"output_tokens":4}}\n')
    assert reader.finish() == b""
    assert reader.usage() == Usage(input_tokens=3, output_tokens=4, source="reported")


# ---------------------------------------------------------------- requests


def facts(**fields: Any) -> Any:
    return Anthropic().decode(MESSAGES, Payload(ask(**fields)))


def user(*blocks: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": list(blocks)}]}


PNG = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 100_000}}
PDF = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "A" * 100_000}}


@pytest.mark.parametrize(
    ("fields", "needs"),
    [
        ({}, set()),
        ({"tools": []}, set()),
        ({"tools": [{"name": "get", "input_schema": {}}]}, {"tools"}),
        ({"output_config": {"effort": "high"}}, set()),
        ({"output_config": {"format": {"type": "json_schema", "schema": {}}}}, {"json_schema"}),
        (user(PNG), {"vision"}),
        (user({"type": "tool_result", "tool_use_id": "x", "content": [PNG]}), {"vision"}),
        (user({"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}), {"vision", "image_url"}),
        (user({"type": "image", "source": None}), {"vision"}),
        (user(PDF), {"documents"}),
        (user({"type": "document", "source": {"type": "text", "data": "words"}}), set()),
        (user({"type": "document", "source": {"type": "content", "content": [PNG]}}), {"vision"}),
        (user({"type": "tool_use", "input": {"type": "image"}, "id": "x", "name": "draw"}), set()),
        (user({"type": "text", "text": '{"type":"image"}'}), set()),
    ],
)
def test_needs(fields: dict[str, Any], needs: set[str]):
    assert facts(**fields).needs == needs


def test_what_is_no_text_is_not_counted_as_text():
    assert facts(**user(PNG)).tokens_high < 200
    assert facts(**user({"type": "thinking", "thinking": "hm", "signature": "B" * 5000})).tokens_high < 200
    assert facts(system=[{"type": "text", "text": "word " * 1000}]).tokens_low > 600


def test_what_claude_code_sends_is_taken():
    body = facts(
        stream=True,
        system=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral", "ttl": "1h"}}],
        messages=[
            {"role": "user", "content": [{"type": "text", "text": "hi"}]},
            {"role": "system", "content": "more", "output_config": {"effort": "high"}},
        ],
        thinking={"type": "adaptive", "display": "omitted"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        safeguards=[{"type": "dangerous_tool_use"}],
        never_heard_of=1,
    )
    assert (body.stream, body.max_output_tokens, body.wants_usage) == (True, 100, True)


def test_counting_is_never_streamed_and_bounds_no_answer():
    counted = Anthropic().decode(COUNT, Payload(ask(stream=True)))
    assert (counted.stream, counted.max_output_tokens) == (False, None)


@pytest.mark.parametrize(
    "fields", [{"max_tokens": -1}, {"max_tokens": "many"}, {"stream": "yes"}, {"model": ""}, {"messages": "x"}]
)
def test_a_field_of_the_wrong_kind_is_named(fields: dict[str, Any]):
    with pytest.raises(Problem) as caught:
        facts(**fields)
    assert (caught.value.status, caught.value.param) == (400, next(iter(fields)))


# ---------------------------------------------------------------- errors and lists


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "api_error"),
        (529, "overloaded_error"),
    ],
)
def test_errors_have_anthropics_types(status: int, kind: str):
    problem = Problem(status, "some_code", "because", param="model", context={"eta_seconds": 3})
    assert json.loads(Anthropic().error(problem, "req-1")) == {
        "type": "error",
        "error": {"type": kind, "message": "because", "code": "some_code", "param": "model", "context": {"eta_seconds": 3}},
        "request_id": "req-1",
    }


def test_an_error_event_has_its_event_line():
    assert Anthropic().error_event(Problem(502, "x", "y"), "r").startswith(b'event: error\ndata: {"type":"error"')


def test_another_dialects_word_for_an_error_is_not_used():
    error = json.loads(Anthropic().error(Problem(503, "x", "y", type="service_unavailable"), "r"))
    assert error["error"]["type"] == "overloaded_error"


def test_the_model_list_is_anthropics():
    entry = ModelEntry(name="tiny", context=4096, capabilities=("chat",), backends=("home",), created=1_760_000_000)
    listed = json.loads(Anthropic().models([entry, replace(entry, name="b/c:d")], {}))
    assert (listed["has_more"], listed["first_id"], listed["last_id"]) == (False, "tiny", "b/c:d")
    assert listed["data"][0] == json.loads(Anthropic().model(entry))
    assert {key: listed["data"][0][key] for key in ("type", "id", "display_name", "created_at", "max_input_tokens")} == {
        "type": "model",
        "id": "tiny",
        "display_name": "tiny",
        "created_at": "2025-10-09T08:53:20Z",
        "max_input_tokens": 4096,
    }
    assert json.loads(Anthropic().models([], {})) == {"data": [], "has_more": False, "first_id": None, "last_id": None}


def test_a_path_that_dialects_share_is_claimed_by_its_header():
    assert Anthropic().claims({"anthropic-version": "2026-10-21"})
    assert not Anthropic().claims({"x-api-key": "k"})


def test_a_count_that_no_server_makes_is_an_estimate():
    dialect = Anthropic()
    counted = dialect.decode(COUNT, Payload(ask(system="word " * 100)))
    tokens = json.loads(dialect.local_answer(COUNT, counted) or b"")["input_tokens"]
    assert 100 <= tokens <= 250
    assert counted.tokens_low <= tokens <= counted.tokens_high
    assert dialect.local_answer(MESSAGES, counted) is None


@pytest.mark.parametrize(
    ("query", "listed", "more"),
    [
        ({}, "abcde", False),
        ({"limit": "2"}, "ab", True),
        ({"limit": "5"}, "abcde", False),
        ({"limit": "2", "after_id": "b"}, "cd", True),
        ({"limit": "2", "after_id": "c"}, "de", False),
        ({"after_id": "e"}, "", False),
        ({"limit": "2", "before_id": "d"}, "bc", True),
        ({"limit": "2", "before_id": "c"}, "ab", False),
        ({"before_id": "a"}, "", False),
        ({"unknown": "7"}, "abcde", False),
    ],
)
def test_the_list_comes_in_the_pages_that_are_asked_for(query: dict[str, str], listed: str, more: bool):
    page = json.loads(Anthropic().models([ModelEntry(name=name) for name in "abcde"], query))
    ends = (listed[0], listed[-1]) if listed else (None, None)
    assert "".join(model["id"] for model in page["data"]) == listed
    assert (page["has_more"], page["first_id"], page["last_id"]) == (more, *ends)


@pytest.mark.parametrize(
    ("name", "said"),
    [("limit", ""), ("limit", "0"), ("limit", "1001"), ("limit", "-1"), ("limit", "1.5"), ("limit", "²"), ("limit", "9" * 5000),
     ("after_id", "x"), ("before_id", "x")],
)  # fmt: skip
def test_a_page_that_makes_no_sense_is_a_400(name: str, said: str):
    with pytest.raises(Problem) as caught:
        Anthropic().models([ModelEntry(name="a")], {name: said})
    assert (caught.value.status, caught.value.param) == (400, name)
