"""What a server of the client's own dialect does not take: system messages below the top, thinking of another model.  It passes as it is
until the server says so, and then goes once more without; what a kind is known to refuse is not sent to it at all."""

from __future__ import annotations

import json

import pytest
from nexus_anthropic.dialect import Anthropic

from nexus.api import Accepts
from nexus.dialects.mending import learnt
from nexus.dialects.openai import OpenAI
from nexus.testing import Respond, anthropic_problem, anthropic_server, openai_server

from .asking import CHAT, a_backend, fleet, settled

TOP, NONE, SIGNED = Accepts(late_system=False), Accepts(thinking="none"), Accepts(thinking="signed")
STRICT = (
    "Unable to generate parser for this template. Automatic parser generation failed: \n------------\nWhile executing CallExpression at "
    "line 11, column 72 in source:\n... and not loop.first %}{{ raise_exception('System message must be at the beginning.') }}"
)
HI, OK, GO = {"role": "user", "content": "hi"}, {"role": "assistant", "content": "ok"}, {"role": "user", "content": "go"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": ""}}],
}
GAVE = {"role": "tool", "tool_call_id": "1", "content": "7"}


def sys(content, role="system"):
    return {"role": role, "content": content}


def note(words):
    return f"<system-reminder>\n{words}\n</system-reminder>"


def mended(dialect, accepts, messages, **fields):
    body = json.dumps({"model": "m", "messages": messages, "odd": {"a": [1]}, **fields}).encode()
    made, lost = dialect.mended(dialect.endpoints[0], body, accepts)
    if made is body:
        assert lost == ()
        return None
    said = json.loads(made)
    assert said["odd"] == {"a": [1]}
    return said, [loss.what for loss in lost]


# ---------------------------------------------------------------- what is learnt


@pytest.mark.parametrize(
    ("said", "learns"),
    [
        (STRICT, "late_system"),
        ("Conversation roles must alternate user/assistant/user/assistant/...", "late_system"),
        ("System role not supported", "late_system"),
        ("Unexpected message role.", "late_system"),
        ("messages.1.content.0: Invalid `signature` in `thinking` block", "thinking"),
        ("Additional properties are not allowed ('reasoning_content' was unexpected)", "thinking"),
        ("prompt is too long: 9 tokens > 8 maximum", None),
        ("the model 'thinking' is overloaded", None),
        ("", None),
    ],
)
def test_what_a_rejection_teaches(said, learns):
    before = Accepts()
    after = learnt(said, before)
    assert (after is before) is (learns is None)
    assert (after.late_system, after.thinking) == (
        False if learns == "late_system" else None,
        "none" if learns == "thinking" else "any",
    )
    assert learnt(said, after) is after


# ---------------------------------------------------------------- system messages


