"""The canonical form written as a message request: what Anthropic demands of it, and what each family of models takes."""

from __future__ import annotations

import base64
import json
from typing import Any

import attrs
import pytest
from nexus_anthropic.blocks_out import FIRST
from nexus_anthropic.dialect import Anthropic

from nexus.dialects.canonical import (
    Conversation,
    Document,
    Format,
    Image,
    Message,
    Reasoning,
    ResponseFormat,
    Role,
    Target,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)

MESSAGES = Anthropic.endpoints[0]
NEW, OLD, BUDGET = Target(model="claude-opus-9"), Target(model="claude-3-haiku-20240307"), Target(model="claude-sonnet-4-0")
HOME = Target(model="local", home=True)
GET = Tool(name="get", schema={"type": "object", "properties": {"x": {"type": "string"}}})


def write(*messages: Message, target: Target = NEW, **fields: Any) -> tuple[dict[str, Any], list[str], list[str]]:
    """The body, the words for what was lost, and those of them that change the meaning."""
    said = Conversation(model="asked", messages=messages or (user("hello"),), **fields)
    body, losses = Anthropic().write_request(MESSAGES, said, target)
    return json.loads(body), [loss.what for loss in losses], [loss.what for loss in losses if loss.meaning_changed]


def user(*parts: Any) -> Message:
    return Message(role=Role.USER, parts=tuple(Text(text=part) if isinstance(part, str) else part for part in parts))


def model(*parts: Any) -> Message:
    return Message(role=Role.ASSISTANT, parts=user(*parts).parts)


def results(*parts: Any) -> Message:
    return Message(role=Role.TOOL, parts=parts)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_the_least_request():
    assert write() == (
        {"model": "claude-opus-9", "max_tokens": 32_000, "messages": [{"role": "user", "content": [text("hello")]}]},
        [],
        [],
    )


# ---------------------------------------------------------------- max_tokens


@pytest.mark.parametrize(
    ("target", "asked", "written", "lost"),
    [
        (NEW, 7, 7, []),
        (NEW, None, 32_000, []),
        (OLD, None, 4096, []),
        (OLD, 9000, 4096, ["max_tokens"]),
        (Target(model="claude-opus-4-5"), None, 64_000, []),
        (Target(model="x", max_output_tokens=500), None, 500, []),
        (Target(model="x", max_output_tokens=500), 400, 400, []),
        (Target(model="x", room=300), None, 300, []),
        (Target(model="claude-opus-4-5", room=300), 400, 300, ["max_tokens"]),
    ],
)
def test_max_tokens_is_always_there(target: Target, asked: int | None, written: int, lost: list[str]):
    body, losses, _ = write(target=target, max_output_tokens=asked)
    assert (body["max_tokens"], losses) == (written, lost)


# ---------------------------------------------------------------- messages


def test_the_system_goes_on_top_from_wherever_it_was():
    system = Message(role=Role.SYSTEM, parts=(Text(text="a", cache="1h"),))
    later = Message(role=Role.SYSTEM, parts=(Text(text="b"), Text(text=" ")))
    body, losses, meant = write(system, user("hi"), later, user("there"))
    assert body["system"] == [{**text("a"), "cache_control": {"type": "ephemeral", "ttl": "1h"}}, text("b")]
    assert body["messages"] == [{"role": "user", "content": [text("hi"), text("there")]}]
    assert (losses, meant) == (["system_position", "blank_text"], [])


@pytest.mark.parametrize(
    "messages", [(), (model("hello"),), (Message(role=Role.SYSTEM, parts=(Text(text="be brief"),)),), (user(""),)]
)
def test_the_user_speaks_first(messages: tuple[Message, ...]):
    said = Conversation(model="m", messages=messages)
    raw, lost = Anthropic().write_request(MESSAGES, said, NEW)
    body = json.loads(raw)
    assert "first_turn" in [loss.what for loss in lost]
    assert body["messages"][0] == {"role": "user", "content": [text(FIRST)]}


