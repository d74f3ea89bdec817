"""Who may come in, over the wire: keys, origins and hosts, before a body is read; and what of a key goes on to a backend."""

import asyncio
import ipaddress
import json
import string
from urllib.parse import urlsplit

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nexus.hosts import host_in, is_address
from nexus.keys import new_key
from nexus.testing import Held, Respond, openai_server

from .asking import CHAT, a_backend, ask, chats, fleet, page, settled
from .cases import case

SPOKEN = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
LAPTOP, LAPTOP_HASH = new_key()
ADMIN, ADMIN_HASH = new_key()
KEYS = [
    {"name": "laptop", "hash": LAPTOP_HASH, "models": ["tiny", "al*"], "priority": "normal"},
    {"name": "boss", "hash": ADMIN_HASH, "admin": True, "priority": "high"},
]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


async def raw(url: str, head: str, body: bytes = b"") -> tuple[int, bytes]:
    """Send exactly this, and read one answer; nothing more is sent."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body)
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
        return int(answer.split()[1]), answer
    finally:
        writer.close()
        await writer.wait_closed()


# ---------------------------------------------------------------- keys


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {LAPTOP}"},
        {"x-api-key": LAPTOP_HASH},
        {"Authorization": "Bearer"},
        {"ocp-apim-subscription-key": LAPTOP},
        {"Authorization": "Bearer wrong", "x-api-key": LAPTOP},
    ],
)
async def test_no_key_or_a_wrong_one_is_a_401_everywhere(nexus_gateway, headers):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), keys=KEYS)))
        for said in (await ask(gateway, headers=headers), await page(gateway, "/v1/models", headers=headers)):
            assert (said.status, said.error["code"], said.error["type"]) == (401, "invalid_key", "authentication_error")
            assert said.headers["WWW-Authenticate"] == "Bearer"
            assert said.nexus("Request-Id")
            assert LAPTOP not in said.body.decode()
        for path in ("/nexus/backends", "/nexus/queue", "/nexus/requests"):
            assert (await page(gateway, path, headers=headers)).status == 401
        assert (await page(gateway, "/health", headers=headers)).status == 200
        assert not chats(server)


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "api-key", "x-goog-api-key"])
async def test_the_key_may_stand_in_any_of_four_headers_and_goes_no_further(nexus_gateway, name, monkeypatch):
    monkeypatch.setenv("ONE_KEY", "sk-own-key")
    async with openai_server(api_key="sk-own-key") as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, api_key_env="ONE_KEY"), keys=KEYS)))
        headers = {name: f"Bearer {LAPTOP}" if name == "Authorization" else LAPTOP, "Cookie": "a=b", "X-Other": "1"}
        assert (await ask(gateway, headers=headers)).status == 200
        (received,) = [r for r in server.requests if r.path == CHAT]
        assert received.header("authorization") == "Bearer sk-own-key"
        seen = {header for header, _ in received.headers}
        assert not seen & {"x-api-key", "api-key", "x-goog-api-key", "cookie", "x-other", "x-nexus-session"}
        assert LAPTOP not in repr(server.requests)
        admin = await page(gateway, "/nexus/requests?limit=5", headers=bearer(ADMIN))
        assert LAPTOP not in admin.body.decode()
        assert "sk-own-key" not in (await page(gateway, "/nexus/backends", headers=bearer(ADMIN))).body.decode()


async def test_without_a_key_of_its_own_a_backend_gets_none(nexus_gateway):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server))))
        said = await ask(gateway, headers=bearer("sk-anything"))  # no keys are configured: an SDK's dummy is as good as none
        assert said.status == 200
        assert [r.header("authorization") for r in server.requests] == [None] * len(server.requests)


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_the_answer_comes_before_the_body_does(nexus_gateway, key):
    gateway = await nexus_gateway({"keys": KEYS})
    line = f"\nAuthorization: Bearer {key}" if key else ""
    status, answer = await raw(gateway.url, f"POST {CHAT} HTTP/1.1\nHost: localhost\nContent-Length: 60000000{line}")
    assert status == 401
    assert b"connection: close" in answer.lower()


async def test_a_key_opens_its_models_and_no_others(nexus_gateway):
    async with openai_server(["tiny", "big", "alpha"]) as server:
        routing = {"aliases": {"alias": "big"}, "fallbacks": {"alpha": ["big"]}}
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), keys=KEYS, routing=routing)))
        said = await ask(gateway, "big", headers=bearer(LAPTOP))
        assert (said.status, said.error["code"], said.error["param"]) == (403, "model_not_allowed", "model")
        assert "'laptop'" in said.error["message"]
        story = (await page(gateway, f"/nexus/requests/{said.nexus('Request-Id')}", headers=bearer(ADMIN))).json
        assert (story["request"]["model"], story["request"]["key"], story["code"]) == ("big", "laptop", "model_not_allowed")
        assert (await ask(gateway, "alias", headers=bearer(LAPTOP))).nexus(
            "Model"
        ) == "big"  # what an alias means is the operator's word
        assert (await ask(gateway, "big", headers=bearer(ADMIN))).status == 200
        listed = (await page(gateway, "/v1/models", headers=bearer(LAPTOP))).json["data"]
        assert sorted(entry["id"] for entry in listed) == ["alias", "alpha", "tiny"]
        assert (await page(gateway, "/v1/models/big", headers=bearer(LAPTOP))).status == 404


async def test_flexible_is_no_way_to_a_model_that_the_key_does_not_open(nexus_gateway):
    async with openai_server(["big"]) as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), keys=KEYS)))
        said = await ask(gateway, "alpha", headers={**bearer(LAPTOP), "X-Nexus-Flexible": "true"})
        assert (said.status, said.error["code"]) == (403, "model_not_allowed")
        assert not chats(server)
        assert (await ask(gateway, "alpha", headers={**bearer(ADMIN), "X-Nexus-Flexible": "true"})).status == 200


async def test_only_an_admin_sees_inside(nexus_gateway):
    gateway = await nexus_gateway({"keys": KEYS})
    for path in (
        "/nexus/backends",
        "/nexus/models",
        "/nexus/queue",
        "/nexus/stats",
        "/nexus/requests",
        "/nexus/requests/x",
        "/nexus/events",
    ):
        said = await page(gateway, path, headers=bearer(LAPTOP))
        assert (said.status, said.error["code"]) == (403, "admin_only"), path
    assert (await page(gateway, "/nexus/backends", headers=bearer(ADMIN))).status == 200


async def test_a_key_sets_the_highest_lane(nexus_gateway):
    gate = asyncio.Event()
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server, max_concurrent=1), keys=KEYS)))
        server.next(Held(gate, Respond(json=SPOKEN)), path=CHAT)
        tasks, wait = [], asyncio.get_running_loop().create_task
        tasks.append(wait(ask(gateway, headers=bearer(ADMIN))))
        await server.until(lambda: server.in_flight == 1)
        for count, (key, lane) in enumerate([(LAPTOP, "high"), (LAPTOP, "low"), (ADMIN, "high"), (ADMIN, None)], 1):
            tasks.append(wait(ask(gateway, headers=bearer(key) | ({"X-Nexus-Priority": lane} if lane else {}))))
            await gateway.until(lambda count=count: len(gateway.gateway.waiting) == count)
        lanes = [(w.request.key, w.lane) for w in gateway.gateway.waiting.waiters()]
        assert lanes == [("boss", "high"), ("laptop", "normal"), ("boss", "normal"), ("laptop", "low")]
        gate.set()
        assert [a.status for a in await asyncio.gather(*tasks)] == [200] * 5


# ---------------------------------------------------------------- hosts and origins


KNOWN = [
    "localhost",
    "LOCALHOST:1",
    "127.0.0.1:6398",
    "[::1]:6398",
    "192.168.1.7",
    "chat.example.org",
    "CHAT.example.org.:443",
    "gpubox",
    "gpubox.local:6398",
    "nexus.lan",
    "box.home.arpa",
    "host.docker.internal",
    "litellm_1",
    "localhost:",
    "local",
]
UNKNOWN = [
    "evil.example",
    "evil.example:6398",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.local.example",
    "evillocal.example",
    "user@localhost@evil.example",
    "[::1",
    "[::1].evil.com",
    "evil.com[::1]",
    "[::1]evil.com:80",
    "[::1%25evil.com]",
    "[::1%lo]",
    "[::1]:80:80",
    "::1",
    "[127.0.0.1]",
    "evil.com:80@127.0.0.1",
    "127.0.0.1:evil.com",
    "127.0.0.1:99999",
    "127.1",
    "0x7f.1",
    "evil.com/.local",
    "evil..local",
    ".local",
    "evil%2ecom.local",
    "localhost, evil.com",
]


@pytest.mark.parametrize(("hosts", "status"), [(KNOWN, 200), (UNKNOWN, 403)], ids=["known", "unknown"])
async def test_only_hosts_that_are_known_are_answered(nexus_gateway, hosts, status):
    """A page whose name was made to point here (DNS rebinding) calls with its own name as Host."""
    gateway = await nexus_gateway({"server": {"hosts": ["chat.example.org"]}})
    for host in hosts:
        with case(host):
            for path in ("/v1/models", "/", "/nexus/backends", "/metrics"):
                assert (await page(gateway, path, headers={"Host": host})).status == status, path
            for path in ("/health", "/health/ready"):
                assert (await page(gateway, path, headers={"Host": host})).status in (200, 503)
            said = await ask(gateway, headers={"Host": host})
            assert said.status == (503 if status == 200 else 403)
            if status == 403:
                assert said.error["code"] == "host_not_allowed"


async def test_the_refusal_of_a_host_says_what_to_write(nexus_gateway):
    gateway = await nexus_gateway({"server": {"hosts": ["chat.example.org"]}})
    said = await ask(gateway, headers={"Host": "Gateway.Example.com:443"})
    assert said.error["message"].startswith("gateway.example.com ")
    assert '`hosts = ["chat.example.org", "gateway.example.com"]` under [server]' in said.error["message"]
    gateway = await nexus_gateway({"server": {"hosts": ["chat.example.org", "gateway.example.com"]}})
    assert (await page(gateway, "/v1/models", headers={"Host": "gateway.example.com"})).status == 200


@pytest.mark.parametrize("host", ["evil.example", "[::1].evil.com", "gateway.example.com:443"])
async def test_where_keys_are_needed_a_name_is_no_danger(nexus_gateway, host):
    async with openai_server() as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), keys=KEYS)))
        for key, status in ((LAPTOP, 200), ("wrong", 401), (None, 401)):
            headers = {"Host": host} | (bearer(key) if key else {})
            assert (await ask(gateway, headers=headers)).status == status
            assert (await page(gateway, "/v1/models", headers=headers)).status == status
        assert (await page(gateway, "/nexus/backends", headers={"Host": host, **bearer(ADMIN)})).status == 200
        assert (await page(gateway, "/health", headers={"Host": host})).status == 200
        assert (await page(gateway, "/", headers={"Host": host})).status == 403  # nobody needs a key for it


def hosts_of_a_page(text: str) -> str | None:
    """What a careless reader may take for the host: each of these has been somebody's way around such a check."""
    return urlsplit(f"//{text}").hostname


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from(list("ab.:[]%@/\\?#-_0179xlocalhost \t,\u00e9\u3002")), max_size=30))
def test_a_host_is_read_in_one_way_or_not_at_all(text):
    host = host_in(text)
    if host is None:
        return
    assert set(text) <= set(string.ascii_letters + string.digits + ".-_:[]")
    assert hosts_of_a_page(text).removesuffix(".") == (host if not is_address(host) else hosts_of_a_page(text))
    if is_address(host):
        ipaddress.ip_address(hosts_of_a_page(text))
    assert host_in(host if ":" not in host else f"[{host}]") == host


