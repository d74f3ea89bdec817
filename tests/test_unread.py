"""Nothing that a client says is left out in silence: every member of a request arrives, or a loss names it, or it is refused."""

from __future__ import annotations

import copy
import json

import pytest
from nexus_anthropic.dialect import Anthropic
from nexus_anthropic.limits import ANTHROPIC
from nexus_openai.limits import OPENAI

from nexus.api import Accepts, Refused
from nexus.dialects.canonical import Loss, Reasoning, Target, Text, in_words
from nexus.dialects.openai import OpenAI
from nexus.dialects.translate import Translation
from nexus.dialects.unread import Read, taken, unread
from nexus.model import Payload

MARK = "a_marker_of_the_tests"
SCHEMA = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"], "additionalProperties": False}
PNG = "iVBORw0KGgo="
HI = {"role": "user", "content": "hi"}

OPENAIS = {
    "model": "m",
    "messages": [
        {"role": "system", "content": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral", "ttl": "1h"}}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "low"}},
                {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUE="}},
            ],
        },
        {
            "role": "assistant",
            "content": "ok",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":"y"}'}}],
        },
        {"role": "tool", "tool_call_id": "1", "content": [{"type": "text", "text": "7"}]},
        {"role": "user", "content": "go"},
    ],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}},
    "stream": True,
    "stream_options": {"include_usage": True},
    "max_tokens": 9,
}
ANTHROPICS = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "s", "cache_control": {"type": "ephemeral"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "look"},
                {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}},
                {"type": "document", "title": "t", "source": {"type": "text", "media_type": "text/plain", "data": "d"}},
                {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "found"}]},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
                {"type": "tool_use", "id": "1", "name": "f", "input": {"x": "y"}},
            ],
        },
        {
            "role": "user",
            "content": [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "7"}], "is_error": True}],
        },
    ],
    "tools": [{"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True}],
    "tool_choice": {"type": "tool", "name": "f"},
    "metadata": {"user_id": "u"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": SCHEMA}},
    "stop_sequences": ["END"],
}
WAYS = {
    "openai": (OpenAI(), OPENAIS, Anthropic(), Target(model="claude-opus-4-5", accepts=ANTHROPIC)),
    "anthropic": (Anthropic(), ANTHROPICS, OpenAI(), Target(model="m", accepts=OPENAI)),
    "anthropic, at home": (Anthropic(), ANTHROPICS, OpenAI(), Target(model="m", home=True)),
    "openai, at home": (
        OpenAI(),
        {name: OPENAIS[name] for name in OPENAIS if name != "response_format"},
        Anthropic(),
        Target(model="m", home=True, accepts=Accepts()),
    ),
}


def places(value, way=()):
    """Where the objects of a request are."""
    if isinstance(value, dict):
        yield way
        for key, inner in value.items():
            yield from places(inner, (*way, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from places(inner, (*way, at))


def at(value, way):
    for key in way:
        value = value[key]
    return value


def sent(way, body):
    """The server's body and what is told of it; a refusal names what was lost."""
    client, _, server, target = WAYS[way]
    payload = Payload(json.dumps(body).encode())
    endpoint = client.endpoints[0]
    try:
        made = Translation(client, server, endpoint, payload, client.decode(endpoint, payload), target)
    except Refused as refused:
        return "", str(refused.refusal.data["lost"]).split(", ")
    return made.body.decode(), made.told.split(", ")


LOST = {
    "openai": {"detail", "thinking", "schema_name"},
    "anthropic": {"search_result", "user", "cache_control", "signature", "thinking", "is_error", "thinking_budget"},
    "anthropic, at home": {"search_result", "user", "cache_control", "signature", "is_error", "thinking_budget"},
    "openai, at home": {"detail", "strict"},
}


@pytest.mark.parametrize("way", WAYS)
def test_the_requests_of_these_tests_arrive_and_nothing_is_named_that_was_read(way):
    body, lost = sent(way, WAYS[way][1])
    assert (bool(body), set(lost)) == (True, LOST[way])


@pytest.mark.parametrize("way", WAYS)
def test_a_member_that_nobody_knows_arrives_or_is_named(way):
    for place in places(WAYS[way][1]):
        body = copy.deepcopy(WAYS[way][1])
        at(body, place)[MARK] = {"of": 7}
        arrived, lost = sent(way, body)
        assert MARK in arrived or MARK in lost or not arrived, place


OTHERS = {
    "openai": [
        *(
            {name: 1}
            for name in (
                "logit_bias",
                "top_logprobs",
                "prediction",
                "service_tier",
                "prompt_cache_key",
                "verbosity",
                "metadata",
                "store",
            )
        ),
        {"safety_identifier": "u", "user": "v"},
        {"web_search_options": {}},
        {"web_search_options": {"a": 1}},
        {"modalities": ["text", "audio"]},
        {"audio": {"voice": "x"}},
        {"functions": [{"name": "f"}]},
        {"function_call": "auto"},
        {"logprobs": True},
        {"seed": 1},
        {"presence_penalty": 1},
    ],
    "anthropic": [
        {"container": "c"},
        {"service_tier": "auto"},
        {"inference_geo": "eu"},
        {"context_management": {"edits": []}},
        {"mcp_servers": [{"name": "x"}]},
        {"cache_control": {"type": "ephemeral"}},
        {"top_k": 4},
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "bash_20250124", "name": "bash"}]},
    ],
}
NAMES = {"modalities": "audio", "tools": ("web_search", "bash"), "seed": "seed"}


@pytest.mark.parametrize(("way", "fields"), [(way, fields) for way, each in OTHERS.items() for fields in each], ids=str)
def test_a_field_without_a_place_is_named_or_refused(way, fields):
    body = {"model": "m", "max_tokens": 9, "messages": [HI], **fields}
    _, lost = sent(way, body)
    for name in fields:
        expected = NAMES.get(name, name)
        assert any(word in lost for word in ([expected] if isinstance(expected, str) else expected)), lost


@pytest.mark.parametrize("way", WAYS)
def test_a_bound_of_nothing_is_refused(way):
    assert sent(way, {"model": "m", "max_tokens": 0, "messages": [HI]}) == ("", ["max_tokens"])


def test_web_search_options_that_are_empty_ask_for_a_search():
    assert sent("openai", {"model": "m", "messages": [HI], "web_search_options": {}}) == ("", ["web_search_options"])


# ---------------------------------------------------------------- turns of the model's


def turn(**message):
    said = OpenAI().read_request(
        OpenAI.endpoints[0], Payload(json.dumps({"model": "m", "messages": [HI, {"role": "assistant", **message}]}).encode())
    )
    return said[0].messages[1].parts, [loss.what for loss in said[1]]


@pytest.mark.parametrize(
    ("message", "parts", "lost"),
    [
        ({"content": None, "refusal": "I will not."}, (Text(text="I will not."),), []),
        ({"content": "a", "refusal": "b"}, (Text(text="a"), Text(text="b")), []),
        ({"content": "a", "cache_control": {"type": "ephemeral"}}, (Text(text="a", cache="5m"),), []),
        ({"content": "a", "reasoning": "hm", "reasoning_content": "hm"}, (Reasoning(text="hm"), Text(text="a")), []),
        (
            {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, {"type": "text", "text": "a"}]},
            (Reasoning(text="hm"), Text(text="a")),
            [],
        ),
        ({"content": [{"type": "thinking", "thinking": "hm", "signature": "s"}]}, (Reasoning(text="hm"),), ["signature"]),
        ({"content": [{"type": "reasoning", "summary": [{"text": "hm"}]}]}, (Reasoning(text="hm"),), []),
        ({"content": [{"type": "redacted_thinking", "data": "x"}]}, (), ["redacted_thinking"]),
        (
            {
                "content": "a",
                "reasoning_details": [
                    {"type": "reasoning.text", "text": "hm", "signature": "s"},
                    {"type": "reasoning.encrypted", "data": "x"},
                ],
            },
            (Reasoning(text="hm"), Text(text="a")),
            ["reasoning_details"],
        ),
        ({"content": "a", "annotations": [{"type": "url_citation"}]}, (Text(text="a"),), ["annotations"]),
    ],
)
def test_what_a_turn_of_the_models_holds(message, parts, lost):
    assert turn(**message) == (parts, lost)


# ---------------------------------------------------------------- how it is known, and told


def test_an_object_knows_what_was_read_of_it():
    value = Read({"a": {"b": 1, "c": [{"d": 1, "e": None}]}, "f": 2, "g": [], "h": {"i": {"j": 1}}, "k": {}})
    assert value.get("a").get("c")[0].get("nothing", 7) == 7
    assert list(unread(value)) == ["b", "d", "f", "h"]
    assert (taken(value["h"]), value["f"]) == ({"i": {"j": 1}}, 2)
    assert type(taken(value["h"])) is dict
    assert list(unread(value)) == ["b", "d"]


def test_the_header_has_a_bound():
    words = [f"field_{number}" for number in range(10_000)]
    said = in_words([Loss(what=word) for word in words])
    assert said.startswith("field_0, field_1")
    assert said.endswith(", more")
    assert len(said) < 1100
    assert in_words([Loss(what="a"), Loss(what="b"), Loss(what="a")]) == "a, b"
