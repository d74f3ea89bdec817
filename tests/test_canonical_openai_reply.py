"""OpenAI's chat replies, whole and streamed, to and from the canonical form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import BackendError
from nexus.dialects.canonical import (
    Answer,
    Begin,
    Failure,
    Finish,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    ReasoningSignature,
    ReplyContext,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.dialects.openai import OpenAI
from nexus.model import Usage

from .canonical_anything import arguments
from .canonical_replies import any_answers, any_streams

CONTEXT = ReplyContext(request_id="req-1", id="made", model="named", created=7, wants_usage=True)
STOPPED = Finish(reason=FinishReason.STOP)


def frames(*chunks):
    """Chunks as a server sends them, and the end."""
    return b"".join(b"data: %b\n\n" % json.dumps(c, ensure_ascii=False).encode() for c in chunks) + b"data: [DONE]\n\n"


def delta(finish=None, **fields):
    return {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def call(index=0, id=None, name=None, arguments=None):
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not None}
    return {k: v for k, v in {"index": index, "id": id, "function": function}.items() if v is not None}


def decoded(wire, *cuts):
    decoder = OpenAI().stream_decoder()
    events = []
    for start, end in zip((0, *cuts), (*cuts, len(wire)), strict=True):
        events += decoder.feed(wire[start:end])
    return events + decoder.finish()


def encoded(events, context=CONTEXT):
    encoder = OpenAI().stream_encoder(context)
    return b"".join(map(encoder.encode, events)) + encoder.finish()


USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 4,
    "prompt_tokens_details": {"cached_tokens": 8},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
REPORTED = Usage(input_tokens=9, output_tokens=4, cached_tokens=8, reasoning_tokens=2, source="reported")
GOLDEN = b": keep-alive\r\n\r\n" + frames(
    delta(role="assistant", content=None),
    delta(reasoning_content="hm… "),
    delta(content=" Grüße, 🦙 und 漢字"),
    delta(tool_calls=[call(0, "a", "f", "")]),
    *(delta(tool_calls=[call(0, arguments=byte)]) for byte in '{"x":"é"}'),
    delta(tool_calls=[call(1, "b", "g", "{}")]),
    delta("tool_calls"),
    {"id": "c1", "model": "m", "choices": [], "usage": USAGE, "timings": {"prompt_ms": 1.5}},
).replace(b"hm", b"h\\u006d")
GOLDEN_EVENTS = [
    Begin(model="m"),
    ReasoningDelta(text="hm… "),
    TextDelta(text=" Grüße, 🦙 und 漢字"),
    ToolCallStart(index=0, id="a", name="f"),
    *(ToolCallDelta(index=0, arguments=byte) for byte in '{"x":"é"}'),
    ToolCallStart(index=1, id="b", name="g"),
    ToolCallDelta(index=1, arguments="{}"),
    UsageSeen(usage=REPORTED),
    Finish(reason=FinishReason.TOOL_CALLS),
]


# ---- streams, read


def test_a_stream_is_the_same_wherever_it_is_cut():
    for wire in (GOLDEN, GOLDEN.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")):
        for border in range(len(wire) + 1):
            assert decoded(wire, border) == GOLDEN_EVENTS
        assert decoded(wire, *range(1, len(wire))) == GOLDEN_EVENTS


@settings(max_examples=200, deadline=None)
@given(any_streams(plain=True, called_with=arguments), st.data())
def test_what_is_streamed_is_read_again_however_it_is_cut(events, data):
    wire = encoded(events)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(wire)), max_size=10)))
    assert decoded(wire, *cuts) == events


def test_a_stream_without_its_end_is_cut():
    finished = GOLDEN.index(b"\n\n", GOLDEN.index(b'"finish_reason": "tool_calls"'))
    for end in range(finished):  # up to here the event with the finish reason is not whole
        with pytest.raises(BackendError, match="cut"):
            decoded(GOLDEN[:end])
    for end in range(finished, finished + 3):  # its boundary may be missing, and usage is no answer's end
        assert decoded(GOLDEN[:end]) == [*GOLDEN_EVENTS[:-2], GOLDEN_EVENTS[-1]]


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_is_read_under_both_names(field):
    assert decoded(frames(delta(**{field: "hm"}), delta("stop")))[1] == ReasoningDelta(text="hm")


@pytest.mark.parametrize("empty", [{}, {"content": None}, {"content": ""}, {"tool_calls": None}, {"reasoning_content": None}])
def test_a_chunk_that_says_nothing_is_no_event(empty):
    assert decoded(frames(delta(role="assistant", **empty), delta("stop"))) == [Begin(model="m"), STOPPED]


@pytest.mark.parametrize(
    "calls",
    [
        [call(0, "a", "f", "1"), call(0, "b", "g", "2")],
        [call(None, "a", "f", "1"), call(None, "b", "g", "2")],
        [call(0, "a", "f"), call(0, "a", "f", "1"), call(1, "b", "g", "2")],
        [call(None, "a", "f"), call(None, arguments="1"), call(None, "b", "g", "2")],
        [call(3, "a", "f", "1"), call(7, "b", "g", "2")],
        [call(0, "a", "f", 1), call(1, "b", "g", 2)],
    ],
)
def test_calls_are_counted_however_the_server_numbers_them(calls):
    events = decoded(frames(*(delta(tool_calls=[c]) for c in calls), delta("stop")))
    assert events[1:] == [
        ToolCallStart(index=0, id="a", name="f"),
        ToolCallDelta(index=0, arguments="1"),
        ToolCallStart(index=1, id="b", name="g"),
        ToolCallDelta(index=1, arguments="2"),
        Finish(reason=FinishReason.TOOL_CALLS),  # "stop" after calls means them
    ]


def test_calls_may_interleave():
    calls = [call(0, "a", "f"), call(1, "b", "g"), call(0, arguments="1"), call(1, arguments="2"), call(0, arguments="3")]
    deltas = [(e.index, e.arguments) for e in decoded(frames(delta(tool_calls=calls), delta("stop"))) if type(e) is ToolCallDelta]
    assert deltas == [(0, "1"), (1, "2"), (0, "3")]


def test_a_call_without_an_id_gets_one_of_its_own():
    starts = [
        e
        for _ in range(2)
        for e in decoded(frames(delta(tool_calls=[call(0, None, "f")]), delta("stop")))
        if type(e) is ToolCallStart
    ]
    assert all(start.id for start in starts)
    assert starts[0].id != starts[1].id


def test_a_call_without_a_name_is_a_failure():
    events = decoded(frames(delta(tool_calls=[call(0, "a")]), delta("stop")))
    assert events[-1] == Failure(message="the backend sent a tool call without a name", code="malformed")


@pytest.mark.parametrize(
    ("said", "stop", "read_as"),
    [
        ("stop", None, STOPPED),
        ("stop", "###", Finish(reason=FinishReason.STOP_SEQUENCE, stop_sequence="###")),
        ("stop", 128009, STOPPED),
        ("length", None, Finish(reason=FinishReason.LENGTH)),
        ("content_filter", None, Finish(reason=FinishReason.CONTENT_FILTER)),
        ("function_call", None, Finish(reason=FinishReason.TOOL_CALLS)),
        ("eos", None, STOPPED),
    ],
)
def test_finish_reasons(said, stop, read_as):
    last = delta(said)
    last["choices"][0]["stop_reason"] = stop
    assert decoded(frames(last)) == [Begin(model="m"), read_as]


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_was_given_up_is_a_failure(reason):
    assert type(decoded(frames(delta(content="x"), delta(reason)))[-1]) is Failure


def test_a_done_without_a_reason_ends_the_stream():
    assert decoded(frames(delta(content="x"))) == [Begin(model="m"), TextDelta(text="x")]


def test_only_the_answer_that_began_first_is_read():
    other = {"id": "c1", "model": "m", "choices": [{"index": 1, "delta": {"content": "no"}, "finish_reason": "stop"}]}
    assert decoded(frames(delta(content="yes"), other, delta("stop")))[1:] == [TextDelta(text="yes"), STOPPED]


@pytest.mark.parametrize(
    "event",
    [
        b'data: {"error": {"message": "out of memory", "code": 500}}\n\n',
        b'data: {"error": "out of memory"}\n\n',
        b'error: {"error": {"message": "out of memory"}}\n\n',
        b'data: {"object": "error", "error": {"message": "out of memory"}, "choices": null}\n\n',
    ],
)
def test_an_error_in_the_middle_is_a_failure_and_the_last_event(event):
    wire = frames(delta(content="x")).removesuffix(b"data: [DONE]\n\n") + event + frames(delta(content="y"))
    assert decoded(wire) == [Begin(model="m"), TextDelta(text="x"), Failure(message="out of memory")]


@pytest.mark.parametrize(
    "event",
    [
        b"data: {\n\n",
        b"data: []\n\n",
        b"data: what?\n\n",
        b'data: {"choices": [{"delta": {"content": "\xc3"}}]}\n\n',
        b'data: {"choices": {}}\n\n',
        b"data: " + b"[" * 50_000 + b"\n\n",
    ],
)
def test_what_cannot_be_read_is_a_failure(event):
    events = decoded(frames(delta(content="x")).removesuffix(b"data: [DONE]\n\n") + event + frames(delta("stop")))
    assert [type(e) for e in events] == [Begin, TextDelta, Failure]
    assert events[-1].code == "malformed"


@pytest.mark.parametrize("extra", [b"event: ping\n\n", b": hello\n\n", b"\n\n", b"id: 4\nretry: 10\n\n"])
def test_what_carries_no_data_is_passed_over(extra):
    first, rest = frames(delta(content="x"), delta("stop")).split(b"\n\n", 1)
    assert decoded(extra + first + b"\n\n" + extra + rest + extra)[1:] == [TextDelta(text="x"), STOPPED]


# ---- streams, written


def chunks(wire):
    assert wire.endswith(b"data: [DONE]\n\n")
    return [json.loads(event.removeprefix(b"data: ")) for event in wire.split(b"\n\n")[:-2]]


def test_every_chunk_has_what_clients_need():
    written = chunks(encoded(GOLDEN_EVENTS))
    assert {(c["id"], c["object"], c["created"], c["model"]) for c in written} == {
        ("chatcmpl-made", "chat.completion.chunk", 7, "m")
    }
    assert written[0]["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]
    assert written[1]["choices"][0]["delta"] == {"reasoning_content": "hm… "}
    assert written[3]["choices"][0]["delta"]["tool_calls"] == [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}
    ]
    assert written[4]["choices"][0]["delta"]["tool_calls"] == [{"index": 0, "function": {"arguments": "{"}}]
    assert written[-2]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]
    assert written[-1]["choices"] == []
    assert written[-1]["usage"]["prompt_tokens_details"] == {"cached_tokens": 8}
    assert written[-1]["usage"]["total_tokens"] == 13


def test_usage_is_written_only_where_it_was_asked_for():
    wire = encoded(GOLDEN_EVENTS, ReplyContext(request_id="r", model="named"))
    assert b"usage" not in wire
    assert wire.endswith(b'"finish_reason":"tool_calls"}]}\n\ndata: [DONE]\n\n')


def test_a_server_that_names_nothing_gets_names():
    first = chunks(encoded([Begin(), STOPPED]))[0]
    assert (first["id"], first["model"]) == ("chatcmpl-made", "named")


def test_a_stream_without_a_reason_gets_one():
    assert chunks(encoded([Begin(), TextDelta(text="x")]))[-2]["choices"][0]["finish_reason"] == "stop"
    called = [Begin(), ToolCallStart(index=0, id="a", name="f")]
    assert chunks(encoded(called))[-2]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_signature_has_no_place():
    assert OpenAI().stream_encoder(CONTEXT).encode(ReasoningSignature(signature="s")) == b""


# ---- whole replies


@settings(max_examples=200, deadline=None)
@given(any_answers(plain=True, called_with=arguments))
def test_a_whole_reply_is_read_again(answer):
    body, lost = OpenAI().write_answer(answer, CONTEXT)
    assert (OpenAI().read_answer(body), lost) == ((answer, ()), ())


def whole(message=None, **fields):
    choice = {"index": 0, "message": {"role": "assistant", **(message or {})}, "finish_reason": fields.pop("finish", "stop")}
    return json.dumps({"id": "c1", "model": "m", "choices": [choice], **fields}).encode()


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_a_whole_reply_with_all_there_is(field):
    calls = [{"id": "a", "function": {"name": "f", "arguments": '{"x"'}}, {"function": {"name": "g", "arguments": {"y": 1}}}]
    answer, lost = OpenAI().read_answer(whole({field: "hm", "content": "yes", "tool_calls": calls}, usage=USAGE))
    made = answer.parts[-1].id
    assert answer == Answer(
        model="m",
        parts=(
            Reasoning(text="hm"),
            Text(text="yes"),
            ToolCall(id="a", name="f", arguments='{"x"'),
            ToolCall(id=made, name="g", arguments='{"y": 1}'),
        ),
        finish=FinishReason.TOOL_CALLS,
        usage=REPORTED,
    )
    assert (made != "", lost) == (True, ())


def test_a_whole_reply_that_says_nothing():
    assert OpenAI().read_answer(whole({"content": None}))[0].parts == ()
    assert OpenAI().read_answer(whole({"content": None}, finish=None))[0].finish is None
    written = json.loads(OpenAI().write_answer(Answer(), CONTEXT)[0])
    assert (written["id"], written["model"]) == ("chatcmpl-made", "named")
    assert written["choices"][0]["message"]["content"] == ""
    assert written["choices"][0]["finish_reason"] == "stop"


def test_words_are_null_beside_calls_alone():
    written = json.loads(OpenAI().write_answer(Answer(parts=(ToolCall(id="a", name="f"),)), CONTEXT)[0])
    assert written["choices"][0]["message"]["content"] is None


@pytest.mark.parametrize(
    ("parts", "lost"),
    [
        ((Reasoning(text="hm", signature="s"), Text(text="yes")), ["signature"]),
        ((Reasoning(redacted="r"), Text(text="yes")), ["redacted_thinking"]),
        ((Text(text="yes"), Reasoning(text="hm")), ["order"]),
        ((ToolCall(id="a", name="f"), Text(text="yes")), ["order"]),
        ((Reasoning(text="hm"), Text(text="yes"), ToolCall(id="a", name="f")), []),
    ],
)
def test_what_a_whole_reply_has_no_place_for_is_a_loss(parts, lost):
    assert [loss.what for loss in OpenAI().write_answer(Answer(parts=parts), CONTEXT)[1]] == lost


def test_which_stop_sequence_it_was_is_lost():
    stopped = Answer(finish=FinishReason.STOP_SEQUENCE, stop_sequence="END")
    assert [loss.what for loss in OpenAI().write_answer(stopped, CONTEXT)[1]] == ["stop_sequence"]


def test_what_the_form_has_no_place_for_in_a_whole_reply():
    more = {"annotations": [{"type": "url_citation"}], "audio": None, "function_call": None, "Odd name": 1}
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": "yes", **more},
        "finish_reason": "stop",
        "logprobs": {"content": []},
    }
    _, lost = OpenAI().read_answer(json.dumps({"choices": [choice]}).encode())
    assert [loss.what for loss in lost] == ["logprobs", "annotations", "unknown_field"]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed"),
        (b"[]", "malformed"),
        (b"<html>", "malformed"),
        (b'{"choices": []}', "malformed"),
        (b'{"choices": [{"message": null}]}', "malformed"),
        (b'{"choices": [{"message": {"content": "\xff"}}]}', "malformed"),
        (whole({"tool_calls": [{"id": "a", "function": {}}]}), "malformed"),
        (b"[" * 100_000, "malformed"),
        (b'{"error": {"message": "no"}}', "error_event"),
        (whole({"content": "half"}, finish="abort"), "cut"),
    ],
)
def test_what_is_no_answer_says_what_it_is(body, code):
    with pytest.raises(BackendError) as caught:
        OpenAI().read_answer(body)
    assert caught.value.code == code
