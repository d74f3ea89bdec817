"""An OpenAI chat request to and from the canonical form."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings

from nexus.api import Endpoint, Problem, replace
from nexus.dialects.canonical import (
    Conversation,
    Document,
    Format,
    Image,
    Loss,
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
    joined,
)
from nexus.dialects.openai import OpenAI
from nexus.model import CHAT, Payload

from .canonical_anything import any_conversations, arguments

CHATS = Endpoint(path="/v1/chat/completions", task=CHAT)
HOME = Target(model="m", home=True, thinks=True)
CLOUD = Target(model="m")
HELLO = Message(role=Role.USER, parts=(Text(text="hello"),))


def read(**body):
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], **body}
    return OpenAI().read_request(CHATS, Payload(json.dumps(body).encode()))


def said(*messages):
    return read(messages=list(messages))[0].messages


def write(conversation, target=HOME):
    body, losses = OpenAI().write_request(CHATS, conversation, target)
    return json.loads(body), losses


def messages(*given, target=HOME):
    body, losses = write(Conversation(model="m", messages=given), target)
    return body["messages"], [loss.what for loss in losses]


@settings(max_examples=300, deadline=None)
@given(any_conversations(plain=True, called_with=arguments))
def test_what_is_written_is_read_again(conversation):
    body, unwritten = OpenAI().write_request(CHATS, conversation, HOME)
    again, unread = OpenAI().read_request(CHATS, Payload(body))
    assert (unwritten, unread) == ((), ())
    assert replace(again, messages=joined(again.messages)) == conversation


# ---- reading messages


def test_every_role_is_read_and_developer_is_system():
    assert [m.role for m in said(*({"role": r, "content": "x"} for r in ("system", "developer", "user", "assistant")))] == [
        Role.SYSTEM,
        Role.SYSTEM,
        Role.USER,
        Role.ASSISTANT,
    ]


@pytest.mark.parametrize("content", [None, "", [], [{"type": "text", "text": ""}]])
def test_nothing_said_is_no_part(content):
    assert said({"role": "assistant", "content": content}) == (Message(role=Role.ASSISTANT),)


def test_images_come_as_data_or_by_address():
    parts = [
        {"type": "image_url", "image_url": {"url": "data:image/JPEG;base64,QUJD", "detail": "low"}},
        {"type": "image_url", "image_url": "https://example.test/a.png"},
    ]
    assert said({"role": "user", "content": parts})[0].parts == (
        Image(data="QUJD", media_type="image/jpeg", detail="low"),
        Image(url="https://example.test/a.png"),
    )


def test_a_file_is_a_document_and_an_uploaded_one_is_lost():
    file = {"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,QUJD"}}
    assert said({"role": "user", "content": [file]})[0].parts == (
        Document(name="a.pdf", data="QUJD", media_type="application/pdf"),
    )
    uploaded = {"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}
    assert read(messages=[uploaded])[1] == (Loss(what="file_id", meaning_changed=True),)


def test_several_calls_in_one_turn_and_their_results():
    calls = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":1}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "not json"}},
    ]
    turn, *results = said(
        {"role": "assistant", "content": None, "tool_calls": calls},
        {"role": "tool", "tool_call_id": "b", "content": "second"},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "text", "text": "first"}]},
    )
    assert turn.parts == (
        ToolCall(id="a", name="f", arguments='{"x":1}'),
        ToolCall(id="b", name="g", arguments="not json"),
    )
    assert [m.parts[0] for m in results] == [
        ToolResult(call_id="b", parts=(Text(text="second"),)),
        ToolResult(call_id="a", parts=(Text(text="first"),)),
    ]


def test_calls_without_ids_are_answered_in_their_order():
    calls = [{"type": "function", "function": {"name": name, "arguments": {"n": 1}}} for name in "fg"]
    turn, first, second = said(
        {"role": "assistant", "tool_calls": calls}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}
    )
    assert [call.id for call in turn.parts] == [first.parts[0].call_id, second.parts[0].call_id]
    assert len({call.id for call in turn.parts}) == 2
    assert json.loads(turn.parts[0].arguments) == {"n": 1}


@pytest.mark.parametrize("field", ["reasoning_content", "reasoning"])
def test_thinking_is_read_under_both_names(field):
    assert said({"role": "assistant", field: "hm", "content": "yes"})[0].parts == (Reasoning(text="hm"), Text(text="yes"))


def test_a_cache_marker_is_kept():
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    assert said({"role": "user", "content": [part]})[0].parts == (Text(text="x", cache="5m"),)


# ---- reading the rest


@pytest.mark.parametrize(
    ("given", "read_as"),
    [
        ("auto", ToolChoice(mode=ToolMode.AUTO)),
        ("none", ToolChoice(mode=ToolMode.NONE)),
        ("required", ToolChoice(mode=ToolMode.REQUIRED)),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode=ToolMode.NAMED, name="f")),
    ],
)
def test_tool_choices(given, read_as):
    assert read(tool_choice=given)[0].tool_choice == read_as


def test_the_newer_name_of_the_bound_wins():
    assert read(max_tokens=5, max_completion_tokens=7)[0].max_output_tokens == 7
    assert read(max_tokens=5)[0].max_output_tokens == 5


def test_a_schema_beside_json_object_is_a_schema():
    assert read(response_format={"type": "json_object", "schema": {"type": "array"}})[0].response_format == ResponseFormat(
        kind=Format.JSON_SCHEMA, schema={"type": "array"}
    )


def test_fields_without_a_place_are_losses_by_name_only():
    losses = read(logit_bias={"1": 2}, store=True, **{"X-Evil: 1\r\n": 1}, metadata={}, logprobs=False, service_tier=None)[1]
    assert [loss.what for loss in losses] == ["logit_bias", "store", "unknown_field"]
    assert not any(loss.meaning_changed for loss in losses)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"modalities": ["text", "audio"]}, "audio"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, "custom_tool"),
        ({"tools": [{"type": "web_search"}]}, "tool_type"),
        ({"tool_choice": {"type": "allowed_tools", "allowed_tools": {}}}, "tool_choice"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]}, "input_audio"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "content_part"),
    ],
)
def test_what_changes_the_meaning_says_so(body, what):
    assert read(**body)[1] == (Loss(what=what, meaning_changed=True),)


def test_only_text_is_no_loss():
    assert read(modalities=["text"])[1] == ()


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"messages": "hi"}, "messages"),
        ({"messages": ["hi"]}, "messages[0]"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["x"]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].image_url.url"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]}, "messages[0].tool_calls[0].function.name"),
        ({"tools": {}}, "tools"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"tool_choice": "maybe"}, "tool_choice"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_k": 1.5}, "top_k"),
        ({"stop": [1]}, "stop"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"reasoning_effort": 3}, "reasoning_effort"),
    ],
)
def test_what_is_malformed_is_a_400_with_its_place(body, param):
    with pytest.raises(Problem) as caught:
        read(**body)
    assert (caught.value.status, caught.value.param) == (400, param)
    assert param.split("[")[0].split(".")[0] in caught.value.message


@pytest.mark.parametrize("body", [b"[]", b"{", b"[" * 100_000])
def test_what_is_no_object_is_a_400(body):
    with pytest.raises(Problem) as caught:
        OpenAI().read_request(CHATS, Payload(body))
    assert caught.value.status == 400


# ---- writing


def test_the_system_text_in_several_blocks_is_one_message():
    parts = (Text(text="a", cache="5m"), Text(text="b"))
    written, losses = messages(Message(role=Role.SYSTEM, parts=parts), Message(role=Role.SYSTEM, parts=(Text(text="c"),)), HELLO)
    assert written == [{"role": "system", "content": "a\n\nb\n\nc"}, {"role": "user", "content": "hello"}]
    assert losses == ["cache_control"]


def test_a_system_message_further_down_is_the_users_at_home_and_stays_in_the_cloud():
    note = Message(role=Role.SYSTEM, parts=(Text(text="be brief"),))
    at_home, lost = messages(HELLO, note, target=HOME)
    assert at_home == [{"role": "user", "content": "hello\n\n<system-reminder>\nbe brief\n</system-reminder>"}]
    assert lost == ["system_role"]
    in_cloud, lost = messages(HELLO, note, target=CLOUD)
    assert in_cloud == [{"role": "user", "content": "hello"}, {"role": "system", "content": "be brief"}]
    assert lost == []


def test_a_picture_in_a_tool_result_follows_as_the_users():
    results = Message(
        role=Role.TOOL,
        parts=(
            ToolResult(call_id="a", parts=(Text(text="seen"), Image(data="QUJD", media_type="image/png"))),
            ToolResult(call_id="b", parts=(Text(text="plain"),)),
        ),
    )
    calls = Message(role=Role.ASSISTANT, parts=(ToolCall(id="a", name="f"), ToolCall(id="b", name="g", arguments="{}")))
    written, losses = messages(HELLO, calls, results)
    assert [m["role"] for m in written] == ["user", "assistant", "tool", "tool", "user"]
    assert written[1]["content"] == ""
    assert [c["function"]["arguments"] for c in written[1]["tool_calls"]] == ["{}", "{}"]
    assert [m["content"] for m in written[2:4]] == ["seen", "plain"]
    assert "a" in written[4]["content"][0]["text"]
    assert written[4]["content"][1] == {"type": "image_url", "image_url": {"url": "data:image/png;base64,QUJD"}}
    assert losses == []


def test_that_a_tool_failed_is_said_in_words():
    failed = (ToolResult(call_id="a", is_error=True), ToolResult(call_id="b", parts=(Text(text="no such city"),), is_error=True))
    written, losses = messages(HELLO, Message(role=Role.TOOL, parts=failed))
    assert written[1] == {"role": "tool", "tool_call_id": "a", "content": "The tool failed."}
    assert written[2] == {"role": "tool", "tool_call_id": "b", "content": "The tool failed: no such city"}
    assert losses == ["is_error"]


def test_thinking_words_and_calls_have_one_order():
    words, thought, call = Text(text="words"), Reasoning(text="hm"), ToolCall(id="a", name="f")
    assert messages(HELLO, Message(role=Role.ASSISTANT, parts=(thought, words, call)))[1] == []
    assert messages(HELLO, Message(role=Role.ASSISTANT, parts=(call, words)))[1] == ["order"]
    assert messages(HELLO, Message(role=Role.ASSISTANT, parts=(words, thought)))[1] == ["order"]


def test_thinking_goes_home_and_not_to_the_cloud():
    parts = (Reasoning(text="hm", signature="s"), Reasoning(redacted="r"), Text(text="yes"))
    turn = Message(role=Role.ASSISTANT, parts=parts)
    at_home, lost = messages(HELLO, turn, target=HOME)
    assert at_home[1] == {"role": "assistant", "content": "yes", "reasoning_content": "hm"}
    assert lost == ["signature", "redacted_thinking"]
    in_cloud, lost = messages(HELLO, turn, target=CLOUD)
    assert in_cloud[1] == {"role": "assistant", "content": "yes"}
    assert lost == ["signature", "redacted_thinking", "thinking"]


def test_documents():
    written, losses = messages(
        Message(role=Role.USER, parts=(Document(name="n", text="words"), Document(data="QUJD", media_type="application/pdf")))
    )
    assert written[0]["content"] == [
        {"type": "text", "text": "n\n\nwords"},
        {"type": "file", "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,QUJD"}},
    ]
    assert losses == []
    body, lost = write(Conversation(model="m", messages=(Message(role=Role.USER, parts=(Document(url="https://x.test"),)),)))
    assert lost == (Loss(what="document_url", meaning_changed=True),)
    assert body["messages"] == [{"role": "user", "content": ""}]


def test_a_picture_by_its_address_is_refused_where_none_are_taken():
    blind = replace(HOME, image_urls=False)
    elsewhere, here = (
        Conversation(model="m", messages=(Message(role=Role.USER, parts=(image,)),))
        for image in (Image(url="https://x.test/a.png"), Image(data="QUJD"))
    )
    assert write(elsewhere, blind)[1] == (Loss(what="image_url", meaning_changed=True),)
    assert write(here, blind)[1] == write(elsewhere)[1] == ()


def test_a_picture_in_the_system_text_is_refused():
    picture = Message(role=Role.SYSTEM, parts=(Image(url="https://x.test/a.png"),))
    assert write(Conversation(model="m", messages=(picture, HELLO)))[1] == (Loss(what="image", meaning_changed=True),)


def test_bounds_have_the_name_that_the_server_knows():
    asked = Conversation(model="m", max_output_tokens=100, top_k=5, stop=tuple("abcde"))
    at_home, lost = write(asked, HOME)
    assert (at_home["max_tokens"], at_home["top_k"], at_home["stop"], lost) == (100, 5, list("abcde"), ())
    in_cloud, lost = write(asked, CLOUD)
    assert in_cloud["max_completion_tokens"] == 100
    assert "max_tokens" not in in_cloud
    assert "top_k" not in in_cloud
    assert lost == (Loss(what="top_k"),)


def test_no_more_is_asked_for_than_there_is_room():
    asked = Conversation(model="m", max_output_tokens=128_000)
    body, losses = write(asked, replace(HOME, room=4000))
    assert (body["max_tokens"], losses) == (4000, (Loss(what="max_tokens"),))
    assert write(asked, replace(HOME, room=128_000))[1] == ()
    assert write(asked, replace(CLOUD, max_output_tokens=16_384))[0]["max_completion_tokens"] == 16_384
    assert "max_tokens" not in write(Conversation(model="m"), replace(HOME, room=4000))[0]


def test_a_stream_is_always_asked_for_its_usage_where_the_server_takes_that():
    asked = Conversation(model="m", stream=True)
    assert write(asked)[0]["stream_options"] == {"include_usage": True}
    assert "stream_options" not in write(asked, replace(HOME, takes_usage=False))[0]
    assert "stream" not in write(Conversation(model="m"))[0]


@pytest.mark.parametrize(
    ("thinking", "thinks", "effort", "lost"),
    [
        (Thinking(enabled=True, budget_tokens=1024), True, "low", ["thinking_budget"]),
        (Thinking(enabled=True, budget_tokens=8000), True, "medium", ["thinking_budget"]),
        (Thinking(enabled=True, budget_tokens=32_000), True, "high", ["thinking_budget"]),
        (Thinking(enabled=None, effort="medium"), True, "medium", []),
        (Thinking(enabled=True, effort="high"), None, None, ["thinking_budget"]),
        (Thinking(enabled=True, effort="high"), False, None, ["thinking_budget"]),
        (Thinking(enabled=False), None, None, ["thinking_budget"]),
        (Thinking(enabled=False), False, None, []),
        (Thinking(), False, None, []),
        (Thinking(enabled=False), True, "none", []),
        (Thinking(enabled=True, effort="minimal"), True, "low", ["thinking_budget"]),
        (Thinking(enabled=True, effort="xhigh"), True, "high", ["thinking_budget"]),
        (Thinking(enabled=True, effort="utmost"), True, None, ["thinking_budget"]),
        (None, True, None, []),
    ],
)
def test_effort_is_only_asked_of_a_model_that_reasons(thinking, thinks, effort, lost):
    body, losses = write(Conversation(model="m", thinking=thinking), replace(HOME, thinks=thinks))
    assert (body.get("reasoning_effort"), [loss.what for loss in losses]) == (effort, lost)


def test_a_cloud_that_may_not_be_told_to_stop_thinking_is_told_to_think_little():
    body, losses = write(Conversation(model="m", thinking=Thinking(enabled=False)), replace(CLOUD, thinks=True))
    assert (body["reasoning_effort"], losses) == ("low", (Loss(what="thinking_budget"),))


def test_a_choice_of_tools_is_not_sent_without_tools():
    asked = Conversation(model="m", tool_choice=ToolChoice(mode=ToolMode.AUTO), parallel_tools=False)
    assert {"tools", "tool_choice", "parallel_tool_calls"}.isdisjoint(write(asked)[0])
    assert write(asked)[1] == ()
    for must in (ToolChoice(mode=ToolMode.REQUIRED), ToolChoice(mode=ToolMode.NAMED, name="f")):
        assert write(replace(asked, tool_choice=must))[1] == (Loss(what="tool_choice"),)
    tool = write(replace(asked, tools=(Tool(name="f", cache="1h"),)))
    assert tool[0]["tools"][0]["function"] == {"name": "f", "parameters": {"type": "object", "properties": {}}}
    assert (tool[0]["tool_choice"], tool[0]["parallel_tool_calls"]) == ("auto", False)
    assert tool[1] == (Loss(what="cache_control"),)


def test_several_answers_cannot_be_carried():
    assert write(Conversation(model="m", n=2))[1] == (Loss(what="n", meaning_changed=True),)
