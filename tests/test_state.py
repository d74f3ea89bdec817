"""What survives a restart, that several may share it, and that nothing that befalls it harms anybody."""

import asyncio
import json
import logging
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
from aiohttp.test_utils import TestServer

from nexus.api import replace
from nexus.model import Model, Price, State
from nexus.server import GATEWAY, create_app
from nexus.state import FILE, Store, pid_at
from nexus.tasks import Tasks
from nexus.testing import FakeModel, ollama_server, openai_server, until
from nexus.testing.gateway import running_gateway

from .asking import a_backend, ask, chats, fleet, page, settled

LOG = logging.getLogger("nexus")


def a_store(path, problems=None) -> Store:
    return Store(path, {} if problems is None else problems, LOG)


def kept(path):
    """The ids of the models in the file, by the URL of their backend."""
    with closing(sqlite3.connect(path / FILE, timeout=5)) as db:
        return {url: [model["id"] for model in json.loads(text)] for url, text in db.execute("SELECT url, models FROM models")}


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
    store = a_store(tmp_path)
    store.keep("http://x", [FULL, Model(id="plain")])
    store.keep("http://y", [])
    store.close()
    store = a_store(tmp_path)
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
    store = a_store(tmp_path)
    store.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("INSERT INTO models VALUES ('http://x', ?)", (text,))
    store = a_store(tmp_path)
    assert store.models("http://x") == ()
    store.close()


# ---------------------------------------------------------------- several on one file


def test_several_share_a_directory_and_each_adds_to_what_is_known(tmp_path):
    one, two = a_store(tmp_path), a_store(tmp_path)
    one.keep("http://x", [Model(id="a")])
    two.keep("http://y", [Model(id="b")])
    one.close()
    two.close()
    assert kept(tmp_path) == {"http://x": ["a"], "http://y": ["b"]}


def test_processes_that_write_at_the_same_time_lose_nothing(tmp_path):
    code = (
        "import logging, sys; from pathlib import Path; from nexus.state import Store; from nexus.model import Model\n"
        "for turn in range(20):\n"
        "    store = Store(Path(sys.argv[1]), {}, logging.getLogger())\n"
        "    store.keep(f'http://{sys.argv[2]}-{turn}', [Model(id='m')]); store.close()\n"
    )
    running = [subprocess.Popen([sys.executable, "-c", code, tmp_path, str(n)]) for n in range(3)]
    assert [process.wait(timeout=60) for process in running] == [0, 0, 0]
    assert len(kept(tmp_path)) == 60


async def test_two_gateways_on_one_directory_both_serve(tmp_path):
    async with openai_server() as server:
        tables = fleet(a_backend("one", server))
        async with running_gateway(tables, state_dir=tmp_path) as one, running_gateway(tables, state_dir=tmp_path) as two:
            for gateway in (one, two):
                assert (await ask(await settled(gateway))).status == 200
                assert (await page(gateway, "/health")).json["problems"] == {}
    assert kept(tmp_path) == {server.url: ["tiny"]}


async def test_without_a_state_directory_an_application_keeps_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("nexus.state.default_dir", lambda: pytest.fail("it belongs to nexus serve"))
    async with openai_server() as server:
        app = create_app({"discovery": {"sources": []}, **fleet(a_backend("one", server))})
        async with TestServer(app):
            store = app[GATEWAY].store
            place = store.directory  # for components that want one
            assert place.is_dir()
            await until(lambda: store.models(server.url))
        assert not place.exists()


def test_who_serves_at_a_port_is_known_while_it_runs(tmp_path):
    assert pid_at(tmp_path, 6398) is None
    store = a_store(tmp_path)
    store.announce("http://127.0.0.1:6398")
    assert pid_at(tmp_path, 6398) == os.getpid()
    assert pid_at(tmp_path, 398) is None
    store.close()
    assert pid_at(tmp_path, 6398) is None


def test_who_has_died_serves_nowhere(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(timeout=60)
    a_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as db, db:
        db.execute("INSERT INTO gateways VALUES ('http://127.0.0.1:6398', ?)", (gone.pid,))
        db.execute("INSERT INTO gateways VALUES ('http://127.0.0.1:6399', ?)", (2**62,))
    assert pid_at(tmp_path, 6398) is None
    assert pid_at(tmp_path, 6399) is None


# ---------------------------------------------------------------- where it cannot be used


def in_the_way(path):
    path.write_text("no directory")


def no_database(path):
    path.mkdir()
    (path / FILE).write_bytes(b"no database" * 1000)


def cut_short(path):
    store = a_store(path)
    store.keep("http://x", [Model(id=f"m{n}") for n in range(5000)])
    store.close()
    (path / FILE).write_bytes((path / FILE).read_bytes()[:5000])


def newer(path):
    a_store(path).close()
    with closing(sqlite3.connect(path / FILE)) as db, db:
        db.execute("DROP TABLE models")
        db.execute("PRAGMA user_version = 2")


OBSTACLES = {in_the_way: "no directory", no_database: "move the file", cut_short: "move the file", newer: "a newer Nexus"}


@pytest.mark.parametrize("obstacle", OBSTACLES, ids=lambda obstacle: obstacle.__name__)
async def test_what_cannot_be_used_is_said_once_and_nexus_goes_on(tmp_path, caplog, monkeypatch, obstacle):
    monkeypatch.setattr("nexus.state.FIRST_PAUSE_SECONDS", 0.01)
    write, tries = Store._write, []
    monkeypatch.setattr(Store, "_write", lambda self: (tries.append(1), write(self)))
    place = tmp_path / "state"
    obstacle(place)
    before = place.read_bytes() if place.is_file() else (place / FILE).read_bytes()
    async with openai_server() as server, running_gateway(fleet(a_backend("one", server)), state_dir=place) as gateway:
        assert (await ask(await settled(gateway))).status == 200
        problem = (await page(gateway, "/health")).json["problems"]["state"]
        assert OBSTACLES[obstacle] in problem
        assert str(tmp_path) not in problem  # anybody may read it
        await gateway.until(lambda: len(tries) >= 3)
    said = [record.getMessage() for record in caplog.records if "state" in record.getMessage()]
    assert len(said) == 1
    assert str(place) in said[0]
    assert "[server] state_dir" in said[0]
    assert (place.read_bytes() if place.is_file() else (place / FILE).read_bytes()) == before


def fill(db):
    """As full as a disk can be: not one page more."""
    db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0]}")


