"""What routing judged is what the server reads, however a body is spelt: two readers of one body must not differ."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nexus_anthropic.dialect import Anthropic

from nexus.api import Dialect, Payload, Problem, Splice
from nexus.dialects.openai import OpenAI

from .wire import open_house, tiny
from .wire_client import CHAT

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'
STEERED = {
    "a quote in a key": b'{"\\"model":"x","mode\\u006c":"gold",%b}' % MESSAGES,
    "a quote in a key, after it": b'{"mode\\u006c":"gold","\\"model":"x",%b}' % MESSAGES,
    "a key that ends in it": b'{"a\\\\\\"model":"x","model":"gold",%b}' % MESSAGES,
}
TWICE = {
    "messages": b'{"model":"tiny","messages":[{"role":"user","content":"first"}],%b}' % MESSAGES,
    "messages, spelt anew": b'{"model":"tiny",%b,"mess\\u0061ges":[{"role":"user","content":"last"}]}' % MESSAGES,
    "a bound": b'{"model":"tiny","max_tokens":1,"max_tokens":9,%b}' % MESSAGES,
    "options": b'{"model":"tiny","stream":true,"stream_options":{},"stream_options":{"include_usage":true},%b}' % MESSAGES,
}
DIALECTS = pytest.mark.parametrize("dialect", [OpenAI(), Anthropic()], ids=lambda dialect: dialect.name)


def pairs(body: bytes) -> list[tuple[str, object]]:
    """What a reader that keeps every member finds."""
    found: list[tuple[str, object]] = json.loads(body, object_pairs_hook=list)
    return found


@DIALECTS
@pytest.mark.parametrize("body", STEERED.values(), ids=STEERED)
def test_the_model_that_was_judged_is_the_one_replaced(dialect: Dialect, body: bytes) -> None:
    endpoint = dialect.endpoints[0]
    assert dialect.decode(endpoint, Payload(body)).model == "gold"
    assert json.loads(dialect.splice(endpoint, body, Splice(model="ok")))["model"] == "ok"


LETTERS = st.sampled_from(["m", "\\u006d", "o", "\\u006F", '\\"', "d", "e", "l", "\\\\", "model", "stream", "strea\\u006d", "x"])
NAMES = st.lists(LETTERS, min_size=1, max_size=4).map("".join) | st.sampled_from(["model", "stream", "mode\\u006c", "max_tokens"])
ODD = st.lists(st.tuples(NAMES, st.sampled_from(['"gold"', '"tiny"', "true", "false", "null", "1", "[]"])), max_size=5)


@DIALECTS
@given(odd=ODD, at=st.integers(0, 5), blank=st.sampled_from(["", " "]))
def test_every_reader_of_what_leaves_finds_what_was_judged(
    dialect: Dialect, odd: list[tuple[str, str]], at: int, blank: str
) -> None:
    """The first of a name or the last, keys read with or without their escapes: it is the same model, asked for once."""
    members = [f'"{name}":{blank}{value}' for name, value in odd]
    members.insert(min(at, len(members)), MESSAGES.decode())
    body = ("{" + ",".join(members) + "}").encode()
    endpoint = dialect.endpoints[0]
    try:
        facts = dialect.decode(endpoint, Payload(body))
    except Problem:
        return
    leaves = body if facts.unambiguous else dialect.splice(endpoint, body, Splice())
    found = pairs(leaves)
    assert len(found) == len(dict(found))
    assert dict(found)["model"] == facts.model
    assert bool(dict(found).get("stream")) == facts.stream
    assert leaves.count(b'"model":') >= 1
    assert dialect.decode(endpoint, Payload(leaves)).unambiguous


@pytest.mark.parametrize("body", STEERED.values(), ids=STEERED)
async def test_no_server_reads_another_name_than_routing_did(tmp_path, body):
    async with tiny() as up, open_house(tmp_path, up, routing={"aliases": {"gold": "tiny"}}) as house:
        got = await house.post(body)
        assert (got.status, got.headers["x-nexus-model"]) == (200, "tiny")
        assert json.loads(up.calls(CHAT)[0].body)["model"] == "tiny"


@pytest.mark.parametrize("body", TWICE.values(), ids=TWICE)
async def test_a_field_that_is_there_twice_leaves_once_though_nothing_had_to_change(tmp_path, body):
    async with tiny() as up, open_house(tmp_path, up) as house:
        assert (await house.post(body)).status == 200
        sent = pairs(up.calls(CHAT)[0].body)
        assert len(sent) == len(dict(sent))
        read = json.loads(body)
        assert {
            name: json.loads(json.dumps(value)) for name, value in json.loads(up.calls(CHAT)[0].body).items() if name in read
        } == read


@DIALECTS
@pytest.mark.parametrize("size", [10, 70_000, 300_000])
def test_a_body_as_clients_write_it_leaves_as_it_came(dialect: Dialect, size: int) -> None:
    """However large it is: none is written anew for nothing."""
    messages = [{"role": "user", "content": "hello, hello! " * (size // 14)}]
    body = json.dumps({"model": "m", "max_tokens": 5, "stream": True, "messages": messages}, separators=(",", ":")).encode()
    assert dialect.decode(dialect.endpoints[0], Payload(body)).unambiguous
    assert not dialect.decode(dialect.endpoints[0], Payload(body[:-1] + b',"max_tokens":5}')).unambiguous
