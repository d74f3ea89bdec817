"""The arguments of a call in translation: none is none in whatever words, whole and streamed; what is an object passes as it is."""

from __future__ import annotations

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nexus.dialects.arguments import say_nothing
from nexus.dialects.calls import Calls
from nexus.dialects.canonical import ToolCallDelta, ToolCallStart
from nexus.errors import BackendError

from .test_translate_odd import CLAUDE, OPENAI, answered, anthropics, data, openais, written

NOTHING = ["", " ", " \n\t", "null", " null\n", "null  ", None]


def in_pieces(arguments, reason="tool_calls", then=()):
    """An OpenAI stream with a call whose arguments come a character at a time."""
    function = {"name": "f", "arguments": ""}
    deltas = [
        {"tool_calls": [{"index": 0, "id": "c1", "function": function}]},
        *({"tool_calls": [{"index": 0, "function": {"arguments": each}}]} for each in arguments),
        *then,
    ]
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    return data([*chunks, {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}]) + b"data: [DONE]\n\n"


def told(wire):
    """The arguments that an Anthropic client is told by a stream; the error's sentence where it breaks off."""
    events = [json.loads(line[6:]) for line in wire.splitlines() if line.startswith("data: ")]
    return "".join(event["delta"]["partial_json"] for event in events if event.get("delta", {}).get("type") == "input_json_delta")


def whole_and_streamed(arguments, reason="tool_calls"):
    call = {"tool_calls": [{"id": "c1", "function": {"name": "f", "arguments": arguments}}]}
    whole = json.loads(answered(CLAUDE, OPENAI, openais(call, reason, stream=False), stream=False))
    at_once = told(answered(CLAUDE, OPENAI, openais(call, reason, stream=True), stream=True))
    pieces = told(answered(CLAUDE, OPENAI, in_pieces(arguments or "", reason), stream=True))
    return whole["content"][0]["input"], at_once, pieces


@pytest.mark.parametrize("arguments", NOTHING)
@pytest.mark.parametrize("reason", ["tool_calls", "length"])
def test_no_arguments_are_an_empty_input_whole_and_streamed(arguments, reason):
    """A client that is told no piece of an input has the empty one of the block's start."""
    assert whole_and_streamed(arguments, reason) == ({}, "", "")


@pytest.mark.parametrize("arguments", [each for each in NOTHING if each is not None])
@pytest.mark.parametrize("stream", [False, True])
def test_the_input_of_an_anthropic_servers_call_may_say_nothing_in_a_text(arguments, stream):
    block = {"type": "tool_use", "id": "c1", "name": "f", "input": arguments}
    said = json.loads(f"[{answered(OPENAI, CLAUDE, anthropics(block, 'tool_use', stream=False), stream=False)}]")[0]
    assert said["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    wire = answered(OPENAI, CLAUDE, anthropics(block, "tool_use", stream=True), stream=True)
    chunks = [json.loads(line[6:]) for line in wire.splitlines() if line.startswith("data: {")]
    calls = [call for chunk in chunks for choice in chunk["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert "".join(call["function"]["arguments"] for call in calls) == "{}"


@pytest.mark.parametrize("arguments", NOTHING)
def test_an_earlier_call_without_arguments_goes_to_a_server_as_an_empty_object(arguments):
    turn = {"role": "assistant", "content": [{"type": "tool_use", "id": "c1", "name": "f", "input": arguments}]}
    result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": "ok"}]}
    body = written(CLAUDE, OPENAI, messages=[{"role": "user", "content": "hi"}, turn, result])
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == "{}"


@pytest.mark.parametrize("arguments", ["nul", "nu l", "nullx", "null,", "none", "null null"])
def test_what_only_begins_as_null_is_told_and_is_no_object(arguments):
    with pytest.raises(BackendError, match="no JSON object"):
        whole_and_streamed(arguments)
    stream = CLAUDE, OPENAI, in_pieces(arguments)
    with pytest.raises(BackendError, match="no JSON object"):
        answered(*stream, stream=True)


def test_what_is_cut_short_is_told_as_far_as_it_came():
    assert told(answered(CLAUDE, OPENAI, in_pieces("nu", "length"), stream=True)) == "nu"
    assert told(answered(CLAUDE, OPENAI, in_pieces('{"a', "length"), stream=True)) == '{"a'


@given(st.lists(st.sampled_from([" ", "\n", "n", "u", "l", "null", "{", "}", '"a": null']), max_size=8))
@example(["n", "u", " ", "l", "l"])
@example(["null", " ", " ", "x"])
def test_a_stream_tells_what_is_there_but_for_blanks_around_nothing(pieces):
    calls, out = Calls(), []
    calls.began(ToolCallStart(index=0, id="c", name="f"))
    for piece in pieces:
        said = calls.goes_on(ToolCallDelta(index=0, arguments=piece))
        out += [said] if said is not None else []
    out += calls.rest()
    text, heard = "".join(pieces), "".join(piece.arguments for piece in out)
    assert heard.split() == [] if say_nothing(text) else "".join(heard.split()) == "".join(text.split())
    assert all(piece.arguments for piece in out)
