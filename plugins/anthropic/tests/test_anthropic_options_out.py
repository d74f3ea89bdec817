"""The canonical form written as a message request: tools, thinking, sampling and formats, and what each family of models takes."""

from __future__ import annotations

from typing import Any

import pytest

from nexus.dialects.canonical import (
    Format,
    Reasoning,
    ResponseFormat,
    Target,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)

from .writing_requests import BUDGET, GET, HOME, NEW, OLD, model, results, user, write

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
    _, losses, meant = write(seed=0, presence_penalty=0.5, frequency_penalty=0.0, n=2)
    assert (losses, meant) == (["presence_penalty", "seed", "n"], ["n"])


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
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "additionalProperties": False}
    asked = ResponseFormat(kind=Format.JSON_SCHEMA, name="answer", schema=schema)
    body, losses, _ = write(response_format=asked)
    assert (body["output_config"], losses) == ({"format": {"type": "json_schema", "schema": schema}}, [])
    told = ResponseFormat(kind=Format.JSON_SCHEMA, name="n", description="d", strict=False, schema=schema)
    assert write(response_format=told)[1] == ["schema_name", "schema_description", "strict"]
    assert write(response_format=asked, target=OLD)[2] == ["response_format"]


def test_any_json_is_asked_for_in_words():
    body, losses, meant = write(response_format=ResponseFormat(kind=Format.JSON_OBJECT))
    assert "JSON" in body["system"][-1]["text"]
    assert (losses, meant) == (["json_object"], [])
    assert "system" not in write(response_format=ResponseFormat(kind=Format.TEXT))[0]