@pytest.mark.parametrize(
    ("messages", "written"),
    [
        ([sys("a"), HI, OK], None),
        ([HI], None),
        ([sys("a", "developer"), HI], None),
        ([sys("a"), sys("b", "developer"), HI], [sys("a\n\nb"), HI]),
        ([HI, sys("a")], [{"role": "user", "content": "hi\n\n" + note("a")}]),
        ([HI, OK, sys("a"), GO], [HI, OK, {"role": "user", "content": note("a") + "\n\ngo"}]),
        ([HI, CALL, GAVE, sys("a"), OK], [HI, CALL, GAVE, {"role": "user", "content": note("a")}, OK]),
        ([HI, sys(""), OK], [HI, OK]),
        (
            [sys([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}]), sys("b"), HI],
            [sys([{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": "b"}]), HI],
        ),
        (
            [HI, sys([{"type": "text", "text": "a"}])],
            [{"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "text", "text": note("a")}]}],
        ),
    ],
)
def test_one_system_message_is_left_on_top_in_openais_form(messages, written):
    made = mended(OpenAI(), TOP, messages)
    assert made == (None if written is None else ({"model": "m", "odd": {"a": [1]}, "messages": written}, ["system_role"]))
    assert mended(OpenAI(), Accepts(), messages) is None


def block(words, **more):
    return {"type": "text", "text": words, **more}


RESULT = {"type": "tool_result", "tool_use_id": "1", "content": "7"}
USE = {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {}}]}


@pytest.mark.parametrize(
    ("fields", "messages", "written", "system"),
    [
        ({"system": "a"}, [HI], None, None),
        ({"system": "a"}, [HI, sys("b")], [{"role": "user", "content": [block("hi"), block(note("b"))]}], "a"),
        ({"system": "a"}, [sys("b"), HI], [HI], [block("a"), block("b")]),
        ({}, [sys("b"), sys([block("c")]), HI], [HI], [block("b"), block("c")]),
        (
            {},
            [HI, sys([block("b", cache_control={"type": "ephemeral"})])],
            [{"role": "user", "content": [block("hi"), block(note("b"), cache_control={"type": "ephemeral"})]}],
            None,
        ),
        (
            {},
            [HI, USE, sys("b"), {"role": "user", "content": [RESULT, block("go")]}],
            [HI, USE, {"role": "user", "content": [RESULT, block(note("b")), block("go")]}],
            None,
        ),
    ],
)
def test_no_system_message_is_left_among_the_turns_in_anthropics_form(fields, messages, written, system):
    made = mended(Anthropic(), TOP, messages, **fields)
    if written is None:
        assert made is None
    else:
        assert (made[0]["messages"], made[0].get("system"), made[1]) == (written, system, ["system_role"])
    assert mended(Anthropic(), Accepts(), messages, **fields) is None


# ---------------------------------------------------------------- thinking


def turn(*blocks):
    return {"role": "assistant", "content": list(blocks)}


THOUGHT, UNSIGNED, BARE = (
    {"type": "thinking", "thinking": "hm", **more} for more in ({"signature": "c2ln"}, {"signature": ""}, {})
)
HIDDEN, USED = {"type": "redacted_thinking", "data": "QUE="}, USE["content"][0]
RESULTS = {"role": "user", "content": [RESULT]}


@pytest.mark.parametrize(
    ("accepts", "given", "kept"),
    [
        (SIGNED, turn(THOUGHT, HIDDEN, block("x")), None),
        (SIGNED, turn(UNSIGNED, BARE, THOUGHT, block("x")), turn(THOUGHT, block("x"))),
        (SIGNED, turn({"type": "redacted_thinking", "data": ""}, block("x")), turn(block("x"))),
        (SIGNED, turn(UNSIGNED), ...),
        (NONE, turn(THOUGHT, HIDDEN, block("x")), turn(block("x"))),
        (NONE, OK, None),
    ],
)
def test_thinking_that_is_not_taken_back_goes(accepts, given, kept):
    made = mended(Anthropic(), accepts, [HI, given, GO], thinking={"type": "enabled", "budget_tokens": 2000})
    if kept is None:
        assert made is None
    else:
        assert made[0]["messages"] == ([HI, GO] if kept is ... else [HI, kept, GO])
        assert (made[0]["thinking"], made[1]) == ({"type": "enabled", "budget_tokens": 2000}, ["thinking"])


def test_a_turn_of_calls_that_lost_its_thinking_goes_on_without():
    edits = [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]
    fields = {"thinking": {"type": "enabled", "budget_tokens": 2000}, "context_management": {"edits": edits}}
    made, lost = mended(Anthropic(), SIGNED, [HI, turn(UNSIGNED, USED), RESULTS], **fields)
    assert ("thinking" in made, made["context_management"], lost) == (False, {"edits": edits[1:]}, ["thinking"])
    made, _ = mended(Anthropic(), SIGNED, [HI, turn(UNSIGNED), HI, turn(THOUGHT, USED), RESULTS], **fields)
    assert made["thinking"] == fields["thinking"]
    made, _ = mended(Anthropic(), SIGNED, [HI, turn(UNSIGNED, USED), RESULTS], thinking={"type": "adaptive"})
    assert made["thinking"] == {"type": "adaptive"}


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning", "reasoning_details"])
def test_openais_cloud_gets_no_thinking_back(name):
    said = {**OK, name: [{"type": "reasoning.text", "text": "hm"}] if name == "reasoning_details" else "hm"}
    assert mended(OpenAI(), NONE, [HI, said, GO])[0]["messages"] == [HI, OK, GO]
    parts = {"role": "assistant", "content": [{"type": "thinking", "thinking": []}], "tool_calls": CALL["tool_calls"]}
    assert mended(OpenAI(), NONE, [HI, parts, GAVE])[0]["messages"] == [HI, CALL, GAVE]
    assert mended(OpenAI(), NONE, [{**HI, "content": 'a "reasoning_content" of words'}, OK]) is None


@pytest.mark.parametrize("dialect", [OpenAI(), Anthropic()])
@pytest.mark.parametrize("messages", [7, [7], [{"role": "system"}, {"role": "system"}], [{"role": ["system"]}, {"role": {}}]])
def test_what_is_no_conversation_is_left_to_the_server(dialect, messages):
    accepts = Accepts(late_system=False, thinking="none")
    noise = '"role":"system" "system" "type":"thinking" "reasoning_content"'
    mended(dialect, accepts, messages, noise=noise)
    deep = b'{"messages":' + b"[" * 5000 + b'"role":"system" "system"'
    assert dialect.mended(dialect.endpoints[0], deep, accepts) == (deep, ())


# ---------------------------------------------------------------- before real connections

PATHS = {"anthropic": "/v1/messages", "openai": CHAT}


async def post(gateway, client, body):
    async with gateway.client.post(PATHS[client], json={"max_tokens": 50, **body}) as answer:
        return (
            answer.status,
            answer.headers.get("X-Nexus-Translation-Loss"),
            answer.headers["X-Nexus-Attempts"],
            await answer.text(),
        )


def bodies(server, client):
    return [json.loads(r.body) for r in server.requests if r.path == PATHS[client]]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.parametrize("client", ["anthropic", "openai"])
async def test_a_late_system_message_passes_until_it_is_refused_and_goes_once_more_folded(nexus_gateway, client, status, stream):
    made = anthropic_server(["tiny"]) if client == "anthropic" else openai_server(["tiny"])
    async with made as server:
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("a", server, client if client == "anthropic" else "openai-compatible")))
        )
        body = {"model": "tiny", "messages": [HI, OK, sys("note"), GO], "stream": stream}
        assert (await post(gateway, client, body))[:3] == (200, None, "1")
        assert bodies(server, client)[0]["messages"] == body["messages"], "who takes it gets it as it is"
        refusal = (
            anthropic_problem(status, "api_error", STRICT)
            if client == "anthropic"
            else Respond(status=status, json={"error": STRICT})
        )
        server.next(refusal, path=PATHS[client])
        answered, lost, attempts, text = await post(gateway, client, body)
        assert (answered, lost, attempts) == (200, "system_role", "1"), text
        first, second = bodies(server, client)[1:]
        assert first["messages"] == body["messages"]
        assert [m["role"] for m in second["messages"]] == ["user", "assistant", "user"]
        for _ in range(2):
            server.next(refusal, path=PATHS[client])
        assert (await post(gateway, client, body))[0] in (400, 502), "once is enough"
        assert len(bodies(server, client)) == 5
        server.next(refusal, path=PATHS[client])
        plain = await post(gateway, client, {"model": "tiny", "messages": [HI]})
        assert plain[0] in (400, 502)
        assert len(bodies(server, client)) == 6, "what holds no such message is not sent again"


