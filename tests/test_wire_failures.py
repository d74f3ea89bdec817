"""Failures on the wire: who is asked next, who is left alone, what the client hears, whatever the dialect and the way in."""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import re

import pytest

from nexus.cli.backends import evidence
from nexus.testing import Hang, Respond, Stream, a_body, anthropic_server, openai_server, sse, vllm_server

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD, STREAMED

MESSAGES = "/v1/messages"
EMBEDDINGS = "/v1/embeddings"
EMBED = json.dumps({"model": "tiny", "input": "hello"}).encode()
ASKED = json.dumps({"model": "tiny", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}).encode()
STREAMED_MESSAGE = json.dumps(
    {"model": "tiny", "max_tokens": 9, "stream": True, "messages": [{"role": "user", "content": "hi"}]}
).encode()
NO_MONEY = {
    "error": {
        "message": "You exceeded your current quota",
        "type": "insufficient_quota",
        "param": None,
        "code": "insufficient_quota",
    }
}
POOR = Respond(429, json=NO_MONEY)
FINE = Respond(
    json={"id": "c", "object": "chat.completion", "created": 1, "model": "tiny", "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}
)  # fmt: skip


def standing(house, name="a"):
    return house.gateway.fleet.standings[name]


def ejected(house):
    return any(candidate.ejected_until for candidate in standing(house).candidates())


def wind(house, seconds):
    """Let so much time pass for what is suspended."""
    for each in house.gateway.fleet.standings.values():
        for held in (each, *each.pairs.values()):
            if held.suspension is not None:
                held.suspension.until -= seconds
        each.redraw()


# ---------------------------------------------------------------- the account


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("path", "body"),
    [(CHAT, GOOD), (CHAT, STREAMED), (MESSAGES, ASKED), (MESSAGES, STREAMED_MESSAGE)],
    ids=["chat", "stream", "message", "message stream"],
)
async def test_an_empty_account_is_left_alone_and_tried_again_by_one_request(tmp_path, way, path, body):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b, way=way) as house:
        a.on(CHAT, POOR, method="POST")
        for attempts in ("2", "1", "1"):
            got = await house.post(body, path)
            assert (got.status, got.headers["x-nexus-backend"], got.headers["x-nexus-attempts"]) == (200, "b", attempts)
        assert len(a.calls(CHAT)) == 1
        shown = {each["name"]: each for each in (await house.get("/nexus/backends"))["backends"]}
        assert "no money or quota" in shown["a"]["problem"]
        assert 0 < shown["a"]["suspended_seconds"] <= 60
        assert "no money or quota" in " ".join(evidence([shown["a"]]))
        assert "tried again in" in " ".join(" ".join(evidence([shown["a"]])).split())
        assert shown["b"]["suspended_seconds"] is None
        assert (await house.get("/health"))["status"] == "degraded"
        for tried, seconds in enumerate((60, 120, 240), start=2):
            wind(house, seconds - 1)
            assert (await house.post(body, path)).headers["x-nexus-attempts"] == "1"
            wind(house, 1)
            both = await asyncio.gather(house.post(body, path), house.post(body, path))
            assert [got.status for got in both] == [200, 200]
            assert len(a.calls(CHAT)) == tried, "one request tries, whoever else comes"
        a.on(CHAT, FINE, method="POST")
        wind(house, 480)
        if path == CHAT and body == GOOD:
            assert (await house.post(body, path)).headers["x-nexus-backend"] == "a"
            assert standing(house).problem == ""
            assert (await house.get("/health"))["status"] == "healthy"
        assert not ejected(house)
        assert {e.outcome for e in house.ledger.finished if e.candidate.backend == "a"} <= {"rejected", "ok", "failed"}


async def test_a_suspension_is_half_an_hour_at_most(tmp_path):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.on(CHAT, POOR, method="POST")
        lengths = []
        for _ in range(8):
            await house.post()
            lengths.append(standing(house).suspension.seconds)
            wind(house, 3600)
        assert lengths == [60, 120, 240, 480, 960, 1800, 1800, 1800]


