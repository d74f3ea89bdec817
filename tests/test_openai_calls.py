"""Tool calls of OpenAI servers, told in every way that is known of some: the same calls, streamed or whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.api import BackendError
from nexus.dialects.canonical import Answer, Failure, FinishReason, ReplyContext, ToolCall, ToolCallDelta, ToolCallStart
from nexus.dialects.openai import OpenAI

A, B = '{"a":1}', '{"b":[{}]}'


def call(index=..., id=..., name=..., arguments=...):
    function = {k: v for k, v in {"name": name, "arguments": arguments}.items() if v is not ...}
    fields = {"index": index, "id": id, "function": function or ...}
    return {k: v for k, v in fields.items() if v is not ...}


def events(*deltas, finish="tool_calls"):
    """What is read of a stream with these pieces of calls, each list in an event of its own."""
    chunks = [
        {"model": "m", "choices": [{"index": 0, "delta": {"tool_calls": pieces}, "finish_reason": None}]} for pieces in deltas
    ]
    chunks.append({"model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    wire = b"".join(b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks)
    decoder = OpenAI().stream_decoder()
    return decoder.feed(wire) + decoder.finish()


def calls_in(read):
    """The calls put together, without their ids."""
    calls = []
    for event in read:
        if isinstance(event, ToolCallStart):
            assert event.index == len(calls)
            assert event.id
            calls.append([event.name, ""])
        elif isinstance(event, ToolCallDelta):
            calls[event.index][1] += event.arguments
    return [tuple(each) for each in calls]


TWO = [("f", A), ("g", B)]
SAME_TWICE = [("f", A), ("f", B)]
ONE = [("get_weather", A)]
STREAMS = {
    "no index": (TWO, [[call(id="x", name="f", arguments=A)], [call(id="y", name="g", arguments=B)]]),
    "no index, in pieces": (
        TWO,
        [[call(id="x", name="f", arguments="")], [call(arguments=A)], [call(id="y", name="g", arguments="")], [call(arguments=B)]],
    ),
    "an index at the start only": (TWO, [[call(0, "x", "f", A[:3])], [call(arguments=A[3:])], [call(1, "y", "g", B)]]),
    "an index behind the start only": (ONE, [[call(id="x", name="get_weather", arguments="")], [call(0, arguments=A)]]),
    "neither index nor id, in one event": (TWO, [[call(name="f", arguments=A), call(name="g", arguments=B)]]),
    "index 0 and no ids": (TWO, [[call(0, name="f", arguments=A)], [call(0, name="g", arguments=B)]]),
    "index 0 and no ids, in one event": (TWO, [[call(0, name="f", arguments=A), call(0, name="g", arguments=B)]]),
    "index 0, no ids, one name": (SAME_TWICE, [[call(0, name="f", arguments=A)], [call(0, name="f", arguments=B)]]),
    "index 0, no ids, one name, in one event": (SAME_TWICE, [[call(0, name="f", arguments=A), call(0, name="f", arguments=B)]]),
    "index 0, no ids, in pieces": (
        TWO,
        [
            [call(0, name="f", arguments=A[:2])],
            [call(0, arguments=A[2:])],
            [call(0, name="g", arguments=B[:2])],
            [call(0, arguments=B[2:])],
        ],
    ),
    "one id for all": (SAME_TWICE, [[call(0, "call_0", "f", A)], [call(0, "call_0", "f", B)]]),
    "one id for all, at two places": (TWO, [[call(0, "call_0", "f", A)], [call(1, "call_0", "g", B)]]),
    "index 0, told apart by id, in turns": (
        TWO,
        [
            [call(0, "x", "f", "")],
            [call(0, "y", "g", "")],
            [call(0, "x", arguments=A[:2])],
            [call(0, "y", arguments=B)],
            [call(0, "x", arguments=A[2:])],
        ],
    ),
    "in turns": (
        TWO,
        [
            [call(0, "x", "f", ""), call(1, "y", "g", "")],
            [call(1, arguments=B[:4])],
            [call(0, arguments=A)],
            [call(1, arguments=B[4:])],
        ],
    ),
    "the name in each": (ONE, [[call(0, "x", "get_weather", A[:2])], [call(0, name="get_weather", arguments=A[2:])]]),
    "name and id in each": (ONE, [[call(0, "x", "get_weather", A[:2])], [call(0, "x", "get_weather", A[2:])]]),
    "name and id in each, nothing else at first": (ONE, [[call(0, "x", "get_weather")], [call(0, "x", "get_weather", A)]]),
    "the name in two pieces": (ONE, [[call(0, "x", "get_")], [call(0, name="weather")], [call(0, arguments=A)]]),
    "the name in two pieces, the last with arguments": (ONE, [[call(0, "x", "get_")], [call(0, name="weather", arguments=A)]]),
    "the name as it grows": (ONE, [[call(0, "x", "get_")], [call(0, "x", "get_weather", A)]]),
    "a new id in each": (
        ONE,
        [[call(0, "x", "get_weather", "")], [call(0, "y", arguments=A[:2])], [call(0, "z", arguments=A[2:])]],
    ),
    "told again at the end": (
        ONE,
        [[call(0, "x", "get_weather", A[:2])], [call(0, arguments=A[2:])], [call(0, "x", "get_weather", A)]],
    ),
    "an empty name later": (ONE, [[call(0, "x", "get_weather", "")], [call(0, "", "", A)]]),
    "a name of null later": (ONE, [[call(0, "x", "get_weather", None)], [call(0, None, None, A)]]),
    "arguments as an object": ([("f", '{"a": 1}')], [[call(0, "x", "f", {"a": 1})]]),
    "numbers for ids": (TWO, [[call(0, 1, "f", A)], [call(1, 2, "g", B)]]),
    "texts for places": (TWO, [[call("0", "x", "f", A[:1])], [call("0", arguments=A[1:])], [call("1", "y", "g", B)]]),
    "null among them": (TWO, [[None, call(0, "x", "f", A), None], [None, call(1, "y", "g", B)]]),
    "a place that is none": (ONE, [[call({}, "x", "get_weather", A)]]),
    "an id that is none": (ONE, [[call(0, [], "get_weather", A)]]),
    "no arguments": ([("f", "")], [[call(0, "x", "f")]]),
    "empty arguments": ([("f", "")], [[call(0, "x", "f", "")]]),
    "arguments of null": ([("f", "")], [[call(0, "x", "f", None)]]),
    "arguments of null twice": ([("f", ""), ("g", "")], [[call(0, name="f", arguments=None)], [call(0, name="g", arguments=None)]]),
    "no arguments, and another call with some": ([("f", ""), ("g", B)], [[call(0, "x", "f")], [call(1, "y", "g", B)]]),
    "no arguments twice, in one event": ([("f", ""), ("g", "")], [[call(0, name="f"), call(0, name="g")]]),
}


@pytest.mark.parametrize(("expected", "deltas"), STREAMS.values(), ids=STREAMS)
def test_the_calls_are_the_same_however_they_are_told(expected, deltas):
    assert calls_in(events(*deltas)) == expected


@pytest.mark.parametrize(
    "deltas",
    [
        [[call(0, "x")]],
        [[call(0, "x", "")]],
        [[call(0, arguments=A)]],
        [[call(0, "x", "f", A)], [call(1, arguments=A)]],
        [[call(0, "x", "f", A)], [call(1, "y", arguments=A)]],
    ],
)
def test_a_call_that_nobody_names_is_a_failure(deltas):
    assert events(*deltas)[-1] == Failure(message="the backend sent a tool call without a name", code="malformed")


@pytest.mark.parametrize("calls", [{}, {"0": call(0, "x", "f", A)}, "f", 7, [[]], [7], [call(0, "x", 7, A)]])
def test_what_is_no_call_is_none_or_a_failure_streamed_and_whole(calls):
    body = {"choices": [{"message": {"content": "yes", "tool_calls": calls}, "finish_reason": "stop"}]}
    if calls in ([[]], [7]):
        assert calls_in(events(calls)) == []
        assert [type(part).__name__ for part in OpenAI().read_answer(json.dumps(body).encode())[0].parts] == ["Text"]
        return
    assert isinstance(events(calls)[-1], Failure)
    with pytest.raises(BackendError, match="malformed"):
        OpenAI().read_answer(json.dumps(body).encode())


@pytest.mark.parametrize("arguments", [..., None, "", " \n", {}])
@pytest.mark.parametrize("id", [..., None, "", "x", 7])
def test_a_whole_call_is_what_a_streamed_one_is(arguments, id):
    body = {"choices": [{"message": {"tool_calls": [None, call(..., id, "f", arguments)]}, "finish_reason": "stop"}]}
    (whole,) = OpenAI().read_answer(json.dumps(body).encode())[0].parts
    streamed = events([None, call(0, id, "f", arguments)])
    assert calls_in(streamed) == [(whole.name, whole.arguments)]
    if id in ("x", 7):
        assert whole.id == next(event.id for event in streamed if isinstance(event, ToolCallStart)) == str(id)


# ---- what an OpenAI client gets

CONTEXT = ReplyContext(request_id="r", model="m")


def written(read):
    encoder = OpenAI().stream_encoder(CONTEXT)
    wire = b"".join(map(encoder.encode, read)) + encoder.finish()
    said = [json.loads(event[6:]) for event in wire.split(b"\n\n") if event and event != b"data: [DONE]"]
    return [piece for chunk in said for choice in chunk["choices"] for piece in choice["delta"].get("tool_calls", ())]


@pytest.mark.parametrize("arguments", [..., None, "", "  ", {}, "{}"])
def test_arguments_can_always_be_read_as_json(arguments):
    pieces = written(events([call(0, "x", "f", arguments)], [call(1, "y", "g", A)]))
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == 0)) == {}
    assert "".join(piece["function"]["arguments"] for piece in pieces if piece["index"] == 1) == A
    body = {"choices": [{"message": {"tool_calls": [call(0, "x", "f", arguments)]}, "finish_reason": "tool_calls"}]}
    whole = json.loads(OpenAI().write_answer(OpenAI().read_answer(json.dumps(body).encode())[0], CONTEXT)[0])
    assert json.loads(whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == {}


def test_arguments_that_were_cut_before_they_began_are_not_made_up():
    assert [piece["function"]["arguments"] for piece in written(events([call(0, "x", "f", "")], finish="length"))] == [""]
    cut = Answer(parts=(ToolCall(id="x", name="f"),), finish=FinishReason.LENGTH)
    whole = json.loads(OpenAI().write_answer(cut, CONTEXT)[0])
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == ""


# ---- any way of telling calls that says which is which

objects = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=8), max_size=3).map(json.dumps)
tools = st.lists(st.tuples(st.sampled_from(["f", "get_weather", "g-2"]), objects), min_size=1, max_size=4)


@st.composite
def tellings(draw):
    """Calls, and a stream of them as some server would tell it."""
    calls = draw(tools)
    ids, places = draw(st.booleans()), draw(st.booleans())
    repeats, numbers = draw(st.booleans()), ids and draw(st.booleans())
    in_turns = places and draw(st.booleans())
    queues = []
    for number, (name, arguments) in enumerate(calls):
        cuts = sorted(draw(st.sets(st.integers(1, max(len(arguments) - 1, 1)), max_size=3)))
        pieces = [arguments[a:b] for a, b in zip((0, *cuts), (*cuts, len(arguments)), strict=True)]
        id = (number if numbers else f"id{number}") if ids else ...
        place = (str(number) if draw(st.booleans()) else number) if places else draw(st.sampled_from([0, ...]))
        first = call(place, id, name, draw(st.sampled_from(["", None])) if draw(st.booleans()) and ids else pieces.pop(0))
        again = {"name": name, "id": id} if repeats else {}
        queues.append([first, *(call(place, arguments=piece, **again) for piece in pieces if piece)])
    deltas = []
    while any(queues):
        pick = draw(st.integers(0, len(queues) - 1)) if in_turns else next(at for at, queue in enumerate(queues) if queue)
        if queues[pick] and not (
            in_turns and any(len(q) and q[0]["function"].get("name") and at < pick for at, q in enumerate(queues))
        ):
            deltas.append([queues[pick].pop(0)])
    return calls, deltas


@settings(max_examples=300, deadline=None)
@given(tellings())
def test_calls_are_told_apart(telling):
    calls, deltas = telling
    assert calls_in(events(*deltas)) == calls
