"""A client of one dialect and a server of another, over real sockets.

The client's dialect is OpenAI's under another name and path, with words of its own where it matters; the server is OpenAI's.
"""

from __future__ import annotations

import json

import pytest

from nexus.api import DialectKind, Endpoint, hookimpl, opens
from nexus.dialects.canonical import Loss
from nexus.dialects.openai import OpenAI
from nexus.model import CHAT
from nexus.testing import ErrorEventFirst, Respond, Stream, a_body, openai_server
from nexus.testing.gateway import running_gateway

PATH = "/other/chat"
SERVERS = "/v1/chat/completions"


class Other(OpenAI):
    """Another dialect of the same words; a question mark is all that its errors share with OpenAI's."""

    name = "other"
    endpoints = (Endpoint(path=PATH, task=CHAT),)

    def read_request(self, endpoint, payload):
        conversation, losses = super().read_request(endpoint, payload)
        lost = conversation.user == "loud"
        return conversation, (*losses, *((Loss(what="voice", meaning_changed=True),) if lost else ()))

    def error(self, problem, request_id):
        return json.dumps({"wrong": problem.message, "code": problem.code}).encode()


class Plugin:
    @hookimpl
    def nexus_dialects(self):
        yield DialectKind(name="other", open=opens(lambda options, scope: Other()))


@pytest.fixture
async def house(tmp_path):
    async with openai_server(["tiny"]) as up:
        config = {"backends": [{"name": "a", "type": "openai", "url": up.url}]}
        async with running_gateway(config, plugins=[Plugin()], state_dir=tmp_path) as gateway:
            await gateway.until(lambda: gateway.gateway.fleet.names())
            yield gateway, up


async def ask(gateway, **fields):
    async with gateway.client.post(PATH, data=a_body("tiny", **fields)) as got:
        return got.status, got.headers, await got.read()


async def test_a_whole_answer(house):
    gateway, up = house
    status, headers, body = await ask(gateway, store=True)
    assert status == 200
    assert headers["X-Nexus-Translation-Loss"] == "store"
    assert headers["X-Nexus-Backend"] == "a"
    assert json.loads(body)["choices"][0]["message"]["content"]
    (call,) = up.calls(SERVERS)
    assert "store" not in json.loads(call.body)


async def test_a_stream(house):
    gateway, _ = house
    status, headers, body = await ask(gateway, stream=True)
    assert (status, headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert "X-Nexus-Translation-Loss" not in headers
    assert b'"content":' in body
    assert body.endswith(b"data: [DONE]\n\n")


async def test_a_rejection_is_told_in_the_clients_words(house):
    gateway, up = house
    up.next(Respond(status=422, body=b'{"error": {"message": "no such thing"}}'), path=SERVERS)
    status, headers, body = await ask(gateway)
    assert (status, headers["Content-Type"]) == (422, "application/json")
    assert json.loads(body) == {"wrong": "no such thing", "code": "backend_rejected"}


async def test_a_loss_that_changes_the_meaning_is_a_400_and_nothing_is_sent(house):
    gateway, up = house
    status, headers, body = await ask(gateway, user="loud")
    assert (status, json.loads(body)["code"]) == (400, "translation_loss")
    assert "voice" in json.loads(body)["wrong"]
    assert headers["X-Nexus-Rejection-Reasons"] == "a/tiny=core:translation_loss"
    assert up.calls(SERVERS) == []


async def test_a_first_event_that_is_an_error_is_a_failed_attempt(house):
    gateway, up = house
    up.next(ErrorEventFirst(), path=SERVERS)
    status, _, body = await ask(gateway, stream=True)
    assert (status, json.loads(body)["code"]) == (502, "all_attempts_failed")


async def test_a_stream_that_is_cut_ends_with_the_clients_error_and_no_normal_end(house):
    gateway, up = house
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]}
    up.next(Stream([chunk], done=False), path=SERVERS)
    status, _, body = await ask(gateway, stream=True)
    assert status == 200
    assert body.count(b"data: ") == 3
    assert json.loads(body.split(b"\n\n")[2][6:])["code"] == "backend_broke_off"
    assert b"[DONE]" not in body


async def test_an_error_in_the_middle_is_told_once(house):
    gateway, up = house
    chunk = {"id": "c", "choices": [{"index": 0, "delta": {"content": "word"}, "finish_reason": None}]}
    up.next(Stream([chunk, {"error": {"message": "out of memory"}}]), path=SERVERS)
    _, _, body = await ask(gateway, stream=True)
    assert body.count(b"out of memory") == 1
    assert json.loads(body.split(b"\n\n")[2][6:])["wrong"] == "out of memory"
    assert b"[DONE]" not in body
