"""What clients and servers write that is in nobody's reference: it means the same whole and streamed, and nothing is lost in silence."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_anthropic.dialect import Anthropic
from nexus_anthropic.limits import ANTHROPIC
from nexus_openai.limits import OPENAI as OPENAIS_CLOUD

from nexus.dialects.canonical import Target, in_words
from nexus.dialects.openai import OpenAI
from nexus.dialects.translate import Translation
from nexus.errors import BackendError
from nexus.model import ANYTHING, Payload

OPENAI, CLAUDE = OpenAI(), Anthropic()
ACCEPTS = {"openai": OPENAIS_CLOUD, "anthropic": ANTHROPIC}
HI = [{"role": "user", "content": "hi"}]


def translated(client, server, *, home=False, model="claude-sonnet-4-20250514", **fields):
    least = {"max_tokens": 10} if client is CLAUDE else {}
    payload = Payload(json.dumps({"model": "m", "messages": HI, **least, **fields}).encode())
    endpoint = client.endpoints[0]
    target = Target(model=model, home=home, accepts=ANYTHING if home else ACCEPTS[server.name])
    return Translation(client, server, endpoint, payload, client.decode(endpoint, payload), target)


def written(client, server, **fields):
    return json.loads(translated(client, server, **fields).body)


def answered(client, server, wire, *, stream):
    reader = translated(client, server, home=True, stream=stream).reader("r", "m", 1)
    return (reader.feed(wire) + reader.finish()).decode()


def data(events):
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


# ---------------------------------------------------------------- why it ended


def openais(message, reason, *, stream):
    key = "delta" if stream else "message"
    answer = {"model": "m", "choices": [{"index": 0, key: message, "finish_reason": reason}]}
    return data([answer]) + b"data: [DONE]\n\n" if stream else json.dumps(answer).encode()


def anthropics(block, reason, *, stream):
    if not stream:
        return json.dumps({"type": "message", "content": [block], "stop_reason": reason}).encode()
    start = {"type": "content_block_start", "index": 0, "content_block": block}
    stop = {"type": "content_block_stop", "index": 0}
    return data([start, stop, {"type": "message_delta", "delta": {"stop_reason": reason}}, {"type": "message_stop"}])


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "told"),
    [
        ("length", "max_tokens"),
        ("MAX_TOKENS", "max_tokens"),
        ("model_length", "max_tokens"),
        ("content-filter", "refusal"),
        ("SAFETY", "refusal"),
        ("sensitive", "refusal"),
        ("eos", "end_turn"),
        ("eos_token", "end_turn"),
        ("function_call", "end_turn"),  # nothing was called
    ],
)
def test_servers_have_many_words_for_an_end(reason, told, stream):
    said = answered(CLAUDE, OPENAI, openais({"content": "x"}, reason, stream=stream), stream=stream)
    assert f'"stop_reason":"{told}"' in said


@pytest.mark.parametrize("reason", ["network_error", "insufficient_system_resource", "ERROR", "abort"])
def test_an_answer_that_was_given_up_is_none(reason):
    with pytest.raises(BackendError, match="gave its answer up"):
        answered(CLAUDE, OPENAI, openais({"content": "x"}, reason, stream=False), stream=False)
    reader = translated(CLAUDE, OPENAI, home=True, stream=True).reader("r", "m", 1)
    assert b"event: error" in reader.feed(openais({"content": "x"}, reason, stream=True))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("reason", "told"), [("", "stop"), (None, "stop"), ("length", "length"), ("content_filter", "content_filter"), ("odd", "stop")]
)
def test_servers_with_anthropics_api_mix_the_words(reason, told, stream):
    said = answered(OPENAI, CLAUDE, anthropics({"type": "text", "text": "x"}, reason, stream=stream), stream=stream)
    assert f'"finish_reason":"{told}"' in said


def test_an_empty_stop_reason_ends_nothing():
    reader = translated(OPENAI, CLAUDE, home=True, stream=True).reader("r", "m", 1)
    reader.feed(data([{"type": "message_start", "message": {}}, {"type": "message_delta", "delta": {"stop_reason": ""}}]))
    assert not reader.ending


# ---------------------------------------------------------------- calls


@pytest.mark.parametrize("stream", [False, True])
def test_a_call_in_its_older_form_is_a_call(stream):
    message = {"function_call": {"name": "look", "arguments": '{"at":1}'}}
    said = answered(CLAUDE, OPENAI, openais(message, "function_call", stream=stream), stream=stream)
    assert '"name":"look"' in said
    assert '"stop_reason":"tool_use"' in said


def test_a_call_in_its_older_form_comes_in_pieces():
    pieces = [{"name": "look", "arguments": ""}, {"arguments": '{"at"'}, {"arguments": ":1}"}, None, "odd"]
    wire = data([{"choices": [{"index": 0, "delta": {"function_call": piece}}]} for piece in pieces])
    wire += data([{"choices": [{"index": 0, "delta": {}, "finish_reason": "function_call"}]}])
    said = answered(CLAUDE, OPENAI, wire, stream=True)
    assert said.count('"type":"tool_use"') == 1
    assert '"partial_json":":1}"' in said


objects = st.dictionaries(st.text(max_size=3), st.integers() | st.text(max_size=3) | st.none(), max_size=3)


@given(given=st.none() | objects, as_text=st.booleans(), id=st.none() | st.integers(0, 9) | st.sampled_from(["", "toolu_1"]))
def test_the_input_of_a_call_is_an_object_or_its_text_and_its_id_may_be_a_number(given, as_text, id):
    value = json.dumps(given) if as_text else given
    block = {"type": "tool_use", "id": id, "name": "look", "input": value}
    whole = json.loads(answered(OPENAI, CLAUDE, anthropics(block, "tool_use", stream=False), stream=False))
    [call] = whole["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) in (given, given or {})
    assert call["id"] == (str(id) if id is not None and id != "" else call["id"]) != ""
    streamed = answered(OPENAI, CLAUDE, anthropics(block, "tool_use", stream=True), stream=True)
    events = [json.loads(line[6:]) for line in streamed.split("\n") if line.startswith("data: {")]
    pieces = [call for event in events for choice in event["choices"] for call in choice["delta"].get("tool_calls", ())]
    assert json.loads("".join(piece["function"]["arguments"] for piece in pieces)) in (given, given or {})


def test_the_input_of_an_earlier_call_may_be_its_text():
    turns = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "look", "input": '{"at": 1}'}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a"}]},
    ]
    [_, turn, _] = written(CLAUDE, OPENAI, messages=[*HI, *turns])["messages"]
    assert json.loads(turn["tool_calls"][0]["function"]["arguments"]) == {"at": 1}


# ---------------------------------------------------------------- requests


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_minus_one_is_no_bound(name):
    """LM Studio's own example asks so, and llama.cpp's servers take it."""
    unbounded = translated(OPENAI, CLAUDE, **{name: -1})
    assert json.loads(unbounded.body)["max_tokens"] > 1000
    body = json.dumps({"model": "m", "messages": HI, name: -1}).encode()
    assert OPENAI.decode(OPENAI.endpoints[0], Payload(body)).max_output_tokens is None


@pytest.mark.parametrize("top_k", [0, -1])
def test_a_top_k_of_nothing_is_none_to_the_cloud(top_k):
    assert "top_k" not in written(OPENAI, CLAUDE, top_k=top_k)
    assert written(OPENAI, CLAUDE, top_k=top_k, home=True)["top_k"] == top_k


@pytest.mark.parametrize("schema", [{"type": None}, {"type": "object", "properties": None}, {"required": None}, {}, None])
def test_a_tool_that_takes_nothing_is_told_so_in_many_ways(schema):
    tool = {"type": "function", "function": {"name": "look", "parameters": schema}}
    assert written(OPENAI, CLAUDE, tools=[tool])["tools"] == [
        {"name": "look", "input_schema": {"type": "object", "properties": {}}}
    ]


@pytest.mark.parametrize(("mode", "told"), [("auto", "auto"), ("none", "none"), ("required", "any")])
def test_a_choice_of_tools_may_be_an_object(mode, told):
    tools = [{"type": "function", "function": {"name": "look"}}]
    assert written(OPENAI, CLAUDE, tools=tools, tool_choice={"type": mode})["tool_choice"] == {"type": told}


def test_thinking_in_a_turn_of_the_users_is_named_and_leaves_a_turn_that_servers_take():
    made = translated(CLAUDE, OPENAI, messages=[{"role": "user", "content": [{"type": "thinking", "thinking": "hm"}]}])
    assert json.loads(made.body)["messages"] == [{"role": "user", "content": ""}]
    assert in_words(made.losses) == "thinking"


def test_what_stands_after_a_prompt_is_read_with_each_prompt():
    endpoint = next(each for each in OPENAI.endpoints if each.path == "/v1/completions")
    low = {}
    for suffix in ("", "x" * 8000):
        body = json.dumps({"model": "m", "prompt": ["a", "b"], "suffix": suffix}).encode()
        low[suffix] = OPENAI.decode(endpoint, Payload(body)).tokens_low
    assert low["x" * 8000] - low[""] == 1000
