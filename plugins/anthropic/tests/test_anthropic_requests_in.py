"""A message request read into the canonical form: what each field becomes, and what is lost."""

from __future__ import annotations

import json
from typing import Any

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import Payload, Problem
from nexus.dialects.canonical import (
    Document,
    Format,
    Image,
    Loss,
    Message,
    Reasoning,
    ResponseFormat,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)

MESSAGES = Anthropic.endpoints[0]


def read(**fields: Any) -> Any:
    body = {"model": "m", "max_tokens": 10, "messages": [{"role": "user", "content": "hello"}], **fields}
    return Anthropic().read_request(MESSAGES, Payload(json.dumps(body).encode()))


def turns(*messages: Any) -> Any:
    """The messages as they are read, and the words for what was lost."""
    conversation, losses = read(messages=list(messages))
    return conversation.messages, [loss.what for loss in losses]


def blocks(*content: Any, role: str = "user") -> Any:
    """The parts of one message, and the losses."""
    conversation, losses = read(messages=[{"role": role, "content": list(content)}])
    return [part for message in conversation.messages for part in message.parts], losses


def lost(what: str) -> tuple[Loss]:
    return (Loss(what=what),)


def refused(what: str) -> tuple[Loss]:
    return (Loss(what=what, meaning_changed=True),)


# ---------------------------------------------------------------- messages


def test_a_plain_request():
    conversation, losses = read(
        stream=True, temperature=0.5, top_p=1, top_k=4, stop_sequences=["END", ""], metadata={"user_id": "u"}
    )
    assert losses == ()
    assert conversation.messages == (Message(role=Role.USER, parts=(Text(text="hello"),)),)
    assert (conversation.model, conversation.max_output_tokens, conversation.stream, conversation.wants_usage) == (
        "m",
        10,
        True,
        True,
    )
    assert (conversation.temperature, conversation.top_p, conversation.top_k) == (0.5, 1, 4)
    assert (conversation.stop, conversation.user) == (("END",), "u")


@pytest.mark.parametrize("system", ["be brief", [{"type": "text", "text": "be brief"}]])
def test_the_system_prompt_comes_first(system: Any):
    assert read(system=system)[0].messages[0] == Message(role=Role.SYSTEM, parts=(Text(text="be brief"),))


def test_several_system_blocks_keep_their_cache_marks():
    system = [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "c", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    assert read(system=system)[0].messages[0].parts == (
        Text(text="a"),
        Text(text="b", cache="5m"),
        Text(text="c", cache="1h"),
    )


def test_a_system_message_may_stand_anywhere():
    found, losses = turns(
        {"role": "user", "content": "hi"},
        {"role": "system", "content": [{"type": "text", "text": "more"}], "output_config": {"effort": "high"}},
        {"role": "system", "content": "again"},
    )
    assert [message.role for message in found] == [Role.USER, Role.SYSTEM, Role.SYSTEM]
    assert losses == ["output_config"]


def test_results_of_tools_come_before_what_the_user_adds():
    found, _ = turns(
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "get", "input": {"x": [1, "é"]}}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "here"},
                {
                    "type": "tool_result",
                    "tool_use_id": "a",
                    "content": "done",
                    "is_error": True,
                    "cache_control": {"type": "ephemeral"},
                },
            ],
        },
    )
    assert found == (
        Message(role=Role.ASSISTANT, parts=(ToolCall(id="a", name="get", arguments='{"x":[1,"é"]}'),)),
        Message(role=Role.TOOL, parts=(ToolResult(call_id="a", parts=(Text(text="done"),), is_error=True, cache="5m"),)),
        Message(role=Role.USER, parts=(Text(text="here"),)),
    )


def test_calls_and_results_without_ids_find_each_other():
    found, _ = turns(
        {"role": "assistant", "content": [{"type": "tool_use", "name": "a"}, {"type": "tool_use", "name": "b"}]},
        {"role": "user", "content": [{"type": "tool_result", "content": "1"}, {"type": "tool_result", "content": "2"}]},
    )
    calls, results = found[0].parts, found[1].parts
    assert [result.call_id for result in results] == [call.id for call in calls]
    assert len({call.id for call in calls}) == 2
    assert all(call.arguments == "{}" for call in calls)