async def test_who_is_alone_is_asked_all_the_same(tmp_path):
    """Nobody else can serve it: the account may have been filled up a second ago."""
    async with tiny() as a, open_house(tmp_path, a) as house:
        a.next(POOR, POOR, path=CHAT)
        for _ in range(2):
            got = await house.post()
            assert (got.status, got.error["code"]) == (502, "all_attempts_failed")
            assert "You exceeded your current quota" in got.error["message"]
        assert standing(house).suspension.seconds == 60, "nobody had been let through: nothing was tried again"
        assert (await house.post()).status == 200
        assert standing(house).suspension is None


async def test_a_fallback_is_better_than_an_empty_account(tmp_path):
    async with openai_server(["big"]) as a, tiny() as b:
        async with open_house(tmp_path, a, b, routing={"fallbacks": {"big": ["tiny"]}}) as house:
            a.on(CHAT, POOR, method="POST")
            for attempts in ("2", "1"):
                got = await house.post(a_body("big"))
                assert (got.status, got.headers["x-nexus-fallback-model"], got.headers["x-nexus-attempts"]) == (
                    200,
                    "tiny",
                    attempts,
                )


async def test_a_permission_for_one_model_suspends_that_one(tmp_path):
    no = Respond(403, json={"error": {"message": "Project `p` does not have access to model `x`", "code": "model_not_found"}})
    async with openai_server(["tiny", "other"]) as a, openai_server(["tiny", "other"]) as b, open_house(tmp_path, a, b) as house:
        a.next(no, path=CHAT)
        assert (await house.post()).headers["x-nexus-backend"] == "b"
        assert (await house.post()).headers["x-nexus-attempts"] == "1"
        assert (await house.post(a_body("other"))).headers["x-nexus-backend"] == "a"
        assert "tiny: the key may not use this model" in standing(house).problem
        listed = {(each["backend"], each["id"]): each["suspended_reason"] for each in (await house.get("/nexus/models"))["models"]}
        assert [pair for pair, reason in listed.items() if reason] == [("a", "tiny")]


@pytest.mark.parametrize("place", ["model's answer", "code"])
async def test_no_client_takes_a_backend_from_the_others_by_what_it_says(tmp_path, place):
    text = "insufficient_quota: You exceeded your current quota"
    echo = {"message": f"{text} is no valid tool", "code": "insufficient_quota" if place == "code" else None}
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.next(Respond(400, json={"error": echo}), path=CHAT)
        got = await house.post(a_body("tiny", messages=[{"role": "user", "content": text}]))
        assert (got.status, got.json["error"]) == (400, echo)
        assert standing(house).suspension is None
        assert (await house.post()).headers["x-nexus-backend"] == "a"


MAY_BE_ONE_REQUESTS = (400, 401, 402, 403, 404, 405, 406, 409, 410, 411, 413, 414, 415, 417, 422, 426, 431, 451)


@pytest.mark.parametrize("body", [GOOD, STREAMED], ids=["chat", "stream"])
async def test_what_one_request_is_told_by_a_status_moves_no_other(tmp_path, body):
    """Whatever a client sends can make a server answer so: the next client is served where it was before."""
    wrong = []
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        assert (await house.post(body)).headers["x-nexus-backend"] == "a"
        for status, said in itertools.product(MAY_BE_ONE_REQUESTS, (b"", b'{"error":{"message":"no such thing here"}}')):
            a.next(Respond(status, body=said), path=CHAT)
            await house.post(body)
            for _ in range(2):
                got = await house.post(body)
                if (got.status, got.headers.get("x-nexus-backend"), got.headers["x-nexus-attempts"]) != (200, "a", "1"):
                    wrong.append((status, said, got.headers))
    assert not wrong