def test_roles_take_turns_and_results_come_first():
    calls = (ToolCall(id="call.1", name="get", arguments='{"x":"é"}'), ToolCall(id="b", name="get"))
    body, losses, _ = write(
        user("one"),
        user("two"),
        model("I call", *calls),
        user("by the way"),
        results(ToolResult(call_id="call.1", parts=(Text(text="1"), Text(text="")), is_error=True), ToolResult(call_id="b")),
    )
    assert body["messages"] == [
        {"role": "user", "content": [text("one"), text("two")]},
        {
            "role": "assistant",
            "content": [
                text("I call"),
                {"type": "tool_use", "id": "call_1", "name": "get", "input": {"x": "é"}},
                {"type": "tool_use", "id": "b", "name": "get", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": [text("1")], "is_error": True},
                {"type": "tool_result", "tool_use_id": "b"},
                text("by the way"),
            ],
        },
    ]
    assert losses == []


def test_calls_without_ids_get_some():
    body, _, _ = write(
        user("x"),
        model(ToolCall(id="", name="a"), ToolCall(id="", name="b")),
        results(ToolResult(call_id=""), ToolResult(call_id="")),
    )
    calls = [block["id"] for block in body["messages"][1]["content"]]
    assert [block["tool_use_id"] for block in body["messages"][2]["content"]] == calls
    assert len(set(calls)) == 2


@pytest.mark.parametrize("arguments", ["no JSON", "[1]", '"text"'])
def test_arguments_that_are_no_object_are_kept_inside_one(arguments: str):
    body, losses, meant = write(user("x"), model(ToolCall(id="a", name="get", arguments=arguments)))
    assert body["messages"][1]["content"][0]["input"] == {"arguments": arguments}
    assert (losses, meant) == (["tool_arguments"], [])


def test_the_models_own_last_words_end_without_blanks():
    body, losses, meant = write(user("x"), model("it is \n"))
    assert (body["messages"][1]["content"], losses, meant) == ([text("it is")], ["prefill"], [])
    assert write(user("x"), model("it is"))[1] == []


def test_ids_of_calls_stay_apart():
    ids = ("a.b", "a_b", "a b", "c", "c")
    calls = [ToolCall(id=id, name="get") for id in ids]
    answers = [ToolResult(call_id=id, parts=(Text(text=str(at)),)) for at, id in enumerate(ids)]
    turns = write(user("x"), model("", *calls[:4]), results(*answers[3::-1]), model("", calls[4]), results(answers[4]))[0][
        "messages"
    ]
    asked = [block["id"] for turn in turns for block in turn["content"] if block["type"] == "tool_use"]
    told = {
        block["tool_use_id"]: block["content"][0]["text"] for turn in turns for block in turn["content"] if "tool_use_id" in block
    }
    assert asked == ["a_b", "a_b_", "a_b__", "c", "c_"]
    assert told == dict(zip(asked, "01234", strict=True))


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (Image(url="https://x.test/a.png"), {"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}),
        (
            Image(data="QQ==", media_type="image/jpeg", cache="5m"),
            {
                "type": "image",
                "source": {"type": "base64", "media_type": "image/jpeg", "data": "QQ=="},
                "cache_control": {"type": "ephemeral"},
            },
        ),
        (
            Document(name="a.pdf", data="QQ==", media_type="application/pdf"),
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "QQ=="}, "title": "a.pdf"},
        ),
        (Document(url="https://x.test/a"), {"type": "document", "source": {"type": "url", "url": "https://x.test/a"}}),
        (
            Document(data=base64.b64encode("é".encode()).decode(), media_type="text/csv"),
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "é"}},
        ),
        (Document(text="x"), {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "x"}}),
    ],
)
def test_pictures_and_files(part: Any, block: dict[str, Any]):
    body, losses, _ = write(user(part))
    assert (body["messages"][0]["content"], losses) == ([block], [])


def test_a_file_of_another_kind_is_a_loss_of_meaning():
    assert write(user(Document(data="QQ==", media_type="application/msword")))[2] == ["document"]
    assert write(user(Document(data="no base64", media_type="text/plain")))[2] == ["document"]


def test_a_picture_by_its_address_is_a_loss_of_meaning_where_none_are_taken():
    elsewhere, here = user(Image(url="https://x.test/a.png")), user(Image(data="QQ=="))
    assert write(elsewhere, target=attrs.evolve(HOME, image_urls=False))[2] == ["image_url"]
    assert write(here, target=attrs.evolve(HOME, image_urls=False))[2] == write(elsewhere, target=HOME)[2] == []


def test_how_closely_to_look_is_lost():
    assert write(user(Image(url="u", detail="low")))[1] == ["detail"]
    assert write(user(Image(url="u", detail="auto")))[1] == []


def test_thinking_goes_back_only_to_who_signed_it():
    thoughts = (Reasoning(text="hm", signature="c2ln"), Reasoning(redacted="xyz"), Reasoning(text="unsigned"))
    body, losses, meant = write(user("x"), model(*thoughts, "so"))
    assert [block["type"] for block in body["messages"][1]["content"]] == ["thinking", "redacted_thinking", "text"]
    assert (losses, meant) == (["thinking"], [])
    body, losses, _ = write(user("x"), model(*thoughts, "so"), target=HOME)
    assert body["messages"][1]["content"][2] == {"type": "thinking", "thinking": "unsigned", "signature": ""}
    assert losses == []