@pytest.mark.parametrize("stream", [False, True])
async def test_thinking_begun_at_home_does_not_follow_to_the_cloud(nexus_gateway, stream):
    async with anthropic_server(["claude-tiny"]) as cloud:
        gateway = await settled(await nexus_gateway(fleet(a_backend("cloud", cloud, "anthropic"))))
        body = {"model": "claude-tiny", "messages": [HI, turn(UNSIGNED, block("x")), GO], "stream": stream}
        assert (await post(gateway, "anthropic", body))[:2] == (200, "thinking")
        assert bodies(cloud, "anthropic")[-1]["messages"][1] == turn(block("x"))
        signed = {**body, "messages": [HI, turn(THOUGHT, block("x")), GO]}
        assert (await post(gateway, "anthropic", signed))[:2] == (200, None)
        assert bodies(cloud, "anthropic")[-1]["messages"] == signed["messages"]
        cloud.next(
            anthropic_problem(400, "invalid_request_error", "messages.1.content.0: Invalid `signature` in `thinking` block"),
            path=PATHS["anthropic"],
        )
        assert (await post(gateway, "anthropic", signed))[:2] == (200, "thinking"), "signed by somebody else"
        assert bodies(cloud, "anthropic")[-1]["messages"][1] == turn(block("x"))