async def test_what_two_requests_are_told_is_the_servers_word(tmp_path):
    for status, word in ((401, "wants a key"), (402, "no money or quota"), (403, "forbids requests"), (404, "")):
        async with tiny() as a, tiny() as b, open_house(tmp_path / str(status), a, b) as house:
            assert (await house.post()).status == 200
            a.on(CHAT, Respond(status), method="POST")
            told = [(got.status, got.headers["x-nexus-attempts"]) for got in [await house.post() for _ in range(3)]]
            assert told == [(200, "2"), (200, "2"), (200, "1")], status
            assert word in standing(house).problem


# ---------------------------------------------------------------- busy, loading

BUSY = {
    "llama.cpp": Respond(503, json={"error": {"message": "Loading model", "type": "unavailable_error", "code": 503}}, headers={"Retry-After": "0.3"}),
    "Ollama": Respond(503, json={"error": "server busy, please try again.  maximum pending requests exceeded"}, headers={"Retry-After": "0.3"}),
    "Ray": Respond(503, body=b"Request dropped due to backpressure (num_queued_requests=1, max_queued_requests=1).", headers={"Retry-After-Ms": "300"}),
    "Anthropic": Respond(529, json={"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, headers={"Retry-After": "0.3"}),
    "LocalAI": Respond(503, json={"loading": {"eta_seconds": 0.3}}),
}  # fmt: skip


@pytest.mark.parametrize(("act", "way"), [*zip(BUSY.values(), itertools.cycle(WAYS))], ids=BUSY)
async def test_a_busy_server_is_waited_for_and_has_not_failed(tmp_path, way, act):
    async with tiny() as up, open_house(tmp_path, up, way=way, routing={"max_attempts": 1}) as house:
        up.next(*[act] * 3, path=CHAT)
        got = await house.post()
        assert (got.status, got.headers["x-nexus-attempts"], got.headers["x-nexus-route-reason"]) == (200, "1", "capability-match")
        assert 800 <= int(got.headers["x-nexus-queue-ms"]) < 6000
        assert house.ledger.outcomes == ["rate"] * 3 + ["ok"]
        assert not any(pair.failures for pair in standing(house).pairs.values())


@pytest.mark.parametrize(
    ("path", "body", "status", "word"),
    [
        (CHAT, GOOD, 503, "service_unavailable"),
        (CHAT, STREAMED, 529, "server_error"),
        (MESSAGES, ASKED, 529, "overloaded_error"),
        (MESSAGES, STREAMED_MESSAGE, 503, "overloaded_error"),
    ],
)
async def test_a_lone_server_that_stays_busy_keeps_its_status_and_says_when(tmp_path, path, body, status, word):
    busy = Respond(status, json={"error": {"message": "Overloaded"}}, headers={"Retry-After": "7"})
    async with tiny() as up, open_house(tmp_path, up, queue={"max_wait_seconds": 0.2}) as house:
        up.next(busy, path=CHAT)
        for _ in range(2):  # the second is told without asking
            got = await house.post(body, path)
            assert (got.status, got.json["error"]["code"], got.json["error"]["type"]) == (status, "busy", word)
            assert 6 <= int(got.headers["retry-after"]) <= 7
            assert got.headers["x-nexus-attempts"] == "0"
        assert len(up.calls(CHAT)) == 1


async def test_all_the_pauses_of_a_request_are_one_wait(tmp_path):
    busy = Respond(503, json={"error": {"message": "server busy"}}, headers={"Retry-After": "0.3"})
    async with tiny() as up, open_house(tmp_path, up, queue={"max_wait_seconds": 1}) as house:
        up.on(CHAT, busy, method="POST")
        got = await asyncio.wait_for(house.post(), 10)
        assert (got.status, got.error["code"]) == (503, "busy")
        assert 500 <= int(got.headers["x-nexus-queue-ms"]) < 2500  # the last pause would end after it
        assert 3 <= len(up.calls(CHAT)) <= 5, "more than `max_attempts`, for it was only busy"


async def test_a_503_that_says_nothing_is_a_failure_and_keeps_its_status(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Respond(503, body=b"<html><body><h1>503 Service Temporarily Unavailable</h1></body></html>"), path=CHAT)
        got = await house.post()
        assert (got.status, got.error["code"], "retry-after" in got.headers) == (503, "all_attempts_failed", False)
        assert "answered 503: 503 Service Temporarily Unavailable" in got.error["message"]
        assert house.ledger.outcomes == ["failed"]


# ---------------------------------------------------------------- the model, the path, a need


async def test_a_model_that_cannot_be_loaded_is_avoided_and_its_server_is_not(tmp_path):
    broken = Respond(500, json={"error": {"code": 500, "message": "model name=tiny failed to load", "type": "server_error"}})
    async with openai_server(["tiny", "other"]) as a, tiny() as b:
        async with open_house(tmp_path, a, b, health={"min_samples": 1}) as house:
            a.on(CHAT, lambda received: broken if received.json["model"] == "tiny" else FINE, method="POST")
            asked = len(a.calls("/v1/models"))
            for attempts in ("2", "1"):
                got = await house.post()
                assert (got.status, got.headers["x-nexus-backend"], got.headers["x-nexus-attempts"]) == (200, "b", attempts)
            assert (await house.post(a_body("other"))).headers["x-nexus-backend"] == "a"
            assert not ejected(house)
            await a.until(lambda: len(a.calls("/v1/models")) > asked)


async def test_a_model_that_nobody_knows_any_more_is_a_404(tmp_path):
    gone = Respond(400, json={"error": {"message": "model 'tiny' not found"}})
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(gone, path=CHAT)
        got = await house.post()
        assert (got.status, got.error["code"], got.error["param"]) == (404, "model_not_found", "model")


NOWHERE = {
    "FastAPI": Respond(404, json={"detail": "Not Found"}),
    "405": Respond(405, json={"detail": "Method Not Allowed"}),
    "Go": Respond(404, body=b"404 page not found\n"),
    "LM Studio": Respond(json={"error": "Unexpected endpoint or method. (POST /v1/embeddings)"}),
    "equal": Respond(501, json={"error": {"message": "This server does not support embeddings. Start it with `--embeddings`"}}),
    "as a 400": Respond(400, json={"error": {"message": '"tiny" does not support embeddings'}}),
}


@pytest.mark.parametrize("act", NOWHERE.values(), ids=NOWHERE)
async def test_a_path_that_a_server_has_not_is_learnt_and_the_clients_to_know(tmp_path, act):
    async with vllm_server(["tiny"]) as up, open_house(tmp_path, up) as house:
        up.on(EMBEDDINGS, act, method="POST")
        for attempts in ("1", "0"):
            got = await house.post(EMBED, EMBEDDINGS)
            assert (got.status, got.error["code"], got.headers["x-nexus-attempts"]) == (400, "capability_mismatch", attempts)
        assert len(up.calls(EMBEDDINGS)) == 1
        assert (await house.post()).status == 200
        assert not any(pair.failures for pair in standing(house).pairs.values())


async def test_a_path_that_was_taken_for_missing_is_tried_again(tmp_path):
    """One client's odd request, on a server that has never served the task, takes it from nobody for long, who is alone or not."""
    fine = Respond(json={"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5]}], "model": "tiny"})
    async with vllm_server(["tiny"]) as up, open_house(tmp_path, up) as house:
        up.on(EMBEDDINGS, NOWHERE["FastAPI"], method="POST")
        assert (await house.post(EMBED, EMBEDDINGS)).status == 400
        up.on(EMBEDDINGS, fine, method="POST")
        for held in standing(house).lacks.values():
            held.until -= 60
        asked = len(up.calls("/v1/models"))
        house.gateway.fleet.doubted("a")
        await up.until(lambda: len(up.calls("/v1/models")) > asked)
        while standing(house).missing:
            await asyncio.sleep(0)  # its probe has ended
        assert (await house.post(EMBED, EMBEDDINGS)).status == 200


async def test_what_one_server_has_not_another_may_have(tmp_path):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.on(EMBEDDINGS, NOWHERE["FastAPI"], method="POST")
        b.on(EMBEDDINGS, Respond(json={"object": "list", "data": []}), method="POST")
        for attempts in ("2", "1"):
            got = await house.post(EMBED, EMBEDDINGS)
            assert (got.status, got.headers["x-nexus-backend"], got.headers["x-nexus-attempts"]) == (200, "b", attempts)


async def test_a_path_that_has_been_served_is_there_whatever_is_said_later(tmp_path):
    """A server that passes on somebody else's 404 has not lost its path."""
    async with tiny() as up, open_house(tmp_path, up) as house:
        assert (await house.post()).status == 200
        up.next(NOWHERE["FastAPI"], path=CHAT)
        assert (await house.post()).status == 502
        assert (await house.post()).status == 200


async def test_a_server_without_anthropics_path_is_asked_in_openais_words(tmp_path):
    up = vllm_server(["tiny"]).on(MESSAGES, Respond(405), method="GET").on(MESSAGES, NOWHERE["FastAPI"], method="POST")
    async with up, open_house(tmp_path, up, a={"type": "vllm"}) as house:
        (pair,) = standing(house).pairs.values()
        assert ("anthropic", "chat") in pair.model.speaks
        for attempts in ("2", "1"):
            got = await house.post(ASKED, MESSAGES)
            assert (got.status, got.json["type"], got.headers["x-nexus-attempts"]) == (200, "message", attempts)
        assert ([call.method for call in up.calls(MESSAGES)].count("POST"), len(up.calls(CHAT))) == (1, 2)
        assert (await house.post()).status == 200


IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
TOOLS = [{"type": "function", "function": {"name": "hello", "parameters": {"type": "object"}}}]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "message", "fields"),
    [
        (400, "<path> is not a multimodal model", {"messages": IMAGE}),
        (
            500,
            "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
            {"messages": IMAGE},
        ),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set', {"tools": TOOLS}),
        (400, 'tool_choice=function "hello" requires --tool-call-parser to be set', {"tools": TOOLS}),
    ],
)
async def test_what_a_model_says_it_cannot_do_is_learnt(tmp_path, stream, status, message, fields):
    said = {"error": {"message": message, "type": "BadRequestError", "param": None, "code": status}}
    body = a_body("tiny", stream=stream, **fields)
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.on(CHAT, Respond(status, json=said), method="POST")
        b.on(
            CHAT,
            Stream([sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})]) if stream else FINE,
            method="POST",
        )
        for attempts in ("2", "1"):
            got = await house.post(body)
            assert (got.status, got.headers["x-nexus-backend"], got.headers["x-nexus-attempts"]) == (200, "b", attempts)
        a.on(CHAT, FINE, method="POST")
        assert (await house.post()).headers["x-nexus-backend"] == "a", "other requests still go there"