# ---------------------------------------------------------------- tools


def test_tools_have_a_schema():
    body, losses, _ = write(tools=(GET, Tool(name="now", description="d", strict=True, cache="5m"), Tool(name="odd", schema={})))
    nothing = {"type": "object", "properties": {}}
    assert body["tools"] == [
        {"name": "get", "input_schema": GET.schema},
        {"name": "now", "description": "d", "input_schema": nothing, "strict": True, "cache_control": {"type": "ephemeral"}},
        {"name": "odd", "input_schema": nothing},
    ]
    assert losses == []
    assert write(tools=(Tool(name="now", strict=True),), target=OLD)[1] == ["strict"]


@pytest.mark.parametrize(
    ("choice", "parallel", "written"),
    [
        (None, None, None),
        (None, True, None),
        (None, False, {"type": "auto", "disable_parallel_tool_use": True}),
        (ToolChoice(mode=ToolMode.AUTO), None, {"type": "auto"}),
        (ToolChoice(mode=ToolMode.NONE), False, {"type": "none"}),
        (ToolChoice(mode=ToolMode.REQUIRED), None, {"type": "any"}),
        (ToolChoice(mode=ToolMode.NAMED, name="get"), False, {"type": "tool", "name": "get", "disable_parallel_tool_use": True}),
    ],
)
def test_tool_choices(choice: ToolChoice | None, parallel: bool | None, written: Any):
    assert write(tools=(GET,), tool_choice=choice, parallel_tools=parallel)[0].get("tool_choice") == written
    assert "tool_choice" not in write(tool_choice=choice, parallel_tools=parallel)[0]


# ---------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    ("target", "thinking", "written", "effort", "lost"),
    [
        (NEW, None, None, None, []),
        (NEW, Thinking(), None, None, []),
        (NEW, Thinking(enabled=True, effort="high"), {"type": "adaptive"}, "high", []),
        (NEW, Thinking(enabled=True, effort="minimal"), {"type": "adaptive"}, "low", ["effort"]),
        (NEW, Thinking(enabled=True, budget_tokens=2000), {"type": "adaptive"}, None, ["budget_tokens"]),
        (NEW, Thinking(enabled=False), {"type": "disabled"}, None, []),
        (NEW, Thinking(effort="low"), None, "low", []),
        (BUDGET, Thinking(enabled=True, effort="low"), {"type": "enabled", "budget_tokens": 2048}, None, ["effort"]),
        (BUDGET, Thinking(enabled=True, budget_tokens=10), {"type": "enabled", "budget_tokens": 1024}, None, ["budget_tokens"]),
        (BUDGET, Thinking(enabled=True), {"type": "enabled", "budget_tokens": 8192}, None, []),
        (BUDGET, Thinking(enabled=False), {"type": "disabled"}, None, []),
        (BUDGET, Thinking(budget_tokens=2000), None, None, ["budget_tokens"]),
        (OLD, Thinking(enabled=False), None, None, []),
        (BUDGET, Thinking(effort="low"), None, None, ["effort"]),
        (OLD, Thinking(enabled=True, effort="low"), None, None, ["thinking", "effort"]),
        (HOME, Thinking(enabled=True, budget_tokens=2000), {"type": "enabled", "budget_tokens": 2000}, None, []),
        (HOME, Thinking(enabled=False), {"type": "disabled"}, None, []),
    ],
)
def test_thinking(target: Target, thinking: Thinking | None, written: Any, effort: str | None, lost: list[str]):
    body, losses, meant = write(target=target, thinking=thinking)
    assert (body.get("thinking"), (body.get("output_config") or {}).get("effort"), losses, meant) == (written, effort, lost, [])


def test_thinking_needs_room():
    body, losses, _ = write(target=BUDGET, thinking=Thinking(enabled=True), max_output_tokens=1000)
    assert ("thinking" in body, losses) == (False, ["thinking"])
    body, _, _ = write(target=BUDGET, thinking=Thinking(enabled=True), max_output_tokens=3000)
    assert body["thinking"]["budget_tokens"] == 2999


def test_nobody_thinks_before_a_tool_that_must_be_called():
    body, losses, _ = write(tools=(GET,), tool_choice=ToolChoice(mode=ToolMode.REQUIRED), thinking=Thinking(enabled=True))
    assert ("thinking" in body, losses) == (False, ["thinking"])


