"""Answers and streams, to and from the canonical form: the order of blocks, what servers really send, what cannot be read."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import BackendError, Usage
from nexus.dialects.canonical import (
    Answer,
    Begin,
    Failure,
    Finish,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    ReplyContext,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.testing import anthropic_event

CONTEXT = ReplyContext(request_id="r1", model="public", input_estimate=9)
TOLD = Usage(input_tokens=10, output_tokens=4, cached_tokens=6, reasoning_tokens=2, source="reported")


# ---------------------------------------------------------------- whole answers


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
    assert (answer.id, answer.model, answer.finish, answer.usage) == ("msg_1", "m", FinishReason.TOOL_CALLS, TOLD)


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
        "id": "msg_r1",
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


# ---------------------------------------------------------------- streams, read


def read(*events: bytes) -> list[Any]:
    decoder = Anthropic().stream_decoder()
    return [*decoder.feed(b"".join(events)), *decoder.finish()]


START = anthropic_event("message_start", message={"id": "msg_1", "model": "m", "usage": {"input_tokens": 4, "output_tokens": 1}})
STOP = anthropic_event("message_stop")
BEGUN = [Begin(id="msg_1", model="m"), UsageSeen(usage=Usage(input_tokens=4, output_tokens=1, source="reported"))]
STOPPED = Finish(reason=FinishReason.STOP)


def block(index: int, **content: Any) -> bytes:
    return anthropic_event("content_block_start", index=index, content_block=content)


def delta(index: int, **content: Any) -> bytes:
    return anthropic_event("content_block_delta", index=index, delta=content)


def piece(index: int, text: str) -> bytes:
    return delta(index, type="input_json_delta", partial_json=text)


def test_blocks_that_close_all_at_the_end():
    events = read(
        START,
        block(0, type="text", text=""),
        delta(0, type="text_delta", text="I"),
        block(1, type="tool_use", id="t", name="get"),
        piece(1, "{}"),
        anthropic_event("content_block_stop", index=0),
        anthropic_event("content_block_stop", index=1),
        anthropic_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 3}),
        STOP,
    )
    assert events == [
        *BEGUN,
        TextDelta(text="I"),
        ToolCallStart(index=0, id="t", name="get"),
        ToolCallDelta(index=0, arguments="{}"),
        UsageSeen(usage=Usage(input_tokens=4, output_tokens=3, source="reported")),
        Finish(reason=FinishReason.TOOL_CALLS),
    ]


def test_calls_are_counted_apart_from_blocks():
    events = read(
        START,
        block(3, type="tool_use", id="a", name="one", input={}),
        block(5, type="tool_use", name="two"),
        piece(5, "2"),
        piece(3, "1"),
        STOP,
    )
    starts = [event for event in events if isinstance(event, ToolCallStart)]
    assert [(start.index, start.name) for start in starts] == [(0, "one"), (1, "two")]
    assert starts[1].id
    assert [e for e in events if isinstance(e, ToolCallDelta)] == [
        ToolCallDelta(index=1, arguments="2"),
        ToolCallDelta(index=0, arguments="1"),
    ]
    assert events[-1] == Finish(reason=FinishReason.TOOL_CALLS)


@pytest.mark.parametrize("stop", [True, False])
def test_arguments_that_came_with_the_start(stop: bool):
    given = block(0, type="tool_use", id="a", name="get", input={"x": "é"})
    events = read(START, given, anthropic_event("content_block_stop", index=0) if stop else b"", STOP)
    assert ToolCallDelta(index=0, arguments='{"x":"é"}') in events
    pieces = [e for e in read(START, given, piece(0, '{"y":1}'), STOP) if isinstance(e, ToolCallDelta)]
    assert pieces == [ToolCallDelta(index=0, arguments='{"y":1}')]


def test_thinking_in_all_its_forms():
    events = read(
        START,
        block(0, type="thinking", thinking="", signature=""),
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta", signature="c2ln"),
        block(1, type="redacted_thinking", data="xyz"),
        block(2, type="text", text="so"),
        STOP,
    )
    assert events == [
        *BEGUN,
        ReasoningDelta(text="hm"),
        ReasoningSignature(signature="c2ln"),
        RedactedReasoning(data="xyz"),
        TextDelta(text="so"),
        STOPPED,
    ]


def test_what_nobody_knows_is_passed_over():
    events = read(
        b": a comment\n\n",
        anthropic_event("ping"),
        START,
        anthropic_event("hologram", index="three", delta="x", message=7),
        delta(0, type="citations_delta", citation={"cited_text": "x"}),
        delta(0, type="hologram_delta", text={"x": 1}),
        block(1, type="hologram", text={"x": 1}, id=7),
        block(2, type="server_tool_use", id="s", name="web_search", input={}),
        piece(2, '{"query":'),
        anthropic_event("content_block_stop", index=2),
        delta(0, type="text_delta", text=""),
        STOP,
        b"data: [DONE]\n\n",
        delta(0, type="text_delta", text="after the end"),
    )
    assert events == [*BEGUN, STOPPED]


def test_a_stream_without_its_beginning_has_one():
    events = read(delta(0, type="text_delta", text="x"), STOP)
    assert events == [Begin(), TextDelta(text="x"), STOPPED]


def test_a_stop_sequence_is_told():
    ended = anthropic_event("message_delta", delta={"stop_reason": "stop_sequence", "stop_sequence": "END"})
    assert read(START, ended, STOP)[-1] == Finish(reason=FinishReason.STOP_SEQUENCE, stop_sequence="END")


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b""])
def test_the_last_boundary_may_be_missing(ends: bytes):
    assert read(START, STOP.rstrip() + ends)[-1] == STOPPED


def test_half_a_surrogate_pair_does_no_harm():
    wire = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"\\ud83d!"}}\n\n'
    assert TextDelta(text="\ufffd!") in read(START, wire, STOP)


@pytest.mark.parametrize(
    ("wire", "code", "said"),
    [
        (anthropic_event("error", error={"type": "overloaded_error", "message": "Overloaded"}), "error_event", "Overloaded"),
        (b'data: {"error":{"code":500,"message":"out of memory"}}\n\n', "error_event", "out of memory"),
        (b"data: {not JSON}\n\n", "malformed", "cannot be read"),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":"\xff"}}\n\n', "malformed", "cannot be read"),
        (b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":7}}\n\n', "malformed", "cannot be read"),
        (b"data: []\n\n", "malformed", "cannot be read"),
        (block(0, type="tool_use", id="x"), "malformed", "without a name"),
    ],
)
def test_a_failure_is_the_last_event(wire: bytes, code: str, said: str):
    *before, failure = read(START, wire, delta(0, type="text_delta", text="more"), STOP)
    assert before == BEGUN
    assert isinstance(failure, Failure)
    assert failure.code == code
    assert said in failure.message


# ---------------------------------------------------------------- streams, written


def written(*events: Any) -> list[dict[str, Any]]:
    """The events of a written stream, after checking that every one is named by its `event:` line."""
    encoder = Anthropic().stream_encoder(CONTEXT)
    wire = b"".join([*map(encoder.encode, events), encoder.finish()])
    found = []
    for frame in wire.decode().split("\n\n")[:-1]:
        name, data = frame.split("\n")
        found.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {found[-1]['type']}"
    return found


def outline(*events: Any) -> list[Any]:
    """The blocks of a written stream, in a few letters: `+` opens, `-` closes, deltas as their text."""
    marks = []
    for event in written(Begin(), *events):
        if event["type"] == "content_block_start":
            marks.append(f"+{event['index']} {event['content_block']['type']}")
        elif event["type"] == "content_block_stop":
            marks.append(f"-{event['index']}")
        elif event["type"] == "content_block_delta":
            kind = event["delta"].pop("type")
            (value,) = event["delta"].values()
            assert kind in ("text_delta", "thinking_delta", "signature_delta", "input_json_delta")
            marks.append(f"{event['index']}:{value}")
    return marks


def call(index: int, name: str = "get") -> ToolCallStart:
    return ToolCallStart(index=index, id=f"id{index}", name=name)


def said(index: int, text: str) -> ToolCallDelta:
    return ToolCallDelta(index=index, arguments=text)


def test_a_whole_stream():
    events = written(
        Begin(id="chatcmpl-1", model="m"), TextDelta(text="é"), Finish(reason=FinishReason.LENGTH), UsageSeen(usage=TOLD)
    )
    start, opened, text, closed, ended, stop = events
    assert start["message"] == {
        "id": "chatcmpl-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 0},
    }
    assert opened == {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    assert text == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "é"}}
    assert closed == {"type": "content_block_stop", "index": 0}
    assert ended["delta"] == {"stop_reason": "max_tokens", "stop_sequence": None}
    assert ended["usage"] == {
        "input_tokens": 4,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 6,
        "output_tokens": 4,
        "output_tokens_details": {"thinking_tokens": 2},
    }
    assert stop == {"type": "message_stop"}


def test_blocks_come_one_after_another():
    assert outline(
        ReasoningDelta(text="h"),
        ReasoningDelta(text="m"),
        ReasoningSignature(signature="s"),
        RedactedReasoning(data="x"),
        TextDelta(text="a"),
        call(0),
        said(0, '{"x"'),
        said(0, ":1}"),
        call(1),
        said(1, "{}"),
        TextDelta(text="b"),
        ReasoningDelta(text="c"),
        TextDelta(text="d"),
    ) == [
        *("+0 thinking", "0:h", "0:m", "0:s", "-0"),
        *("+1 redacted_thinking", "-1"),
        *("+2 text", "2:a", "-2"),
        *("+3 tool_use", '3:{"x"', "3::1}", "-3"),
        *("+4 tool_use", "4:{}", "-4"),
        *("+5 text", "5:b", "-5"),
        *("+6 thinking", "6:c", "-6"),
        *("+7 text", "7:d", "-7"),
    ]


def test_thinking_that_is_not_shown_is_a_signature_alone():
    assert outline(ReasoningSignature(signature="s"), TextDelta(text="a")) == ["+0 thinking", "0:s", "-0", "+1 text", "1:a", "-1"]


def test_mixed_calls_wait_for_each_other():
    assert outline(call(0), said(0, '{"a"'), call(1), said(1, '{"b"'), said(0, ":1}"), said(1, ":2}"), TextDelta(text="t")) == [
        *("+0 tool_use", '0:{"a"', "0::1}", "-0"),
        *("+1 tool_use", '1:{"b"', "1::2}", "-1"),
        *("+2 text", "2:t", "-2"),
    ]


def test_what_still_waits_at_the_end_is_written_call_by_call():
    assert outline(
        call(0), call(1), call(2), said(2, "{"), said(1, "{}"), TextDelta(text="a"), TextDelta(text="b"), said(2, "}")
    ) == [
        *("+0 tool_use", "-0"),
        *("+1 tool_use", "1:{}", "-1"),
        *("+2 tool_use", "2:{", "2:}", "-2"),
        *("+3 text", "3:a", "3:b", "-3"),
    ]


def test_blanks_after_the_arguments_are_nothing():
    assert outline(call(0), said(0, "{}"), call(1), said(1, "{}"), said(0, "\n"))[-1] == "-1"
    with pytest.raises(BackendError):
        outline(call(0), said(0, "{}"), call(1), said(1, "{}"), said(0, "x"))


@pytest.mark.parametrize("pieces", [("no JSON",), ("[1]",), ('{"a":', '"')])
def test_arguments_that_are_no_object_are_no_normal_end(pieces: tuple[str, ...]):
    events = (call(0), *(said(0, text) for text in pieces))
    with pytest.raises(BackendError) as caught:
        outline(*events, Finish(reason=FinishReason.TOOL_CALLS))
    assert caught.value.code == "malformed"
    assert outline(*events, Finish(reason=FinishReason.LENGTH))[-1] == "-0"


def test_a_stream_that_says_nothing_has_an_empty_block():
    assert outline(Finish(reason=FinishReason.STOP)) == ["+0 text", "-0"]


def test_usage_that_nobody_reported_is_counted():
    usage = written(Begin(), TextDelta(text="a"), TextDelta(text="b"))[-2]["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == (9, 2)


@pytest.mark.parametrize(("called", "reason"), [(False, "end_turn"), (True, "tool_use")])
def test_a_stream_without_a_reason_has_the_one_that_fits(called: bool, reason: str):
    events = [call(0)] if called else [TextDelta(text="x")]
    assert written(Begin(), *events)[-2]["delta"]["stop_reason"] == reason