def empty(db):
    db.execute("PRAGMA max_page_count = 1000000")


def no_more(db):
    db.execute("PRAGMA query_only = ON")


def again(db):
    db.execute("PRAGMA query_only = OFF")


@pytest.mark.parametrize(("breaks", "mends", "said"), [(fill, empty, "full"), (no_more, again, "readonly")])
async def test_a_write_that_fails_harms_nobody_and_is_made_good(tmp_path, caplog, monkeypatch, breaks, mends, said):
    monkeypatch.setattr("nexus.state.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("nexus.state.GATHERING_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    async with openai_server() as server:
        tables = fleet(a_backend("one", server), health={"interval_seconds": 1, "failure_threshold": 1})
        async with running_gateway(tables, state_dir=tmp_path) as gateway:
            await gateway.until(lambda: kept(tmp_path) == {server.url: ["tiny"]})
            breaks(gateway.gateway.store._db)
            server.models = {name: FakeModel(name) for name in (f"{n}-{'x' * 200}" for n in range(300))}
            gateway.gateway.fleet.doubted("one")
            await gateway.until(lambda: "state" in gateway.gateway.problems)
            assert said in gateway.gateway.problems["state"]
            assert (await ask(gateway, next(iter(server.models)))).status == 200
            server.stop_listening()
            server.cut_connections()
            gateway.gateway.fleet.doubted("one")
            await gateway.until(lambda: gateway.gateway.fleet.standings["one"].pulse.health == "unhealthy")
            mends(gateway.gateway.store._db)
            await gateway.until(lambda: len(kept(tmp_path)[server.url]) == 300)
            assert "state" not in gateway.gateway.problems
    told = [r.getMessage() for r in caplog.records if r.name == "nexus" and "the state in" in r.getMessage()]
    assert len(told) == 2
    assert told[1].endswith("is kept again")


async def test_what_a_crash_kept_from_being_written_is_written_by_who_begins_again(tmp_path, monkeypatch):
    monkeypatch.setattr("nexus.tasks.FIRST_PAUSE_SECONDS", 0.01)
    problems: dict[str, str] = {}
    log = logging.getLogger("test.state")
    log.disabled = True
    store, write = Store(tmp_path, problems, log), Store._write
    crashes = [MemoryError(), RuntimeError("no thread can be started")]

    def crash(self):
        if crashes:
            raise crashes.pop()
        write(self)

    monkeypatch.setattr(Store, "_write", crash)
    async with Tasks(log, problems) as tasks:
        tasks.spawn(store.run, "keep state")
        store.keep("http://one", [Model(id="tiny")])
        await until(lambda: kept(tmp_path) == {"http://one": ["tiny"]})
    store.close()


async def test_a_file_that_somebody_holds_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr("nexus.state.FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr("nexus.state.LOCKED_SECONDS", 0.01)
    a_store(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as db:
        db.execute("BEGIN EXCLUSIVE")
        async with openai_server() as server, running_gateway(fleet(a_backend("one", server)), state_dir=tmp_path) as gateway:
            assert (await ask(await settled(gateway))).status == 200
            await gateway.until(lambda: "locked" in gateway.gateway.problems.get("state", ""))
            db.execute("COMMIT")
            await gateway.until(lambda: kept(tmp_path) == {server.url: ["tiny"]})
            await gateway.until(lambda: not gateway.gateway.problems)


# ---------------------------------------------------------------- what writing costs


def writes(store):
    """How many rows its connection has changed."""
    return store._db.total_changes


async def test_only_what_differs_is_written_and_the_newest_wins(tmp_path, monkeypatch):
    monkeypatch.setattr("nexus.state.GATHERING_SECONDS", 0.0)
    store = a_store(tmp_path)
    async with Tasks(LOG) as tasks:
        for state in (State.READY, State.ASLEEP):
            store.keep("http://x", [Model(id="a", state=state)])
        tasks.spawn(store.run, "keep state")
        await until(lambda: kept(tmp_path) == {"http://x": ["a"]})
        assert writes(store) == 1
        store.keep("http://x", [Model(id="a", state=State.LOADING, eta=3.0)])  # loaded and unloaded: nothing that is kept
        await until(lambda: not store._unsaved)
        store.keep("http://x", [Model(id="b")])
        store.keep("http://x", [Model(id="c")])
        await until(lambda: kept(tmp_path) == {"http://x": ["c"]})
        assert writes(store) == 2
    store.close()
    assert [m.id for m in a_store(tmp_path).models("http://x")] == ["c"]


async def test_the_loop_goes_on_while_ten_thousand_models_are_written(tmp_path):
    store = a_store(tmp_path)
    models = [replace(FULL, id=f"m{n}") for n in range(10_000)]
    turns = 0
    async with Tasks(LOG) as tasks:
        tasks.spawn(store.run, "keep state")
        store.keep("http://x", models)
        while "http://x" not in store._written:
            await asyncio.sleep(0)
            turns += 1
    store.close()
    assert turns > 10


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
