"""Ids of a translated reply: its own is unlike any other, and each of its calls has one that its conversation does not know yet."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.dialects.calls import Calls, ids_in
from nexus.dialects.canonical import Conversation, Message, Role, Text, ToolCall, ToolCallStart, ToolResult
from nexus.testing import Respond, Stream

from .survivors import ANTHROPIC, NAMED, TABLES, ask, between, played, survivor

ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
KNOWN = "call_A1"  # in the conversation of "tool results"


def id_of(body: bytes) -> str:
    """The id of a reply, whole or streamed."""
    head = body if body.startswith(b"{") else next(line[6:] for line in body.splitlines() if line.startswith(b"data: "))
    said = json.loads(head)
    return said["message"]["id"] if "message" in said else said["id"]


@between
@ways
async def test_no_two_replies_have_one_id_though_the_server_repeats_its_own(client, server, stream, tmp_path):
    async with survivor(server, tmp_path) as at:
        act = played(server, "plain", stream=stream)
        ids = [id_of((await ask(at, client, act, stream=stream)).body) for _ in range(3)]
        assert len(set(ids)) == 3
        assert all(id.startswith("msg_" if client is ANTHROPIC else "chatcmpl-") for id in ids)
        assert not {"chatcmpl-golden", "msg_golden"} & set(ids)


@between
async def test_not_even_where_the_client_repeats_the_id_of_its_request(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        at.upstream.default = played(server, "plain", stream=False)
        ids = set()
        for _ in range(2):
            headers = {**client.headers, "Content-Type": "application/json", "X-Request-Id": "mine"}
            body = client.bytes_of(client.simplest, stream=False)
            async with at.gateway.client.post(client.path, data=body, headers=headers) as got:
                ids.add(id_of(await got.read()))
        assert len(ids) == 2


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
@ways
async def test_within_one_dialect_the_servers_id_passes(table, stream, tmp_path):
    async with survivor(table, tmp_path) as at:
        heard = await ask(at, table, played(table, "plain", stream=stream), stream=stream)
        assert id_of(heard.body) in ("chatcmpl-golden", "msg_golden")


# ---------------------------------------------------------------- tool calls


def called(server, ids, *, stream):
    """The server's answer with two calls, under these ids."""
    exchange = server.exchange(NAMED["parallel tools"])
    whole = json.dumps(exchange.reply, separators=(",", ":"), ensure_ascii=False).encode()
    frames = list(exchange.frames) if stream else [whole]
    for old, new in zip((b"call_W1", b"call_T2"), ids, strict=True):
        frames = [frame.replace(b'"%b"' % old, json.dumps(new).encode()) for frame in frames]
    return Stream(frames, done=False) if stream else Respond(body=frames[0], headers={"Content-Type": "application/json"})


async def calls_of(at, client, act, *, stream):
    heard = await ask(at, client, act, stream=stream, request=client.exchange(NAMED["tool results"]).request)
    assert heard.status == 200, heard.body
    answer = client.streamed(heard.body) if stream else client.whole(heard.body)
    return [part for part in answer.parts if isinstance(part, ToolCall)]


@between
@ways
@pytest.mark.parametrize("ids", [(KNOWN, "call_B2"), (KNOWN, KNOWN), ("new", "new"), ("0", "0"), (0, 0), (None, None), ("", "")])
async def test_no_two_calls_of_a_conversation_have_one_id(client, server, stream, ids, tmp_path):
    async with survivor(server, tmp_path) as at:
        calls = await calls_of(at, client, called(server, ids, stream=stream), stream=stream)
        assert [call.name for call in calls] == ["get_weather", "get_time"]
        assert len({KNOWN, "call_B2", *(call.id for call in calls)}) == 4
        assert all(isinstance(call.id, str) and call.id for call in calls)


@between
@ways
async def test_an_id_that_is_unique_is_the_servers_own(client, server, stream, tmp_path):
    """Mistral's templates take nothing but nine letters, Kimi's find the tool in the id."""
    ids = ["D681PevKs", "functions.get_time:3"]
    async with survivor(server, tmp_path) as at:
        calls = await calls_of(at, client, called(server, ids, stream=stream), stream=stream)
        assert [call.id for call in calls] == ids


ids = st.sampled_from(["", "a", "b", "call_0"])


@given(st.lists(ids), st.lists(ids))
def test_every_call_has_an_id_of_its_own(known, said):
    calls = Calls(known)
    seen = [calls.seen(ToolCall(id=id, name="f")).id for id in said]
    assert len({*seen, *known} - {""}) == len(seen) + len({*known} - {""})
    assert all(seen)


def test_calls_and_results_are_both_known():
    conversation = Conversation(
        model="m",
        messages=(
            Message(role=Role.ASSISTANT, parts=(Text(text="a"), ToolCall(id="b", name="f"))),
            Message(role=Role.TOOL, parts=(ToolResult(call_id="c"),)),
        ),
    )
    assert ids_in(conversation) == {"b", "c"}


def test_a_tool_that_was_asked_for_under_another_name_gets_its_own_back():
    calls = Calls(names={"short": "a name that was too long"})
    parts = (Text(text="I ask."), ToolCall(id="a", name="short"), ToolCall(id="b", name="other"))
    assert calls.all_seen(parts) == (parts[0], ToolCall(id="a", name="a name that was too long"), parts[2])
    start = ToolCallStart(index=0, id="c", name="short")
    assert calls.seen(start) == ToolCallStart(index=0, id="c", name="a name that was too long")