@pytest.mark.parametrize("keys", [[], KEYS])
@pytest.mark.parametrize("public", [False, True])
async def test_counts_that_name_models_are_an_admins(nexus_gateway, keys, public):
    gateway = await nexus_gateway({"keys": keys, "metrics": {"public": public}})
    for headers, status in (({}, 401), (bearer("wrong"), 401), (bearer(LAPTOP), 403), (bearer(ADMIN), 200)):
        said = await page(gateway, "/metrics", headers=headers)
        assert said.status == (status if keys and not public else 200)
        assert (b"nexus_backends" in said.body) == (said.status == 200)


async def test_what_is_wrong_is_told_by_name_to_those_who_may_see_inside(nexus_gateway):
    gateway = await nexus_gateway({"keys": KEYS})
    gateway.gateway.problems["probe secret-box"] = "crashed"
    for path in ("/health", "/health/ready"):
        for headers in ({}, bearer("wrong"), bearer(LAPTOP)):
            assert (await page(gateway, path, headers=headers)).json["problems"] == {}
        assert (await page(gateway, path, headers=bearer(ADMIN))).json["problems"] == {"probe secret-box": "crashed"}
    gateway = await nexus_gateway()
    gateway.gateway.problems["probe box"] = "crashed"
    assert (await page(gateway, "/health")).json["problems"] == {"probe box": "crashed"}


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("https://chat.example.org", True),
        ("HTTPS://Chat.example.org", True),
        ("http://chat.example.org", False),
        ("https://chat.example.org.evil.example", False),
        ("https://chat.example.org:8443", False),
        ("null", False),
        ("", False),
        ("http://[", False),
        ("file://", False),
        ("http://localhost:3000", False),
        ("{own}", True),
    ],
)
async def test_pages_of_listed_origins_and_of_our_own_may_call(nexus_gateway, origin, allowed):
    async with openai_server() as server:
        gateway = await settled(
            await nexus_gateway(fleet(a_backend("one", server), server={"origins": ["https://chat.example.org"]}))
        )
        origin = origin.format(own=gateway.url)
        for stream in (False, True):
            said = await ask(gateway, headers={"Origin": origin}, stream=stream)
            assert said.status == (200 if allowed else 403)
            assert said.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)
            assert allowed or said.error["code"] == "origin_not_allowed"
        assert len(chats(server)) == (2 if allowed else 0)
        unknown = await page(gateway, "/v1/models/none", headers={"Origin": origin})
        assert unknown.status == (404 if allowed else 403)
        assert unknown.headers.get("Access-Control-Allow-Origin") == (origin if allowed else None)