@pytest.mark.parametrize("text", ["image input is not supported", "tiny is not a multimodal model"])
async def test_no_client_teaches_what_a_model_cannot_do(tmp_path, text):
    """The server repeats the client's words in an error about something else."""
    said = {"error": {"message": f"{text}: no such role", "type": "BadRequestError", "param": None, "code": 400}}
    messages = [{"role": text, "content": IMAGE[0]["content"]}]
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Respond(400, json=said), path=CHAT)
        got = await house.post(a_body("tiny", messages=messages))
        assert (got.status, got.json) == (400, said)
        up.on(CHAT, FINE, method="POST")
        assert (await house.post(a_body("tiny", messages=IMAGE))).status == 200


# ---------------------------------------------------------------- a prompt that is too long

LONG = {
    "llama.cpp's batch": (500, "input (1501 tokens) is too large to process. increase the physical batch size (current batch size: 512)"),
    "llama.cpp": (400, "request (1501 tokens) exceeds the available context size (512 tokens), try increasing it"),
    "vLLM": (400, "This model's maximum context length is 512 tokens. However, your prompt contains at least 1501 input tokens, which exceeds this limit even without any output tokens. (parameter=input_tokens, value=1501)"),
    "vLLM's chats": (400, "This model's maximum context length is 512 tokens. However, your request has 1501 input tokens. Please reduce the length of the input messages."),
    "vLLM, both": (400, "This model's maximum context length is 512 tokens. However, you requested 1501 tokens (1401 in the messages, 100 in the completion). Please reduce the length of the messages or completion."),
    "vLLM, the total": (400, "This model's maximum context length is 512 tokens. However, you requested 100 output tokens and your prompt contains at least 1401 input tokens, for a total of at least 1501 tokens. Please reduce the length of the input prompt or the number of requested output tokens. (parameter=input_tokens, value=1401)"),
    "OpenRouter": (400, "This endpoint's maximum context length is 512 tokens. However, you requested about 1501 tokens (1401 of text input, 100 in the output). Please reduce the length of either one."),
    "Ollama": (400, json.dumps({"error": {"code": 400, "message": "request (1501 tokens) exceeds the available context size (512 tokens), try increasing it", "type": "exceed_context_size_error", "n_ctx": 512}})),
    "LiteLLM": (400, "litellm.ContextWindowExceededError: litellm.BadRequestError: ContextWindowExceededError: OpenAIException - request (1501 tokens) exceeds the available context size (512 tokens), try increasing it\nmodel=x"),
}  # fmt: skip


