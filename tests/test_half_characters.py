"""Half of a surrogate pair, as an escape, where a text was cut: no UTF-8 can hold it.  One outcome for every client and server.

What comes of two halves in neighbouring pieces of a stream is tested with the streams.
"""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.api import Payload, Problem
from nexus.dialects.jsontext import loads, whole_characters
from nexus.dialects.members import members_of
from nexus.dialects.openai import OpenAI
from nexus.testing import Respond
from nexus.testing.conformance import SCENARIOS, TABLES, house

PLAIN = next(scenario for scenario in SCENARIOS if scenario.name == "plain")
PAIRS = [(client, server) for client in TABLES for server in TABLES]
pairs = pytest.mark.parametrize(("client", "server"), PAIRS, ids=[f"{c.dialect}-{s.dialect}" for c, s in PAIRS])
HALF, OTHER, WHOLE = rb"\ud83d", rb"\ude00", rb"\ud83d\ude00"
JSON = "application/json"
ESCAPES = st.sampled_from([r"\ud83d", r"\uDE00", r"\\", r"\\ud83d", r"\"", r"\n", "a", r"\u0041", "é"])
_SURROGATE = re.compile("[\ud800-\udfff]")


def swapped(body: bytes, old: bytes, new: bytes) -> bytes:
    assert body.count(old) == 1
    return body.replace(old, new)


@given(st.lists(ESCAPES).map(lambda pieces: f'"{"".join(pieces)}"'))
def test_halves_are_what_a_patient_parser_calls_so(text: str) -> None:
    data = text.encode()
    assert loads(data) == _SURROGATE.sub("\ufffd", json.loads(text))
    assert len(whole_characters(data)) == len(data)


@pytest.mark.parametrize("wrong", [rb'"\ud83', rb'"\ud83d', b'"\0\\ud83d"', rb'{"a":\ud83d}', rb'"\ud83g"'])
def test_what_is_no_json_is_not_mended(wrong: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|truncated"):
        loads(wrong)


@pairs
async def test_a_request_with_half_a_character_is_answered(client, server, tmp_path):
    async with house(server, tmp_path) as at:
        at.upstream.default = Respond(body=server.reply_bytes(server.exchange(PLAIN)), headers={"Content-Type": JSON})
        asked = swapped(client.bytes_of(client.simplest, stream=False), b"what is 2 + 2?", HALF + b" and " + WHOLE)
        heard = await at.ask(client, asked)
        assert heard.status == 200, heard.body
        (received,) = at.upstream.requests
        if client is server:
            assert members_of(received.body) == members_of(asked)
        else:
            assert "\ufffd and \N{GRINNING FACE}" in json.dumps(received.json, ensure_ascii=False)


@pairs
@pytest.mark.parametrize("half", [HALF, OTHER])
async def test_a_whole_answer_with_half_a_character_is_told(client, server, half, tmp_path):
    async with house(server, tmp_path) as at:
        body = swapped(server.reply_bytes(server.exchange(PLAIN)), b"2 + 2 is 4.", b"4 " + half)
        at.upstream.default = Respond(body=body, headers={"Content-Type": JSON})
        heard = await at.ask(client, client.bytes_of(client.simplest, stream=False))
        assert heard.status == 200, heard.body
        if client is server:
            assert heard.body == body
        else:
            assert "4 \ufffd" in heard.body.decode()


def test_what_routing_believes_must_be_whole() -> None:
    with pytest.raises(Problem, match="half a character"):
        OpenAI().decode(OpenAI.endpoints[0], Payload(rb'{"model":"a\ud83d","messages":[]}'))
