"""The recogniser, by the doubles and by servers that mislead; identities; private addresses."""

import asyncio
import socket

import aiohttp
import nexus_llamacpp
import nexus_ollama
import nexus_openai
import nexus_vllm
import pytest

from nexus.api import Check, Fingerprint, Secret
from nexus.discovery import MAX_BYTES, Recognised, identity, is_private, recognise
from nexus.testing import (
    Dribble,
    Hang,
    Malformed,
    Respond,
    ScriptedUpstream,
    litellm_server,
    llamacpp_server,
    llamafile_server,
    llamaswap_server,
    localai_server,
    mlx_server,
    ollama_server,
    openai_server,
    rayserve_server,
    transformers_server,
    vllm_server,
)

PLUGINS = (nexus_openai, nexus_llamacpp, nexus_vllm, nexus_ollama)
ALL = [(kind.name, print_) for plugin in PLUGINS for kind in plugin.nexus_backends() for print_ in kind.fingerprints]
DOUBLES = {
    "localai": localai_server,
    "llamaswap": llamaswap_server,
    "ollama": ollama_server,
    "llamacpp": llamacpp_server,
    "vllm": vllm_server,
    "llamafile": llamafile_server,
    "rayserve": rayserve_server,
    "litellm": litellm_server,
    "transformers": transformers_server,
    "mlx": mlx_server,
    "openai-compatible": openai_server,
}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


def one(path: str, rank: int = 1, **kw) -> Fingerprint:
    return Fingerprint(ports=(), checks=(Check(path=path, **kw),), rank=rank)


async def answer(act, check: Check, session) -> Recognised | None:
    async with ScriptedUpstream(act) as server:
        return await recognise(server.url, [("x", Fingerprint(ports=(), checks=(check,)))], session)


# ---------------------------------------------------------------- the doubles


@pytest.mark.parametrize("kind", DOUBLES)
@pytest.mark.parametrize("order", [1, -1])
async def test_every_server_is_recognised_by_what_it_says(kind, order, session):
    async with DOUBLES[kind]() as server:
        found = await recognise(server.url, ALL[::order], session)
    assert found is not None
    assert found.kind == kind
    assert found.evidence
    assert {received.method for received in server.requests} == {"GET"}
    paths = [received.path for received in server.requests]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("suffix", ["/", "/v1", "/v1/"])
async def test_the_url_may_carry_the_path_of_the_api(suffix, session):
    async with vllm_server() as server:
        found = await recognise(server.url + suffix, ALL, session)
    assert found == Recognised(kind="vllm", evidence="/version has version, /v1/models has data.0.max_model_len")


async def test_the_evidence_is_what_was_seen(session):
    async with ollama_server() as server:
        found = await recognise(server.url, ALL, session)
    assert found == Recognised(kind="ollama", evidence='/api/version has version, / says "Ollama is running"')


async def test_asking_stops_at_the_first_match(session):
    async with localai_server() as server:
        await recognise(server.url, ALL, session)
    assert [received.path for received in server.requests] == ["/.well-known/localai.json"]


async def test_a_probe_that_costs_money_is_never_made(session):
    async with litellm_server(api_key="sk-1") as server:
        found = await recognise(server.url, ALL, session)
    assert found is not None
    assert found.kind == "litellm"
    assert server.billed == 0


async def test_a_server_that_loads_is_not_taken_for_a_stranger(session):
    async with llamacpp_server(loading=True) as server:
        assert await recognise(server.url, ALL, session) is None
        server.loading = False
        found = await recognise(server.url, ALL, session)
    assert found is not None
    assert found.kind == "llamacpp"


async def test_the_key_is_shown_only_when_it_is_given(session):
    async with openai_server(api_key="sk-1") as server:
        assert await recognise(server.url, ALL, session) is None
        found = await recognise(server.url, ALL, session, key=Secret("sk-1"))
    assert found is not None
    assert found.kind == "openai-compatible"


# ---------------------------------------------------------------- servers that mislead


@pytest.mark.parametrize(
    "act",
    [
        Respond(body=b"<!DOCTYPE html><p>build_info</p>", headers={"Content-Type": "text/html"}),
        Respond(body=b"\n <html>build_info</html>"),
        Respond(body=b"build_info"),
        Respond(json=["build_info"]),
        Respond(json={"build_info": None}),
        Respond(body=b"[" * 200_000),
        Respond(body=b'{"build_info": "' + b"x" * MAX_BYTES + b'"}'),
        Respond(404, json={"build_info": "b1"}),
        Respond(302, headers={"Location": "/props2"}),
        Malformed(b"SSH-2.0-OpenSSH_9.2\r\n"),
        Malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}"),
        Malformed(b""),
    ],
    ids=lambda act: f"{act!r:.60}",
)
async def test_what_is_no_match(act, session):
    async with ScriptedUpstream(act) as server:
        server.on("/props2", Respond(json={"build_info": "b1"}))
        assert await recognise(server.url, [("x", one("/props", json="build_info"))], session) is None
    assert not server.calls("/props2")


@pytest.mark.parametrize("act", [Hang(), Dribble(Respond(json={"build_info": "b1"}), size=1, interval=0.1)])
async def test_a_slow_server_is_given_up(act, session):
    started = asyncio.get_running_loop().time()
    async with ScriptedUpstream(act) as server:
        assert await recognise(server.url, [("x", one("/props", json="build_info"))], session, timeout=0.3) is None
    assert asyncio.get_running_loop().time() - started < 5