def test_a_result_may_hold_pictures_and_files():
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "QUJD"}}
    (result,), losses = blocks({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "text", "text": "x"}, picture]})
    assert result.parts == (Text(text="x"), Image(data="QUJD", media_type="image/png"))
    assert losses == ()


@pytest.mark.parametrize(
    ("block", "parts", "losses"),
    [
        ({"type": "image", "source": {"type": "url", "url": "https://x.test/a.png"}}, [Image(url="https://x.test/a.png")], ()),
        ({"type": "image", "source": {"type": "file", "file_id": "f"}}, [], refused("image_file")),
        (
            {"type": "document", "title": "t", "context": "c", "source": {"type": "base64", "data": "QQ=="}},
            [Text(text="c"), Document(name="t", data="QQ==", media_type="application/pdf")],
            (),
        ),
        ({"type": "document", "source": {"type": "url", "url": "https://x.test/a"}}, [Document(url="https://x.test/a")], ()),
        ({"type": "document", "source": {"type": "text", "data": "words"}}, [Document(text="words")], ()),
        (
            {"type": "document", "source": {"type": "content", "content": "words"}, "citations": {"enabled": True}},
            [Text(text="words")],
            lost("citations"),
        ),
        ({"type": "document", "source": {"type": "file", "file_id": "f"}}, [], refused("document_file")),
        (
            {"type": "search_result", "title": "t", "source": "s", "content": [{"type": "text", "text": "x"}]},
            [Text(text="t\ns"), Text(text="x")],
            lost("search_result"),
        ),
        ({"type": "text", "text": "x", "citations": [{}]}, [Text(text="x")], lost("citations")),
        ({"type": "text", "text": ""}, [], ()),
        ({"type": "container_upload", "file_id": "f"}, [], refused("container_upload")),
        ({"type": "web_search_tool_result", "content": []}, [], lost("server_tool_results")),
        ({"type": "tool_reference", "tool_name": "get"}, [Text(text="get")], lost("tool_reference")),
        ({"type": "never_heard_of", "text": "x"}, [Text(text="x")], lost("unknown_block")),
        ({"type": "compaction", "content": "what was said"}, [Text(text="what was said")], lost("compaction")),
        ({"type": "compaction", "content": None}, [], lost("compaction")),
        ({"type": "never_heard_of", "hologram": 1}, [], refused("unknown_block")),
    ],
)
def test_blocks_of_a_user(block: Any, parts: list[Any], losses: tuple[Loss, ...]):
    assert blocks(block) == (parts, losses)


def test_thinking_keeps_its_signature():
    parts, losses = blocks(
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "thinking", "thinking": "unsigned", "signature": ""},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        {"type": "marking", "number": 1},
        role="assistant",
    )
    assert parts == [Reasoning(text="hm", signature="c2ln"), Reasoning(text="unsigned"), Reasoning(redacted="xyz")]
    assert losses == (Loss(what="server_tool_results"), Loss(what="unknown_block"))


def test_half_a_surrogate_pair_does_no_harm():
    body = b'{"model":"m","messages":[{"role":"user","content":"cut \\ud83d here"}]}'
    conversation, _ = Anthropic().read_request(MESSAGES, Payload(body))
    assert conversation.messages[0].parts == (Text(text="cut \ufffd here"),)


# ---------------------------------------------------------------- tools


GET = {"name": "get", "description": "d", "input_schema": {"type": "object"}, "cache_control": {"type": "ephemeral"}}


def test_tools():
    conversation, losses = read(tools=[GET, {"type": "custom", "name": "put", "strict": True, "defer_loading": True}])
    assert conversation.tools == (
        Tool(name="get", description="d", schema={"type": "object"}, cache="5m"),
        Tool(name="put", strict=True),
    )
    assert losses == lost("defer_loading")