@pytest.mark.parametrize(("status", "message"), LONG.values(), ids=LONG)
@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, GOOD), (CHAT, STREAMED), (MESSAGES, ASKED)], ids=["native", "stream", "translated"]
)
async def test_a_prompt_that_is_too_long_is_told_in_words_that_agents_know(tmp_path, path, body, status, message):
    said = Respond(status, json={"error": {"message": message, "type": "invalid_request_error", "param": None, "code": None}})
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(said, path=CHAT)
        got = await house.post(body, path)
        assert (got.status, got.json["error"]["message"]) == (400, "prompt is too long: 1501 tokens > 512 maximum")
        assert got.json["error"]["code"] == "context_length_exceeded"
        assert house.ledger.outcomes == ["rejected"]
        assert not any(pair.failures for pair in standing(house).pairs.values())


TOO_LARGE = (
    "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 44224. The input or output "
    "tokens must be reduced in order to run successfully."
)


@pytest.mark.parametrize("status", [413, 429])
@pytest.mark.parametrize(
    ("path", "body"), [(CHAT, GOOD), (CHAT, STREAMED), (MESSAGES, ASKED)], ids=["native", "stream", "translated"]
)
async def test_a_request_larger_than_a_minutes_tokens_is_told_and_pauses_nobody(tmp_path, path, body, status):
    said = Respond(status, json={"error": {"message": TOO_LARGE, "type": "tokens", "param": None, "code": "rate_limit_exceeded"}})
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(said, path=CHAT)
        got = await house.post(body, path)
        assert (got.status, got.json["error"]["message"]) == (status, TOO_LARGE)
        assert house.ledger.outcomes == ["rejected"]
        assert (await house.post(body, path)).status == 200, "the next is asked for at once"
        assert house.ledger.outcomes == ["rejected", "ok"]