async def test_nobody_there(session, unused_tcp_port_factory):
    assert await recognise(f"http://127.0.0.1:{unused_tcp_port_factory()}", ALL, session) is None
    assert await recognise("http://[nonsense", ALL, session) is None


async def test_a_broken_connection_leaves_the_question_open(session):
    """Whoever breaks off now may be what the earlier fingerprint says: a later one must not get it."""
    async with ScriptedUpstream(Respond(json={"ok": 1})) as server:
        server.on("/first", Malformed(b""))
        prints = [("first", one("/first", json="ok")), ("second", one("/second", rank=2, json="ok"))]
        assert await recognise(server.url, prints, session) is None
    assert not server.calls("/second")


# ---------------------------------------------------------------- checks


@pytest.mark.parametrize(
    ("check", "holds"),
    [
        (Check(path="/"), True),
        (Check(path="/", status=204), False),
        (Check(path="/", json="data.0.id"), True),
        (Check(path="/", json="data.1.id"), False),
        (Check(path="/", json="data.x"), False),
        (Check(path="/", json="data.0.id.deeper"), False),
        (Check(path="/", json="count"), True),
        (Check(path="/", text='"tiny"'), True),
        (Check(path="/", text="other"), False),
        (Check(path="/", header="X-Kind"), True),
        (Check(path="/", header="X-Other"), False),
        (Check(path="/", json="data", text="tiny", header="x-kind"), True),
        (Check(path="/", json="data", text="other", header="x-kind"), False),
    ],
    ids=str,
)
async def test_checks(check, holds, session):
    act = Respond(json={"data": [{"id": "tiny"}], "count": 0}, headers={"X-Kind": "y"})
    assert (await answer(act, check, session) is not None) == holds


async def test_a_fingerprint_without_checks_matches_nothing(session):
    async with ScriptedUpstream(Respond(json={})) as server:
        assert await recognise(server.url, [("x", Fingerprint(ports=(), checks=()))], session) is None
    assert not server.requests


async def test_a_status_alone_is_evidence_too(session):
    found = await answer(Respond(204), Check(path="/ping", status=204), session)
    assert found == Recognised(kind="x", evidence="/ping answers 204")


# ---------------------------------------------------------------- identity and privacy


def own_address() -> str | None:
    """The address this machine would send from, where it has one besides loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("198.51.100.1", 9))
        except OSError:
            return None
        return probe.getsockname()[0]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST", "127.0.0.1", "127.0.0.2", "::1", "[::1]", "0.0.0.0", "::", "::ffff:127.0.0.1"]
)
async def test_own_addresses_are_one(host):
    assert await identity(host, 8080) == ("127.0.0.1", 8080)


async def test_the_address_of_a_card_is_own_too():
    address = own_address()
    if address is None:
        pytest.skip("this machine has loopback only")
    assert await identity(address, 8080) == ("127.0.0.1", 8080)


async def test_other_machines_keep_their_address():
    assert await identity("198.51.100.7", 8080) == ("198.51.100.7", 8080)
    assert await identity("2001:db8::7", 8080) == ("2001:db8::7", 8080)
    assert await identity("198.51.100.7", 8080) != await identity("198.51.100.7", 8081)


async def test_a_name_that_does_not_resolve_stands_for_itself(monkeypatch):
    async def fails(*args, **kw):
        raise socket.gaierror("no")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
    assert await identity("GPU.local", 8080) == ("gpu.local", 8080)


async def test_a_resolver_that_hangs_is_given_up(monkeypatch):
    async def hangs(*args, **kw):
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hangs)
    assert await identity("gpu.local", 8080, timeout=0.05) == ("gpu.local", 8080)


@pytest.mark.parametrize(
    ("addresses", "one"),
    [
        (("198.51.100.9", "198.51.100.2"), "198.51.100.2"),
        (("192.168.200.201", "8.8.8.8"), "8.8.8.8"),
        (("127.0.0.1", "198.51.100.2"), "198.51.100.2"),
        (("127.0.0.1", "127.0.1.1"), "127.0.0.1"),
    ],
)
async def test_a_name_with_many_addresses_is_stable_and_no_more_private_than_the_worst(addresses, one, monkeypatch):
    async def many(host, port, **kw):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", many)
    assert await identity("gpu.local", 8080) == (one, 8080)


@pytest.mark.parametrize(
    ("address", "private"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("10.1.2.3", True),
        ("172.16.0.1", True),
        ("172.31.255.255", True),
        ("172.32.0.1", False),
        ("192.168.1.20", True),
        ("169.254.1.1", True),
        ("::1", True),
        ("fd00::1", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("::ffff:192.168.1.1", True),
        ("::ffff:8.8.8.8", False),
        ("64:ff9b::a00:1", False),  # NAT64: whoever translates decides where it leads
        ("64:ff9b:1::a00:1", False),
        ("2002:a00:1::1", False),  # 6to4
        ("2001:0:a00:1::1", False),  # Teredo
        ("::10.0.0.1", False),
        ("::ffff:100.64.0.1", False),
        ("198.18.0.1", False),
        ("240.0.0.1", False),
        ("8.8.8.8", False),
        ("100.64.0.1", False),
        ("192.0.2.1", False),
        ("0.0.0.0", False),
        ("2001:db8::1", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_private_addresses(address, private):
    assert is_private(address) is private
