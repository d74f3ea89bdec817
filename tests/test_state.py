"""What survives a restart, and that one process at a time keeps it."""

import sqlite3
import subprocess
import sys

import pytest

from nexus.errors import StartupError
from nexus.model import Model, Price, State
from nexus.state import Store
from nexus.testing import FakeModel, ollama_server, openai_server
from nexus.testing.gateway import running_gateway

from .asking import a_backend, ask, chats, fleet, settled

FULL = Model(
    id="m",
    aliases=("a", "b"),
    offers={"vision": True, "tools": False},
    context=8192,
    context_max=131072,
    max_output_tokens=4096,
    price=Price(input=1, output=2.5, cached=0.1),
    state=State.READY,
    eta=3.0,
    remote=True,
    evidence="its tag says cloud",
    speaks=frozenset({("openai", "chat"), ("openai", "embedding")}),
    takes_usage=True,
)


def test_models_come_back_as_they_were_but_for_their_state(tmp_path):
    store = Store(tmp_path)
    store.keep("http://x", [FULL, Model(id="plain")])
    store.keep("http://y", [])
    store.close()
    store = Store(tmp_path)
    kept, plain = store.models("http://x")
    assert (kept.state, kept.eta) == (State.UNKNOWN, None)
    for name in (
        "id",
        "aliases",
        "offers",
        "context",
        "context_max",
        "max_output_tokens",
        "price",
        "remote",
        "evidence",
        "speaks",
        "takes_usage",
    ):
        assert getattr(kept, name) == getattr(FULL, name)
    assert plain == Model(id="plain")
    assert store.models("http://y") == store.models("http://z") == ()
    store.keep("http://x", [Model(id="new")])
    assert [m.id for m in store.models("http://x")] == ["new"]
    store.close()


@pytest.mark.parametrize(
    "text", ["", "not json", "{}", "[1]", '[{"name": "from a later version"}]', '[{"id": "m", "later": 1}]', "null"]
)
def test_what_is_not_legible_is_as_if_it_were_not_there(tmp_path, text):
    store = Store(tmp_path)
    store.close()
    with sqlite3.connect(tmp_path / "state.sqlite3") as db:
        db.execute("INSERT INTO models VALUES ('http://x', ?)", (text,))
    db.close()
    store = Store(tmp_path)
    assert store.models("http://x") == ()
    store.close()


def test_a_second_process_hears_one_clear_sentence(tmp_path):
    store = Store(tmp_path)
    code = f"from pathlib import Path; from nexus.state import Store; Store(Path({str(tmp_path)!r}))"
    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode == 1
    last = second.stderr.strip().splitlines()[-1]
    assert last.startswith("nexus.errors.StartupError: the state directory ")
    assert "in use by another Nexus" in last
    assert "--state-dir" in last
    assert "[server] state_dir" in last
    store.close()
    third = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (third.returncode, third.stderr) == (0, "")


@pytest.mark.parametrize("obstacle", ["a file", "garbage"])
def test_a_directory_that_cannot_be_used_is_said_so(tmp_path, obstacle):
    place = tmp_path / "state"
    if obstacle == "a file":
        place.write_text("in the way")
    else:
        place.mkdir()
        (place / "state.sqlite3").write_bytes(b"no database" * 100)
    with pytest.raises(StartupError, match="state_dir"):
        Store(place)


async def test_a_second_gateway_on_the_directory_does_not_start_and_leaves_the_first_alone(tmp_path):
    async with openai_server() as server, running_gateway(fleet(a_backend("one", server)), state_dir=tmp_path) as gateway:
        with pytest.raises(StartupError, match="in use by another Nexus"):
            async with running_gateway(state_dir=tmp_path):
                pass
        assert (await ask(gateway)).status == 200
    async with running_gateway(state_dir=tmp_path) as again:
        assert (await again.client.get("/health")).status == 200


async def test_the_last_known_models_survive_a_restart_with_the_backend_down(tmp_path):
    """It is known who would serve the model, so the answer is 503, not 404; and the backend is asked as soon as it is back."""
    async with ollama_server([FakeModel("llama3:latest", vision=True)]) as server:
        config = fleet(a_backend("one", server, "ollama"), health={"recovery_threshold": 1})
        async with running_gateway(config, state_dir=tmp_path) as first:
            assert (await ask(await settled(first), "llama3")).status == 200
        server.stop_listening()
        server.cut_connections()
        async with running_gateway(config, state_dir=tmp_path) as second:
            said = await ask(await settled(second), "llama3")
            assert (said.status, said.error["code"]) == (503, "backends_unavailable")
            assert said.headers.get("Retry-After") is None
            (candidate,) = second.gateway.fleet.standings["one"].candidates()
            assert (candidate.offers["vision"], candidate.health, candidate.name) == (True, "unhealthy", "llama3:latest")
            async with second.client.get("/v1/models") as answer:
                assert (await answer.json())["data"] == []
            assert (await ask(second, "never-heard-of")).status == 404
            await server.start_listening()
            await second.until(lambda: second.gateway.fleet.standings["one"].pulse.health == "healthy")
            assert (await ask(second, "llama3")).status == 200


async def test_what_is_remembered_as_forwarded_stays_open(tmp_path):
    async with ollama_server([FakeModel("plain", remote_host="https://ollama.com:443")]) as server:
        config = fleet(a_backend("one", server, "ollama"))
        async with running_gateway(config, state_dir=tmp_path) as first:
            await settled(first)
        server.stop_listening()
        async with running_gateway(config, state_dir=tmp_path) as second:
            (candidate,) = (await settled(second)).gateway.fleet.standings["one"].candidates()
            assert (candidate.zone, candidate.cloud) == ("open", True)
            said = await ask(second, "plain", headers={"X-Nexus-Zone": "restricted"})
            assert said.status == 503
        assert not chats(server)
