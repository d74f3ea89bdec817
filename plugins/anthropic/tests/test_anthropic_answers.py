"""Whole answers, to and from the canonical form: blocks, why they ended, what is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import BackendError, Usage
from nexus.dialects.canonical import Answer, FinishReason, Reasoning, ReplyContext, Text, ToolCall

CONTEXT = ReplyContext(request_id="r1", id="made", model="public", input_estimate=9)
TOLD = Usage(input_tokens=10, output_tokens=4, cached_tokens=6, reasoning_tokens=2, source="reported")


def whole(**fields: Any) -> bytes:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": "end_turn"}
    return json.dumps(message | fields).encode()


def test_an_answer_is_read():
    content = [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "text", "text": "hello"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "content": []},
        {"type": "tool_use", "id": "t", "name": "get", "input": {"a": 1}},
        {"type": "tool_use", "name": "get"},
    ]
    usage = {
        "input_tokens": 1,
        "cache_creation_input_tokens": 3,
        "cache_read_input_tokens": 6,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    answer, lost = Anthropic().read_answer(whole(content=content, usage=usage, stop_reason="tool_use"))
    *parts, unnamed = answer.parts
    assert parts == [
        Reasoning(text="hm", signature="c2ln"),
        Reasoning(redacted="xyz"),
        Text(text="hello"),
        ToolCall(id="t", name="get", arguments='{"a":1}'),
    ]
    assert (unnamed.id != "", unnamed.arguments) == (True, "{}")
    assert [loss.what for loss in lost] == ["server_tool_results"]
    assert (answer.model, answer.finish, answer.usage) == ("m", FinishReason.TOOL_CALLS, TOLD)


def test_what_the_form_has_no_place_for_in_an_answer():
    cited = {"type": "text", "text": "it rains", "citations": [{"type": "char_location"}]}
    answer, lost = Anthropic().read_answer(whole(content=[cited, {"type": "brand_new", "text": "x"}, 7]))
    assert (answer.parts, [loss.what for loss in lost]) == ((Text(text="it rains"),), ["citations", "unknown_block"])


@pytest.mark.parametrize(
    ("said", "finish"),
    [
        ("end_turn", FinishReason.STOP),
        ("pause_turn", FinishReason.STOP),
        ("max_tokens", FinishReason.LENGTH),
        ("model_context_window_exceeded", FinishReason.LENGTH),
        ("tool_use", FinishReason.TOOL_CALLS),
        ("stop_sequence", FinishReason.STOP_SEQUENCE),
        ("refusal", FinishReason.CONTENT_FILTER),
        ("never heard of", FinishReason.STOP),
        (None, None),
        (7, None),
    ],
)
def test_why_an_answer_ended(said: Any, finish: FinishReason | None):
    answer, lost = Anthropic().read_answer(whole(stop_reason=said, stop_sequence="END"))
    assert [loss.what for loss in lost] == (["pause_turn"] if said == "pause_turn" else [])
    assert (answer.finish, answer.stop_sequence) == (finish, "END")
    assert answer.usage.source == "unknown"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"<html>", "malformed"),
        (b"[]", "malformed"),
        (b"\xff", "malformed"),
        (whole(content="text"), "malformed"),
        (whole(content=[{"type": "tool_use", "id": "t"}]), "malformed"),
        (b'{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}', "error_event"),
        (b'{"error":{"code":500,"message":"Overloaded"}}', "error_event"),
    ],
)
def test_what_is_no_answer(body: bytes, code: str):
    with pytest.raises(BackendError) as caught:
        Anthropic().read_answer(body)
    assert caught.value.code == code
    assert code == "malformed" or caught.value.hint == "Overloaded"


def test_an_answer_is_written():
    parts = (
        Reasoning(text="hm"),
        Reasoning(redacted="xyz"),
        Text(text="hello"),
        ToolCall(id="t", name="get", arguments='{"a": 1}'),
    )
    answer = Answer(parts=parts, finish=FinishReason.STOP, usage=TOLD)
    assert json.loads(Anthropic().write_answer(answer, CONTEXT)[0]) == {
        "id": "msg_made",
        "type": "message",
        "role": "assistant",
        "model": "public",
        "content": [
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "redacted_thinking", "data": "xyz"},
            {"type": "text", "text": "hello"},
            {"type": "tool_use", "id": "t", "name": "get", "input": {"a": 1}},
        ],
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 4,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 6,
            "output_tokens": 4,
            "output_tokens_details": {"thinking_tokens": 2},
        },
    }


@pytest.mark.parametrize("arguments", ["no JSON", "[1]", '{"a":', "7"])
def test_arguments_that_are_no_object_are_no_answer_unless_they_were_cut(arguments: str):
    answer = Answer(parts=(ToolCall(id="t", name="get", arguments=arguments),), finish=FinishReason.TOOL_CALLS)
    with pytest.raises(BackendError) as caught:
        Anthropic().write_answer(answer, CONTEXT)
    assert caught.value.code == "malformed"
    cut = Answer(parts=answer.parts, finish=FinishReason.LENGTH)
    body, lost = Anthropic().write_answer(cut, CONTEXT)
    written = json.loads(body)
    assert [loss.what for loss in lost] == ["tool_arguments"]
    assert (written["content"][0]["input"], written["stop_reason"]) == ({}, "max_tokens")


@pytest.mark.parametrize(
    ("finish", "called", "reason"),
    [
        (None, False, "end_turn"),
        (None, True, "tool_use"),
        (FinishReason.STOP, True, "tool_use"),
        (FinishReason.TOOL_CALLS, False, "end_turn"),
        (FinishReason.LENGTH, True, "max_tokens"),
        (FinishReason.CONTENT_FILTER, False, "refusal"),
        (FinishReason.STOP_SEQUENCE, False, "stop_sequence"),
    ],
)
def test_a_client_is_told_to_run_tools_where_some_were_called(finish: Any, called: bool, reason: str):
    answer = Answer(parts=(ToolCall(id="t", name="get"),) if called else (), finish=finish, stop_sequence="END")
    written = json.loads(Anthropic().write_answer(answer, CONTEXT)[0])
    assert (written["stop_reason"], written["stop_sequence"]) == (reason, "END")