@pytest.mark.parametrize(
    "figures",
    [
        "you requested 612 tokens (100 in the messages, 512 in the completion)",
        "you requested 512 output tokens and your prompt contains at least 100 input tokens, for a total of at least 612 tokens",
    ],
)
async def test_an_answer_that_no_prompt_would_leave_room_for_is_not_told_as_a_long_prompt(tmp_path, figures):
    own = {
        "error": {"message": f"This model's maximum context length is 512 tokens. However, {figures}.", "type": "BadRequestError"}
    }
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Respond(400, json=own), path=CHAT)
        got = await house.post()
        assert (got.status, got.json) == (400, own)


async def test_openais_own_code_for_it_passes_as_it_is(tmp_path):
    own = {"error": {"message": "This model's maximum context length is 8 tokens. However, your messages resulted in 9 tokens.", "code": "context_length_exceeded"}}  # fmt: skip
    async with tiny() as up, open_house(tmp_path, up) as house:
        up.next(Respond(400, json=own), path=CHAT)
        got = await house.post()
        assert (got.status, got.json) == (400, own)


# ---------------------------------------------------------------- errors that come with a 200


def first(error):
    return Stream([error] if isinstance(error, bytes) else [sse(error)], done=False)


@pytest.mark.parametrize(
    "act",
    [first(NO_MONEY), Respond(json=NO_MONEY)],
    ids=["first event", "no stream at all"],
)
async def test_a_stream_that_begins_with_an_empty_account(tmp_path, act):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.next(act, path=CHAT)
        got = await house.post(STREAMED)
        assert (got.status, got.headers["x-nexus-backend"]) == (200, "b")
        assert standing(house).suspension is not None
        assert house.ledger.outcomes == ["rejected", "ok"]


