"""Whole answers that are larger than what is held of others: a translated one is complete, or an error that says so."""

from __future__ import annotations

import json

import pytest

from nexus import attempt
from nexus.dialects import translate
from nexus.testing import CutAfter, Respond

from .survivors import NAMED, ask, between, survivor

HELD, MOST = 64 * 1024, 512 * 1024


@pytest.fixture(autouse=True)
def bounds(monkeypatch):
    monkeypatch.setattr(attempt, "MAX_WHOLE_BYTES", HELD)
    monkeypatch.setattr(translate, "MAX_ANSWER_BYTES", MOST)


def answered(server, size):
    """The server's plain answer, with a text of this many bytes."""
    said = NAMED["plain"].said.parts[0].text
    body = json.dumps(server.exchange(NAMED["plain"]).reply)
    assert json.dumps(said) in body
    return body.replace(json.dumps(said), json.dumps("x" * size)).encode()


def act(body):
    return Respond(body=body, headers={"Content-Type": "application/json"})


@between
@pytest.mark.parametrize("size", [HELD - 1000, HELD + 1, 4 * HELD])
async def test_what_is_larger_than_what_is_held_of_others_is_complete(client, server, size, tmp_path):
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, act(answered(server, size)), stream=False)
        assert heard.status == 200
        assert client.whole(heard.body).parts[0].text == "x" * size


@between
@pytest.mark.parametrize("what", ["too large", "cut", "no JSON", "no answer", "an error"])
async def test_what_never_becomes_an_answer_is_an_error_and_no_half_of_one(client, server, what, tmp_path):
    whole = answered(server, 4 * HELD)
    padding = b'"pad":"%b"' % (b"x" * 4 * HELD)
    acts = {
        "too large": act(answered(server, MOST + 1)),
        "cut": CutAfter(3 * HELD, act(whole)),
        "no JSON": act(whole[:-1]),
        "no answer": act(b"{%b}" % padding),
        "an error": act(b'{"error":{"message":"out of memory"},%b}' % padding),
    }
    async with survivor(server, tmp_path) as at:
        heard = await ask(at, client, acts[what], stream=False)
        assert heard.status == 502, heard.body[:200]
        sentence = client.error(502, heard.body)
        assert ("out of memory" in sentence) == (what == "an error")