@pytest.mark.parametrize(("signature", "thinks"), [(None, False), ("c2ln", True)])
def test_a_turn_that_began_without_thinking_goes_on_without(signature: str | None, thinks: bool):
    began = model(Reasoning(text="hm", signature=signature), ToolCall(id="a", name="get"))
    body, _, _ = write(user("x"), began, results(ToolResult(call_id="a")), target=BUDGET, thinking=Thinking(enabled=True))
    assert ("thinking" in body) is thinks


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("target", "fields", "written", "lost"),
    [
        (OLD, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, {"temperature": 0.5, "top_p": 0.9, "top_k": 5}, []),
        (OLD, {"temperature": 1.5}, {"temperature": 1.0}, ["temperature"]),
        (HOME, {"temperature": 1.5}, {"temperature": 1.5}, []),
        (Target(model="claude-opus-4-5"), {"temperature": 0.5, "top_p": 0.9}, {"temperature": 0.5}, ["top_p"]),
        (Target(model="claude-opus-4-5"), {"top_p": 0.9}, {"top_p": 0.9}, []),
        (NEW, {"temperature": 0.5}, {}, ["temperature"]),
        (BUDGET, {"temperature": 0.5, "thinking": Thinking(enabled=True)}, {}, ["temperature"]),
    ],
)
def test_sampling(target: Target, fields: Any, written: Any, lost: list[str]):
    body, losses, meant = write(target=target, **fields)
    assert ({name: body[name] for name in ("temperature", "top_p", "top_k") if name in body}, losses, meant) == (written, lost, [])


def test_what_anthropic_has_no_word_for():
    _, losses, meant = write(seed=0, presence_penalty=0.5, frequency_penalty=0.0, stop=("END", "\n"), n=2)
    assert (losses, meant) == (["presence_penalty", "seed", "n", "stop"], ["n"])


@pytest.mark.parametrize(
    ("mode", "lost"),
    [(ToolMode.AUTO, []), (ToolMode.NONE, []), (ToolMode.REQUIRED, ["tool_choice"]), (ToolMode.NAMED, ["tool_choice"])],
)
def test_a_call_cannot_be_ordered_without_tools(mode: ToolMode, lost: list[str]):
    body, losses, _ = write(tool_choice=ToolChoice(mode=mode, name="get" if mode is ToolMode.NAMED else None))
    assert ("tool_choice" in body, losses) == (False, lost)


def test_what_has_a_word():
    body, losses, _ = write(stop=("END",), user="u", stream=True, wants_usage=True)
    assert (body["stop_sequences"], body["metadata"], body["stream"], losses) == (["END"], {"user_id": "u"}, True, [])


def test_an_answer_by_a_schema():
    schema = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "object"}}},
        "$defs": {"b": {"type": "object", "additionalProperties": True}},
    }
    asked = ResponseFormat(kind=Format.JSON_SCHEMA, name="answer", schema=schema)
    body, losses, _ = write(response_format=asked)
    closed = {
        "type": "object",
        "properties": {"a": {"type": "array", "items": {"type": "object", "additionalProperties": False}}},
        "$defs": {"b": {"type": "object", "additionalProperties": True}},
        "additionalProperties": False,
    }
    assert (body["output_config"], losses) == ({"format": {"type": "json_schema", "schema": closed}}, [])
    told = ResponseFormat(kind=Format.JSON_SCHEMA, name="n", description="d", strict=False, schema=schema)
    assert write(response_format=told)[1] == ["schema_name", "schema_description", "strict"]
    assert write(response_format=asked, target=OLD)[2] == ["response_format"]


def test_a_schema_is_closed_where_it_is_one():
    like = {"type": "object", "properties": {}}
    schema = {
        "type": ["object", "null"],
        "properties": {
            "default": like,
            "type": {"anyOf": [like, {"type": "null"}]},
            "list": {"items": [like], "prefixItems": [like]},
        },
        "default": like,
        "examples": [like],
        "const": like,
        "enum": [like],
        "not": like,
    }
    shut = {**like, "additionalProperties": False}
    properties = {"default": shut, "type": {"anyOf": [shut, {"type": "null"}]}, "list": {"items": [shut], "prefixItems": [shut]}}
    expected = {**schema, "properties": properties, "not": shut, "additionalProperties": False}
    asked = ResponseFormat(kind=Format.JSON_SCHEMA, schema=schema)
    assert write(response_format=asked)[0]["output_config"]["format"]["schema"] == expected


def test_any_json_is_asked_for_in_words():
    body, losses, meant = write(response_format=ResponseFormat(kind=Format.JSON_OBJECT))
    assert "JSON" in body["system"][-1]["text"]
    assert (losses, meant) == (["json_object"], [])
    assert "system" not in write(response_format=ResponseFormat(kind=Format.TEXT))[0]