@pytest.mark.parametrize(
    ("choice", "made", "parallel"),
    [
        ({"type": "auto"}, ToolChoice(mode=ToolMode.AUTO), None),
        ({"type": "any", "disable_parallel_tool_use": True}, ToolChoice(mode=ToolMode.REQUIRED), False),
        ({"type": "none"}, ToolChoice(mode=ToolMode.NONE), None),
        ({"type": "tool", "name": "get"}, ToolChoice(mode=ToolMode.NAMED, name="get"), None),
    ],
)
def test_tool_choices(choice: Any, made: ToolChoice, parallel: bool | None):
    conversation, _ = read(tools=[GET], tool_choice=choice)
    assert (conversation.tool_choice, conversation.parallel_tools) == (made, parallel)


SEARCH = {"type": "web_search_20250305", "name": "web_search", "max_uses": 8}


@pytest.mark.parametrize(
    ("fields", "losses"),
    [
        ({"tools": [GET, SEARCH]}, lost("web_search")),
        ({"tools": [SEARCH]}, refused("web_search")),
        ({"tools": [GET, SEARCH], "tool_choice": {"type": "tool", "name": "web_search"}}, refused("web_search")),
        ({"tools": [GET, {"type": "bash_20250124", "name": "bash"}]}, refused("bash")),
        ({"tools": [GET, {"type": "text_editor_20250728", "name": "edit"}]}, refused("text_editor")),
        ({"tools": [GET, {"type": "never heard of", "name": "x"}]}, refused("tool_type")),
        ({"mcp_servers": [{"url": "https://x.test"}]}, refused("mcp_servers")),
        ({"mcp_servers": []}, ()),
    ],
)
def test_tools_that_nobody_else_has(fields: Any, losses: tuple[Loss, ...]):
    assert read(**fields)[1] == losses


# ---------------------------------------------------------------- the rest


@pytest.mark.parametrize(
    ("fields", "thinking", "losses"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2000}}, Thinking(enabled=True, budget_tokens=2000), ()),
        ({"thinking": {"type": "disabled"}}, Thinking(enabled=False), ()),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Thinking(), lost("display")),
        ({"output_config": {"effort": "medium"}}, Thinking(effort="medium"), ()),
        ({"thinking": {"type": "between_tools"}, "output_config": {"effort": "max"}}, Thinking(effort="max"), ()),
        ({}, None, ()),
    ],
)
def test_thinking(fields: Any, thinking: Thinking | None, losses: tuple[Loss, ...]):
    conversation, found = read(**fields)
    assert (conversation.thinking, found) == (thinking, losses)


@pytest.mark.parametrize("field", ["output_config", "output_format"])
def test_a_schema_for_the_answer(field: str):
    form = {"type": "json_schema", "schema": {"type": "object"}}
    conversation, losses = read(**{field: {"format": form} if field == "output_config" else form})
    assert conversation.response_format == ResponseFormat(kind=Format.JSON_SCHEMA, schema={"type": "object"}, strict=True)
    assert losses == ()


def test_what_only_the_cloud_knows_is_lost_and_harms_nothing():
    _, losses = read(
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        safeguards=[{"type": "dangerous_tool_use"}],
        service_tier="auto",
        container=None,
        metadata={"user_id": "u", "other": 1},
    )
    assert losses == tuple(Loss(what=what) for what in ("context_management", "safeguards", "service_tier", "other"))


def test_a_field_that_somebody_made_up_is_not_repeated():
    assert read(**{"X-Evil\r\nheader": 1})[1] == lost("unknown_field")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 7}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "messages[0].content[0].source"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result"}]}]}, "messages[0].content[0].tool_use_id"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "x"}]}]}, "messages[0].content[0].name"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"input_schema": {}}]}, "tools[0].name"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"),
        ({"tool_choice": {"type": "sometimes"}}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"top_k": -1}, "top_k"),
        ({"stop_sequences": [7]}, "stop_sequences[0]"),
        ({"stream": "yes"}, "stream"),
        ({"metadata": 7}, "metadata"),
        ({"output_config": {"format": {"type": "yaml"}}}, "output_config.format.type"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(fields: Any, param: str):
    with pytest.raises(Problem) as caught:
        read(**fields)
    assert (caught.value.status, caught.value.param) == (400, param)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, b'{"a":NaN}'])
def test_what_is_no_json_object(body: bytes):
    with pytest.raises(Problem) as caught:
        Anthropic().read_request(MESSAGES, Payload(body))
    assert caught.value.status == 400
