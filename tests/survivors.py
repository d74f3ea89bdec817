"""A house for frames that nobody should send: it must still answer when the test is over.  No test lives here."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

from nexus.testing import Respond, Stream
from nexus.testing.conformance import SCENARIOS, TABLES, house

NAMED = {scenario.name: scenario for scenario in SCENARIOS}
OPENAI, ANTHROPIC = TABLES
PAIRS = [(client, server) for client in TABLES for server in TABLES]
TRANSLATED = [(client, server) for client, server in PAIRS if client is not server]
WORDS = "These words came first. "
by_name = {"argvalues": PAIRS, "ids": [f"{c.dialect}-{s.dialect}" for c, s in PAIRS]}
strangers = {"argvalues": TRANSLATED, "ids": [f"{c.dialect}-{s.dialect}" for c, s in TRANSLATED]}
pairs = pytest.mark.parametrize(("client", "server"), **by_name)
between = pytest.mark.parametrize(("client", "server"), **strangers)


@asynccontextmanager
async def survivor(server, tmp_path):
    """A house that must still answer when the test is over."""
    async with house(server, tmp_path) as at:
        yield at
        at.upstream.default = played(server, "plain", stream=False)
        heard = await at.ask(OPENAI, OPENAI.bytes_of(OPENAI.simplest, stream=False))
        assert heard.status == 200, heard.body
        assert OPENAI.whole(heard.body) == OPENAI.sayable(NAMED["plain"].said)


def played(server, name, *, stream):
    exchange = server.exchange(NAMED[name])
    if stream:
        return Stream(exchange.frames, done=False)
    return Respond(body=server.reply_bytes(exchange), headers={"Content-Type": "application/json"})


async def ask(at, client, act, *, stream=True, request=None):
    at.upstream.default = act
    body = client.simplest if request is None else request
    return await at.ask(client, client.bytes_of(body, stream=stream))


def is_broken(client, heard, *words):
    """The client sees what came, an error, and no end."""
    assert heard.status == 200
    with pytest.raises(ValueError):  # noqa: PT011 - the strict reader's own
        client.streamed(heard.body)
    text, sentence = client.broken(heard.body)
    assert text == WORDS
    assert all(word in sentence for word in words), sentence
