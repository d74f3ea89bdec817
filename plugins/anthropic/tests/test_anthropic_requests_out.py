"""The canonical form written as a message request: its messages, and how long the answer may be."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from nexus_anthropic.blocks_out import FIRST
from nexus_anthropic.dialect import Anthropic

from nexus.api import replace
from nexus.dialects.canonical import (
    Conversation,
    Document,
    Image,
    Message,
    Reasoning,
    Role,
    Target,
    Text,
    ToolCall,
    ToolResult,
)

from .writing_requests import HOME, MESSAGES, NEW, OLD, model, results, text, user, write


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
    assert write(elsewhere, target=replace(HOME, image_urls=False))[2] == ["image_url"]
    assert write(here, target=replace(HOME, image_urls=False))[2] == write(elsewhere, target=HOME)[2] == []


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