async def test_a_whole_answer_that_is_an_error_is_judged_like_one(tmp_path):
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        for path, body in ((CHAT, GOOD), (MESSAGES, ASKED)):
            a.next(Respond(json=NO_MONEY), path=CHAT)
            got = await house.post(body, path)
            assert (got.status, got.headers["x-nexus-backend"]) == (200, "b")
            assert standing(house).suspension is not None
            standing(house).suspension = None
            standing(house).redraw()


@pytest.mark.parametrize(("path", "body"), [(CHAT, STREAMED), (MESSAGES, STREAMED_MESSAGE)], ids=["translated", "native"])
async def test_an_overloaded_anthropic_that_says_so_in_its_stream_is_waited_for(tmp_path, path, body):
    event = b'event: error\ndata: {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}\n\n'
    async with anthropic_server(["tiny"]) as up, open_house(tmp_path, up, a={"type": "anthropic"}) as house:
        up.next(Stream([event], done=False, headers={"Retry-After": "0.3"}), path=MESSAGES)
        got = await house.post(body, path)
        assert (got.status, got.headers["x-nexus-attempts"]) == (200, "1")
        assert house.ledger.outcomes == ["rate", "ok"]


@pytest.mark.parametrize(("path", "body"), [(CHAT, STREAMED), (CHAT, GOOD), (MESSAGES, STREAMED_MESSAGE)])
async def test_the_requests_own_fault_within_a_200_is_the_clients_400(tmp_path, path, body):
    wrong = {"error": {"message": "tools[0] is no function", "type": "BadRequestError", "param": None, "code": 400}}
    act = first(wrong) if b'"stream"' in body and json.loads(body)["stream"] else Respond(json=wrong)
    async with tiny() as a, tiny() as b, open_house(tmp_path, a, b) as house:
        a.next(act, path=CHAT)
        got = await house.post(body, path)
        assert (got.status, got.headers["x-nexus-backend"]) == (400, "a")
        assert got.headers["content-type"].startswith("application/json")
        assert got.json["error"]["message"] == "tools[0] is no function"
        assert not b.calls(CHAT)


# ---------------------------------------------------------------- time


@pytest.mark.parametrize(
    ("body", "setting", "seconds"),
    [(STREAMED, "first_byte_timeout_seconds", 0.3), (GOOD, "answer_timeout_seconds", 0.5)],
    ids=["stream", "whole"],
)
async def test_a_timeout_names_its_seconds_and_its_setting(tmp_path, body, setting, seconds):
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream={setting: seconds}) as house:
        up.on(CHAT, Hang(), method="POST")
        got = await house.post(body)
        assert got.status == 504
        assert f"(waited {seconds:g} s: [upstream] {setting})" in got.error["message"]


