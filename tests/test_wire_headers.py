"""Headers that a client may get wrong, pages and hosts that may not call, and what of a header reaches the backend."""

from __future__ import annotations

import pytest

from .wire import WAYS, open_house, tiny
from .wire_client import CHAT, GOOD

BAD_IDS = {
    "blank within": "two words",
    "not ascii": "n\xe4",
    "too long": "x" * 129,
    "empty": "",
}


@pytest.mark.parametrize(
    ("header", "value"),
    [("X-Nexus-Zone", "restrict"), ("X-Nexus-Zone", ""), ("X-Nexus-Priority", "urgent"), ("X-Nexus-Priority", "high, low")],
)
async def test_a_word_that_nexus_does_not_know_is_a_400_that_names_the_header(tmp_path, header, value):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask(GOOD, CHAT, f"{header}: {value}")
        got = await line.hear()
        assert (got.status, got.error["code"], got.error["param"]) == (400, "invalid_request", header)
        await line.ask(GOOD, CHAT, "X-Nexus-Zone: OPEN", "X-Nexus-Priority: Low", "X-Nexus-Session: \xe4")
        assert (await line.hear()).status == 200
        assert len(up.calls(CHAT)) == 1


async def test_a_request_id_is_kept_where_it_is_short_and_printable(tmp_path):
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for id in ("abc-123", "x" * 128, "{json}"):
            await line.ask(GOOD, CHAT, f"X-Request-Id: {id}")
            assert (await line.hear()).headers["x-nexus-request-id"] == id
            await line.ask(b"nonsense", "/v1/nothing", f"X-Request-Id: {id}")
            assert (await line.hear()).headers["x-nexus-request-id"] == id
        for what, id in BAD_IDS.items():
            await line.ask(GOOD, CHAT, f"X-Request-Id: {id}")
            got = await line.hear()
            assert got.status == 200, what
            assert len(got.headers["x-nexus-request-id"]) == 32, what
        await line.ask(GOOD, CHAT, "X-Request-Id: a\x01b")  # no header may carry such a character
        got = await line.hear()
        assert (got.status, got.error["code"]) == (400, "malformed_http")
        assert not await line.closed()


async def test_what_is_the_clients_own_does_not_reach_the_backend(tmp_path):
    own = ["Authorization: Bearer secret", "X-Api-Key: secret", "Cookie: a=b", "X-Forwarded-For: 1.2.3.4", "X-Nexus-Session: s"]
    own += ["Accept-Encoding: gzip, br", "User-Agent: me", "Content-Type: text/weird", "X-Stainless-Lang: python"]
    passed = ["Accept: text/event-stream", "Traceparent: 00-ab-cd-01", "OpenAI-Beta: assistants=v2"]
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        await line.ask(GOOD, CHAT, *own, *passed)
        assert (await line.hear()).status == 200
        seen = dict(up.calls(CHAT)[0].headers)
        assert seen.pop("host") == up.url.removeprefix("http://")
        assert seen == {
            "content-type": "application/json",
            "content-length": str(len(GOOD)),
            "accept-encoding": "identity",
            "accept": "text/event-stream",
            "traceparent": "00-ab-cd-01",
            "openai-beta": "assistants=v2",
        }


async def test_values_that_are_not_ascii_pass_as_they_are(tmp_path):
    values = ("\xe4\xf6", "\xff\xfe", "a\tb", "x" * 8000, "caf\xc3\xa9", "")
    async with tiny() as up, open_house(tmp_path, up) as house, house.line() as line:
        for value in values:
            await line.ask(GOOD, CHAT, f"OpenAI-Odd: {value}")
            assert (await line.hear()).status == 200, value
        assert [call.header("openai-odd") for call in up.calls(CHAT)] == list(values)


@pytest.mark.parametrize("way", WAYS)
async def test_only_listed_pages_and_hosts_may_call(tmp_path, way):
    page = "http://page.example"
    async with tiny() as up, open_house(tmp_path, up, way=way, server={"origins": [page], "hosts": ["own.example"]}) as house:
        got = await house.post(Origin="http://evil.example")
        assert (got.status, got.error["code"]) == (403, "origin_not_allowed")
        assert "access-control-allow-origin" not in got.headers
        got = await house.post(Host="rebound.example")
        assert (got.status, got.error["code"]) == (403, "host_not_allowed")
        for odd in ("[", "[::1", "@", "localhost@evil.example", "127.0.0.1.evil.example"):
            assert (await house.post(Host=odd)).status == 403, odd
        assert not up.calls(CHAT)
        for body, status in ((GOOD, 200), (b"nonsense", 400)):
            got = await house.post(body, Origin=page)
            assert (got.status, got.headers["access-control-allow-origin"], got.headers["vary"]) == (status, page, "Origin")
        asked = {"Origin": page, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "x-a"}
        async with house.client.options(house.url + CHAT, headers=asked) as preflight:
            assert (preflight.status, preflight.headers["Access-Control-Allow-Origin"]) == (204, page)
            assert preflight.headers["Access-Control-Allow-Headers"] == "x-a"
            assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