async def test_a_browser_may_ask_first(nexus_gateway):
    gateway = await nexus_gateway({"server": {"origins": ["https://chat.example.org"]}, "keys": KEYS})
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization,content-type"}
    async with gateway.client.options(CHAT, headers={"Origin": "https://chat.example.org", **asked}) as answer:
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "https://chat.example.org"
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert answer.headers["Access-Control-Allow-Headers"] == asked["Access-Control-Request-Headers"]
        assert answer.headers["Vary"] == "Origin"
    async with gateway.client.options(CHAT, headers={"Origin": "https://evil.example", **asked}) as answer:
        assert answer.status == 403
        assert "Access-Control-Allow-Origin" not in answer.headers
    refused = await ask(gateway, headers={"Origin": "https://chat.example.org"})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://chat.example.org")


async def test_keys_are_compared_as_they_are_sent(nexus_gateway):
    """Odd bytes in a key are a wrong key, not a fault."""
    gateway = await nexus_gateway({"keys": KEYS})
    for odd in ("ü", "\x80\xff", LAPTOP + "x", LAPTOP.upper(), "a" * 8000):
        status, _ = await raw(gateway.url, f"GET /v1/models HTTP/1.1\nHost: localhost\nx-api-key: {odd}")
        assert status == 401, odd
    async with aiohttp.ClientSession(gateway.url) as client, client.get("/v1/models", headers={"x-api-key": LAPTOP}) as answer:
        assert json.loads(await answer.read()) == {"object": "list", "data": []}