async def test_a_stream_that_falls_silent_names_its_setting_too(tmp_path):
    event = sse({"choices": [{"index": 0, "delta": {"content": "x"}}]})
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream={"idle_timeout_seconds": 0.3}) as house:
        up.on(CHAT, Stream([event], done=False, end="hang"), method="POST")
        got = await house.post(STREAMED)
        assert "(waited 0.3 s: [upstream] idle_timeout_seconds)" in got.last_error["message"]


@pytest.mark.parametrize("sign", [b": keepalive 1/9\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'], ids=["comment", "ping"])
async def test_signs_of_life_before_the_first_event_are_waited_through(tmp_path, sign):
    """A long prompt may take longer than a first byte usually does."""
    limits = {"first_byte_timeout_seconds": 0.3, "answer_timeout_seconds": 30.0}
    if b"ping" in sign:
        server, kind, path, body = anthropic_server(["tiny"]), "anthropic", MESSAGES, STREAMED_MESSAGE
        last = [b'event: message_stop\ndata: {"type":"message_stop"}\n\n']
    else:
        server, kind, path, body = tiny(), "openai-compatible", CHAT, STREAMED
        last = [sse({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})]
    async with server as up, open_house(tmp_path, up, quick=True, a={"type": kind}, upstream=limits) as house:
        up.on(path, Stream([sign] * 15 + last, 0.06, done=False), method="POST")
        got = await house.post(body, path)
        assert (got.status, got.whole) == (200, True)
        assert house.ledger.outcomes == ["ok"]


async def test_signs_of_life_alone_are_no_answer(tmp_path):
    limits = {"first_byte_timeout_seconds": 0.2, "answer_timeout_seconds": 0.6}
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream=limits) as house:
        up.on(CHAT, Stream([b": still loading\n\n"] * 1000, 0.05), method="POST")
        got = await house.post(STREAMED)
        assert (got.status, got.error["code"]) == (504, "all_attempts_timed_out")
        assert "[upstream] answer_timeout_seconds" in got.error["message"]
        assert house.ledger.finished[0].code == "answer_timeout"
        await up.until(lambda: up.disconnected == 1)


async def test_signs_of_life_that_stop_end_the_wait(tmp_path):
    limits = {"first_byte_timeout_seconds": 5.0, "idle_timeout_seconds": 0.3}
    async with tiny() as up, open_house(tmp_path, up, quick=True, upstream=limits) as house:
        up.on(CHAT, Stream([b": still loading\n\n"], done=False, end="hang"), method="POST")
        got = await house.post(STREAMED)
        assert got.status == 504
        assert "[upstream] idle_timeout_seconds" in got.error["message"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [GOOD, STREAMED], ids=["whole", "stream"])
async def test_a_client_that_does_not_wait_leaves_behind_whom_it_waited_for(tmp_path, way, body, caplog):
    caplog.set_level(logging.INFO, "nexus.request")
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        up.on(CHAT, Hang(), method="POST")
        async with house.line() as line:
            await line.say(_raw(house, body))
            await up.until(lambda: up.in_flight == 1)
        await up.until(lambda: up.disconnected == 1)
        await house.settled()
        (answered,) = house.ledger.answered
        (attempt,) = answered.attempts
        assert (attempt.backend, attempt.model, attempt.outcome, attempt.code) == ("a", "tiny", "left", "unanswered")
        assert attempt.seconds > 0
        story = await house.get(f"/nexus/requests/{answered.request.id}")
        assert [(each["backend"], each["model"]) for each in story["attempts"]] == [("a", "tiny")]
        assert story["attempts"][0]["seconds"] > 0
    assert re.search(r"a \(tiny\): silent for \d+\.\d s", caplog.text)


def _raw(house, body):
    path = house.url.partition("//")[2].partition("/")[2]
    prefix = f"/{path}" if path else ""
    head = (
        f"POST {prefix}{CHAT} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
