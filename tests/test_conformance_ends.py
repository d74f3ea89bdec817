"""How streams end, properly and not: what each client of each server gets, through a real gateway.

An error is an error whatever its shape, the event that ends a stream ends it at once, and whatever else is odd in an event costs
no more than itself.
"""

from __future__ import annotations

import json

import pytest

from nexus.testing import Stream, anthropic_event, sse
from nexus.testing.conformance import sse_events

from .cases import case
from .survivors import ANTHROPIC, NAMED, OPENAI, TABLES, WORDS, ask, between, is_broken, pairs, survivor

tables = pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)


def chunk(delta, **choice):
    return sse({"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None, **choice}]})


def named(data):
    return b"event: error\ndata: " + json.dumps(data).encode() + b"\n\n"


LLAMA = {"code": 500, "message": "out of memory", "type": "server_error"}
ERRORS = {
    "named": (TABLES, named({"message": "out of memory"})),
    "named, with null": (TABLES, named({"type": "error", "error": None, "message": "out of memory"})),
    "named, with words": (TABLES, b"event: error\ndata: out of memory\n\n"),
    "named, CR LF": (TABLES, b'event:error\r\ndata: {"detail": "out of memory"}\r\n\r\n'),
    "an object": ((OPENAI,), sse({"object": "error", "message": "out of memory", "code": 500})),
    "bare": ((OPENAI,), sse(LLAMA)),
    "bare, with a word for a code": ((OPENAI,), sse({"message": "out of memory", "code": "InternalError"})),
    "beside a choice": (
        (OPENAI,),
        sse({"error": {"message": "out of memory"}, "choices": [{"index": 0, "delta": {}, "finish_reason": "error"}]}),
    ),
    "a line of its own": ((OPENAI,), b"error: " + json.dumps(LLAMA, indent=1).encode().replace(b"\n", b" ") + b"\n\n"),
    "without a sentence": ((ANTHROPIC,), anthropic_event("error")),
    "without a name": ((ANTHROPIC,), sse({"type": "error"})),
    "OpenAI's shape": ((ANTHROPIC,), sse({"error": {"message": "out of memory", "code": 500}})),
}


def errors_of(server):
    return [(name, event) for name, (servers, event) in ERRORS.items() if server in servers]


@pairs
async def test_an_error_of_whatever_shape_is_the_end_in_mid_stream(client, server, tmp_path):
    """What comes after it is passed on to nobody, however proper."""
    async with survivor(server, tmp_path) as at:
        begun, late = server.begun(WORDS), server.exchange(NAMED["plain"]).frames[-3:]
        for name, event in errors_of(server):
            with case(name):
                heard = await ask(at, client, Stream([*begun, event, *late], done=False))
                if client is server:
                    assert (heard.status, heard.body) == (200, b"".join([*begun, event]))
                else:
                    is_broken(client, heard)
                    assert b"out of memory" in heard.body or b"ended the stream with an error" in heard.body
                assert await outcome(at, heard) == ("broken", "error_event")


@pairs
async def test_an_error_of_whatever_shape_is_a_failed_attempt_as_the_first_event(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        late = server.exchange(NAMED["plain"]).frames[-3:]
        for name, event in errors_of(server):
            with case(name):
                heard = await ask(at, client, Stream([event, *late], done=False))
                assert heard.status == 502
                said = client.error(502, heard.body)
                assert "out of memory" in said or "ended the stream with an error" in said


async def outcome(at, heard):
    """How the gateway remembers the request, and why."""
    await at.outcome(heard)  # it is remembered by now
    async with at.gateway.client.get(f"/nexus/requests/{heard.id}") as answer:
        told = await answer.json()
    return told["outcome"], told["code"]


# ---------------------------------------------------------------- silence


@pairs
async def test_silence_after_an_error_is_nobodys_to_wait_for(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, Stream([*server.begun(WORDS), server.error_event("out of memory")], done=False, end="hang"))
        is_broken(client, heard, "out of memory")
        assert heard.body.count(b"out of memory") == 1
        await at.upstream.until(lambda: at.upstream.disconnected == 1)


@pairs
async def test_silence_after_the_last_event_is_nobodys_to_wait_for(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, Stream(server.exchange(NAMED["plain"]).frames, done=False, end="hang"))
        assert client.streamed(heard.body) == client.sayable(server.sayable(NAMED["plain"].said))
        await at.upstream.until(lambda: at.upstream.disconnected == 1)
        assert await at.outcome(heard) == "ok"


@pairs
async def test_a_body_that_ends_leaves_its_connection_for_the_next(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        for _ in range(3):
            before = at.upstream.connections
            heard = await ask(at, client, Stream(server.exchange(NAMED["plain"]).frames, done=False))
            assert client.streamed(heard.body)
        assert at.upstream.connections == before
        assert at.upstream.disconnected == 0


@tables
async def test_what_comes_after_the_last_event_is_passed_on_to_nobody(table, tmp_path):
    async with survivor(table, tmp_path) as at:
        frames = table.exchange(NAMED["plain"]).frames
        heard = await ask(at, table, Stream([*frames, *table.begun("More."), b"data: more\n\n"], done=False))
        assert heard.body == b"".join(frames)


@tables
async def test_a_stream_of_nothing_but_its_last_event_is_a_failed_attempt_for_others(table, tmp_path):
    client = ANTHROPIC if table is OPENAI else OPENAI
    async with survivor(table, tmp_path) as at:
        act = Stream([table.exchange(NAMED["plain"]).frames[-1]], done=False, end="hang")
        heard = await ask(at, client, act)
        assert heard.status == (502 if table is OPENAI else 200)  # message_stop begins and ends a message, [DONE] says nothing


async def test_usage_comes_after_the_finish_and_before_the_last_event(tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        *_, finish, usage, done = OPENAI.exchange(NAMED["plain"]).frames
        gap = [b": still here\n\n"] * 3
        for client in TABLES:
            frames = [*OPENAI.begun(WORDS), finish, *gap, usage, *gap, done]
            heard = await ask(at, client, Stream(frames, done=False))
            assert client.streamed(heard.body).usage.output_tokens == NAMED["plain"].said.usage.output_tokens


@pytest.mark.parametrize("client", TABLES, ids=lambda table: table.dialect)
async def test_a_server_that_never_says_done_ends_with_its_body(client, tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        frames = OPENAI.exchange(NAMED["plain"]).frames[:-1]
        heard = await ask(at, client, Stream(frames, done=False))
        if client is OPENAI:
            assert heard.body == b"".join(frames)
        else:
            assert client.streamed(heard.body) == OPENAI.sayable(NAMED["plain"].said)
        assert await at.outcome(heard) == "ok"


@pairs
async def test_words_that_quote_the_last_event_end_nothing(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        words = 'data: [DONE] {"type":"message_stop"} "error": event: error'
        heard = await ask(at, client, Stream(server.begun(words), done=False))
        text, _ = client.broken(heard.body)
        assert text == words


# ---------------------------------------------------------------- kinds

KINDS = [
    (ANTHROPIC, "overloaded_error", OPENAI, "service_unavailable"),
    (ANTHROPIC, "rate_limit_error", OPENAI, "rate_limit_error"),
    (ANTHROPIC, "invalid_request_error", OPENAI, "invalid_request_error"),
    (ANTHROPIC, "authentication_error", OPENAI, "authentication_error"),
    (ANTHROPIC, "permission_error", OPENAI, "permission_error"),
    (ANTHROPIC, "timeout_error", OPENAI, "timeout_error"),
    (ANTHROPIC, "api_error", OPENAI, "server_error"),
    (ANTHROPIC, "brand_new_error", OPENAI, "server_error"),
    (OPENAI, "service_unavailable", ANTHROPIC, "overloaded_error"),
    (OPENAI, "unavailable_error", ANTHROPIC, "overloaded_error"),
    (OPENAI, 503, ANTHROPIC, "overloaded_error"),
    (OPENAI, "529", ANTHROPIC, "overloaded_error"),
    (OPENAI, "rate_limit_exceeded", ANTHROPIC, "rate_limit_error"),
    (OPENAI, "insufficient_quota", ANTHROPIC, "rate_limit_error"),
    (OPENAI, 429, ANTHROPIC, "rate_limit_error"),
    (OPENAI, "invalid_request_error", ANTHROPIC, "invalid_request_error"),
    (OPENAI, "context_length_exceeded", ANTHROPIC, "invalid_request_error"),
    (OPENAI, 413, ANTHROPIC, "request_too_large"),
    (OPENAI, 404, ANTHROPIC, "not_found_error"),
    (OPENAI, "server_error", ANTHROPIC, "api_error"),
    (OPENAI, 500, ANTHROPIC, "api_error"),
    (OPENAI, None, ANTHROPIC, "api_error"),
]


@between
async def test_an_error_keeps_its_kind(client, server, tmp_path):
    """A client tries again after one kind and not after another."""
    async with survivor(server, tmp_path) as at:
        for said, told in [(said, told) for whose, said, _, told in KINDS if whose is server]:
            error = {"message": "not now", "type": said if isinstance(said, str) else "some_error", "code": said}
            event = anthropic_event("error", error=error) if server is ANTHROPIC else sse({"error": error})
            with case(said):
                heard = await ask(at, client, Stream([*server.begun(WORDS), event], done=False))
                is_broken(client, heard, "not now")
                last = json.loads(sse_events(heard.body)[-1][1])
                assert last["error"]["type"] == told


# ---------------------------------------------------------------- halves of characters


@between
async def test_halves_of_a_character_in_neighbouring_events_are_one(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, Stream(torn(server, "a\ud83d", "\ude00b", "c\ud83d", "d"), done=False))
        (part,) = client.streamed(heard.body).parts
        assert part.text == "a😀bc\ufffdd"


@tables
async def test_halves_of_a_character_pass_as_they_are_within_a_dialect(table, tmp_path):
    async with survivor(table, tmp_path) as at:
        frames = torn(table, "a\ud83d", "\ude00b")
        assert rb"\ud83d" in b"".join(frames)
        heard = await ask(at, table, Stream(frames, done=False))
        assert heard.body == b"".join(frames)


def torn(server, *pieces):
    """A stream of a text in these pieces, its other events the golden ones."""
    if server is OPENAI:
        first, *_, finish, usage, done = OPENAI.exchange(NAMED["plain"]).frames
        return [first, *(chunk({"content": piece}) for piece in pieces), finish, usage, done]
    frames = ANTHROPIC.exchange(NAMED["plain"]).frames
    deltas = [anthropic_event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}) for piece in pieces]
    return [*frames[:3], *deltas, *frames[-3:]]


# ---------------------------------------------------------------- what nobody knows


STRANGE = {
    OPENAI: [
        chunk({"brand_new": "SECRET"}),
        chunk({"content": [{"type": "brand_new", "text": "SECRET"}]}),
        sse({"type": "brand_new", "message": "SECRET", "progress": 0.5}),
        sse({"type": "brand_new", "delta": {"text": "SECRET"}, "text": "SECRET"}),
    ],
    ANTHROPIC: [
        anthropic_event("content_block_delta", index=0, delta={"type": "brand_new_delta", "text": "SECRET"}),
        anthropic_event("content_block_delta", index=0, delta={"type": "brand_new_delta", "text": 7, "thinking": "SECRET"}),
        anthropic_event("content_block_start", index=7, content_block={"type": "brand_new", "text": "SECRET"}),
        anthropic_event("content_block_delta", index=7, delta={"type": "text_delta", "text": "SECRET"}),
        anthropic_event("content_block_stop", index=7),
        anthropic_event("brand_new", text="SECRET", delta={"type": "text_delta", "text": "SECRET"}),
        anthropic_event("brand_new", index=["SECRET"], error=None),
    ],
}


@between
async def test_what_nobody_knows_is_not_shown_as_the_answer(client, server, tmp_path):
    async with survivor(server, tmp_path) as at:
        frames = server.exchange(NAMED["plain"]).frames
        place = len(frames) - 4  # before the last piece of the text
        frames = [*frames[:place], *STRANGE[server], *frames[place:]]
        heard = await ask(at, client, Stream(frames, done=False))
        assert b"SECRET" not in heard.body
        assert client.streamed(heard.body) == client.sayable(server.sayable(NAMED["plain"].said))


# ---------------------------------------------------------------- calls that are not quite in form


CALLS = {
    "a number for an id": ([{"index": 0, "id": 7, "function": {"name": "get", "arguments": '{"a":1}'}}], ["7"]),
    "a text for a place": (
        [
            {"index": "0", "id": "x", "function": {"name": "get", "arguments": '{"a"'}},
            {"index": "0", "function": {"arguments": ":1}"}},
        ],
        ["x"],
    ),
    "no call among them": ([None, {"index": 0, "id": "x", "function": {"name": "get", "arguments": '{"a":1}'}}, "?"], ["x"]),
    "nothing but no calls": ([None], []),
    "an object for a place": ([{"index": {}, "id": "x", "function": {"name": "get", "arguments": '{"a":1}'}}], ["x"]),
}


async def test_a_call_that_is_not_quite_in_openais_form_costs_no_stream(tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        *_, finish, usage, done = OPENAI.exchange(NAMED["plain"]).frames
        for name, (calls, ids) in CALLS.items():
            with case(name):
                frames = [*OPENAI.begun(WORDS), chunk({"tool_calls": calls}), finish, usage, done]
                text, *called = ANTHROPIC.streamed((await ask(at, ANTHROPIC, Stream(frames, done=False))).body).parts
                assert text.text == WORDS
                assert [(call.id, call.name, json.loads(call.arguments)) for call in called] == [
                    (id, "get", {"a": 1}) for id in ids
                ]


@pytest.mark.parametrize(
    "calls",
    [{"index": 0}, 7, [{"index": 0, "id": "x", "function": {"name": 7}}]],
    ids=["an object for a list", "a number for a list", "a number for a name"],
)
async def test_a_call_that_nobody_could_make_ends_the_stream_as_an_error(calls, tmp_path):
    async with survivor(OPENAI, tmp_path) as at:
        rest = OPENAI.exchange(NAMED["plain"]).frames[-3:]
        heard = await ask(at, ANTHROPIC, Stream([*OPENAI.begun(WORDS), chunk({"tool_calls": calls}), *rest], done=False))
        is_broken(ANTHROPIC, heard, "cannot be read")


async def test_a_call_that_is_not_quite_in_anthropics_form_costs_no_stream(tmp_path):
    async with survivor(ANTHROPIC, tmp_path) as at:
        *begun, ending, stop = ANTHROPIC.exchange(NAMED["tools"]).frames
        odd = [frame.replace(b'"index":1', b'"index":"1"').replace(b'"id":"call_W1"', b'"id":7') for frame in begun]
        assert b"".join(odd).count(b'"id":7') == 1
        heard = await ask(at, OPENAI, Stream([*odd, ending, stop], done=False))
        (call,) = [part for part in OPENAI.streamed(heard.body).parts if hasattr(part, "arguments")]
        assert (call.id, call.name) == ("7", "get_weather")
