"""The pytest plugin: its fixtures work, and it is harmless where there is no event loop to run them."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import aiohttp
import pytest

import nexus.testing
from nexus.errors import ConfigError
from nexus.testing import Respond, openai_server
from nexus.testing.gateway import completed


async def test_upstream_listens(upstream):
    upstream.default = Respond(json=1)
    async with aiohttp.ClientSession() as session, session.get(upstream.url) as answer:
        assert await answer.json() == 1


async def test_nexus_gateway_serves_a_configured_backend(nexus_gateway):
    async with openai_server(["m"]) as server:
        gateway = await nexus_gateway(f'[[backends]]\nname = "one"\ntype = "openai-compatible"\nurl = "{server.url}"\n')
        await gateway.until(lambda: server.calls("/v1/models"))
        async with gateway.client.get("/health") as answer:
            assert (answer.status, (await answer.json())["backends"]["total"]) == (200, 1)
        assert gateway.gateway is not None


async def test_two_gateways_do_not_share_their_state(nexus_gateway):
    one, two = await nexus_gateway(), await nexus_gateway({"server": {"stream_keepalive_seconds": 1}})
    assert one.url != two.url
    for gateway in (one, two):
        async with gateway.client.get("/health") as answer:
            assert answer.status == 200


async def test_a_mistake_in_the_configuration_is_told(nexus_gateway):
    with pytest.raises(ConfigError, match="hots"):
        await nexus_gateway('[server]\nhots = "127.0.0.1"\n')
    with pytest.raises(ConfigError):
        await nexus_gateway("[server\n")


def test_a_test_gateway_discovers_nothing_unless_told_to(tmp_path):
    assert completed("", tmp_path) == {"discovery": {"sources": []}, "server": {"state_dir": str(tmp_path)}}
    told = completed('[discovery]\nsources = ["loopback"]\n[server]\nstate_dir = "x"\n', tmp_path)
    assert told == {"discovery": {"sources": ["loopback"]}, "server": {"state_dir": "x"}}


async def test_aioresponses_works_with_this_aiohttp(aioresponses_fixed):
    aioresponses_fixed.get("http://somewhere/", payload={"a": 1}, headers={"X": "y"})
    async with aiohttp.ClientSession() as session, session.get("http://somewhere/") as answer:
        assert (await answer.json(), answer.headers["X"]) == ({"a": 1}, "y")


def run(*arguments, cwd):
    return subprocess.run([sys.executable, *arguments], cwd=cwd, capture_output=True, text=True, timeout=60)


def test_the_plugin_is_harmless_without_asyncio(tmp_path):
    (tmp_path / "test_x.py").write_text("def test_x(request):\n    assert 'upstream' not in request.fixturenames\n")
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:asyncio", "-p", "no:aiohttp", "-p", "no:cacheprovider", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_contracts_run_without_auto_mode(tmp_path):
    (tmp_path / "test_mine.py").write_text(
        textwrap.dedent("""
            from nexus.api import Observer, ObserverKind, opens
            from nexus.testing.contracts import ObserverContract

            class Blind(Observer):
                def __init__(self, options, scope): pass
                def see(self, event): pass

            class Crashing(Blind):
                def see(self, event): event.nothing

            class TestBlind(ObserverContract):
                kind = ObserverKind(name="blind", open=opens(Blind))

            class TestCrashing(ObserverContract):
                kind = ObserverKind(name="crashing", open=opens(Crashing))
        """)
    )
    mode = ("-o", "asyncio_mode=strict", "-o", "asyncio_default_fixture_loop_scope=function")
    done = run("-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", *mode, cwd=tmp_path)
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "TestCrashing::test_see_takes_every_event" in done.stdout


def test_the_doubles_do_not_need_pytest(tmp_path):
    code = "import sys; sys.modules['pytest'] = None; import nexus.testing, nexus.testing.servers, nexus.testing.gateway"
    done = run("-c", code, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    assert all(hasattr(nexus.testing, name) for name in nexus.testing.__all__)
    assert sorted(nexus.testing.__all__, key=lambda name: (name[0].islower(), name)) == nexus.testing.__all__
