"""What a person is told who has to do something on another machine, or to write a key."""

import logging

import pytest

from nexus import advice
from nexus.catalog import Catalog
from nexus.config import load
from nexus.testing import Respond, ScriptedUpstream, openai_server

from .asking import a_backend, ask, fleet, settled

KINDS = Catalog.load().backends
LAN, TAILNET, PUBLIC, OWN = "192.168.1.20", "100.101.102.103", "8.8.8.8", "127.0.0.1"


@pytest.mark.parametrize(
    ("kind", "port", "says"),
    [
        ("ollama", 11434, "OLLAMA_HOST=0.0.0.0"),
        ("ollama", 9999, "OLLAMA_HOST=0.0.0.0"),
        ("llamacpp", 8080, "llama-server there with --host 0.0.0.0"),
        ("openai-compatible", 1234, "Serve on Local Network"),
        ("llamafile", 8080, "--host"),
        ("mlx", 8080, "mlx_lm.server"),
        ("transformers", 8000, "transformers serve"),
        ("rayserve", 8000, "Ray Serve"),
        (None, 11434, "OLLAMA_HOST=0.0.0.0"),
        (None, 1234, "Serve on Local Network"),
        (None, 9931, "llama-server"),
        (None, 8080, "llama-server"),
        (None, 4000, ""),
        (None, 9999, ""),
        ("vllm", 8000, ""),  # it listens for everybody
        ("litellm", 4000, ""),
        ("openai", 443, ""),
    ],
)
def test_a_kind_says_what_to_do_on_its_machine(kind, port, says):
    for address in (LAN, TAILNET, "fd00::1", "fe80::1%eth0"):
        said = advice.refused(KINDS, kind, f"http://box:{port}", [address])
        assert said if says else not said
        assert says in said


@pytest.mark.parametrize("addresses", [[OWN], ["::1"], [PUBLIC], [LAN, PUBLIC], []])
def test_nothing_is_said_of_this_machine_or_of_the_internet(addresses):
    assert advice.refused(KINDS, "ollama", "http://box:11434", addresses) == ""


@pytest.mark.parametrize("type", ["ollama", "auto"])
async def test_a_refused_connection_says_what_to_type_there(nexus_gateway, monkeypatch, type, unused_tcp_port):
    monkeypatch.setattr("nexus.advice.is_own", lambda address: False)
    monkeypatch.setattr("nexus.advice._usual", lambda kinds, port: [KINDS["ollama"].refused])
    gateway = await settled(await nexus_gateway(fleet(a_backend("gpu", f"http://127.0.0.9:{unused_tcp_port}", type))))
    problem = gateway.gateway.fleet.standings["gpu"].problem
    assert problem.startswith(
        f"refused the connection at http://127.0.0.9:{unused_tcp_port}; if it runs, it may listen for its own machine"
    )
    assert problem.endswith("start Ollama there with OLLAMA_HOST=0.0.0.0")


async def test_one_that_is_found_and_wants_a_key_is_told_once_with_what_to_write(nexus_gateway, monkeypatch, caplog):
    monkeypatch.setattr("nexus.finding.AGAIN_SECONDS", 0.01)
    caplog.set_level(logging.INFO)
    async with ScriptedUpstream(Respond(401, json={"error": "no key"})) as server, openai_server() as other:
        tables = {"discovery": {"sources": ["loopback"]}, "loopback": {"ports": [server.port, other.port]}}
        gateway = await nexus_gateway(tables)
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny") and len(server.requests) > 40)
    told = [record.getMessage() for record in caplog.records if server.url in record.getMessage()]
    assert len(told) == 1
    sentence, _, lines = told[0].partition("\n")
    assert "401" in sentence
    (written,) = load(lines, env={"MINE_KEY": "k"})[0].backends
    assert (written.name, written.url, written.api_key_env) == ("mine", server.url, "MINE_KEY")


async def test_a_configured_one_that_wants_a_key_says_so_until_it_has_one(nexus_gateway, monkeypatch):
    async with openai_server(api_key="sk-right") as server:
        gateway = await settled(await nexus_gateway(fleet(a_backend("box", server, "auto"))))
        assert "wants a key" in gateway.gateway.fleet.standings["box"].problem
        monkeypatch.setenv("BOX_KEY", "sk-wrong")
        gateway = await settled(await nexus_gateway(fleet(a_backend("box", server, "auto", api_key_env="BOX_KEY"))))
        assert "does not take the key" in gateway.gateway.fleet.standings["box"].problem
        monkeypatch.setenv("BOX_KEY", "sk-right")
        gateway = await nexus_gateway(fleet(a_backend("box", server, "auto", api_key_env="BOX_KEY")))
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny"))
        assert (await ask(gateway)).status == 200
