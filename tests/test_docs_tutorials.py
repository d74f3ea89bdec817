"""The tutorials are followed: their files are put together from the page and run, against doubles of the servers they speak of."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from nexus.config import load
from nexus.server import GATEWAY
from nexus.testing import (
    Held,
    Respond,
    ScriptedUpstream,
    Stream,
    a_body,
    anthropic_server,
    ollama_server,
    openai_server,
    until,
)

from .docs_pages import ROOT, Block, blocks, files, forgotten

GUIDE = ROOT / "docs" / "guide"
STAGE, BACKEND, EMBED = GUIDE / "write-a-stage.md", GUIDE / "write-a-backend.md", GUIDE / "embed.md"
DIALECT = GUIDE / "write-a-dialect.md"
KIT = ROOT / "docs" / "reference" / "testing.md"
ADDRESS = "http://127.0.0.1:6398"


def written(page: Path, directory: Path) -> Path:
    """The files of a page, in a directory."""
    for name, text in files(page).items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return directory


@pytest.fixture
def imported() -> Iterator[Any]:
    """Imports files as modules, and forgets them after the test."""
    names: list[str] = []

    def import_(path: Path, name: str) -> ModuleType:
        places = [str(path.parent)] if path.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        names.append(name)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return module

    yield import_
    for name in [known for known in sys.modules if known.partition(".")[0] in names]:
        del sys.modules[name]


def run_pytest(directory: Path, *tests: str) -> str:
    """pytest as a reader would run it, in a directory of its own."""
    path = os.pathsep.join((str(directory), str(directory / "src")))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "asyncio_mode=auto", *tests]
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


async def ask(client: aiohttp.ClientSession, path: str, model: str) -> Mapping[str, str]:
    async with client.post(path, data=a_body(model)) as answer:
        assert answer.status == 200, await answer.text()
        return dict(answer.headers)


# ---------------------------------------------------------------- the tutorials and the examples are the same


@pytest.mark.parametrize(
    ("page", "example"),
    [(STAGE, "stage"), (BACKEND, "backend"), (DIALECT, "dialect")],
    ids=["write-a-stage", "write-a-backend", "write-a-dialect"],
)
def test_a_tutorial_builds_the_example(page, example):
    for name, text in files(page).items():
        there = (ROOT / "examples" / example / name).read_text(encoding="utf-8")
        assert text == there, f"examples/{example}/{name} is another file than the page's"


@pytest.mark.parametrize("page", [BACKEND, DIALECT], ids=["write-a-backend", "write-a-dialect"])
def test_a_tutorials_package_names_no_file_that_the_page_does_not_give(page):
    given = files(page)
    project = tomllib.loads(given["pyproject.toml"])
    assert project["project"].get("readme") in (None, *given)
    for folder in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]:
        assert f"{folder}/__init__.py" in given


# ---------------------------------------------------------------- write a stage


async def test_the_stage_of_the_tutorial_routes(tmp_path, imported, nexus_gateway):
    directory = written(STAGE, tmp_path)
    module = imported(directory / "my_stages.py", "my_stages_of_the_page")
    async with openai_server(["parrot"]) as bedroom, openai_server(["parrot"]) as cellar:
        for quiet in (False, True):
            tables = tomllib.loads((directory / "nexus.toml").read_text())
            del tables["plugins"]
            tables["backends"][0]["url"], tables["backends"][1]["url"] = bedroom.url, cellar.url
            tables["quiet"] |= {"from_hour": 0, "to_hour": 23} if quiet else {"from_hour": 5, "to_hour": 5}
            if quiet:  # at 23:00 it would not be night
                module.Quiet.is_quiet = lambda self: True
            nexus = await nexus_gateway(tables, plugins=[module])
            await nexus.until(lambda nexus=nexus: nexus.gateway.ready)
            headers = await ask(nexus.client, "/v1/chat/completions", "parrot")
            assert headers["X-Nexus-Backend"] == ("cellar" if quiet else "bedroom")


def test_the_configuration_of_the_stage_tutorial_loads_its_module(tmp_path, monkeypatch):
    directory = written(STAGE, tmp_path)
    forgotten(monkeypatch, "my_stages")
    config, catalog = load(directory / "nexus.toml", env={})
    assert "quiet" in catalog.stages
    assert config.options["quiet"].backends == ("bedroom",)


def test_the_tests_of_the_stage_tutorial_pass(tmp_path):
    assert " passed" in run_pytest(written(STAGE, tmp_path), "test_my_stages.py")


# ---------------------------------------------------------------- write a backend


async def test_the_backend_of_the_tutorial_serves(tmp_path, imported, nexus_gateway):
    module = imported(written(BACKEND, tmp_path) / "src" / "nexus_echo" / "__init__.py", "nexus_echo")
    about = {"echo": {"version": "1.0", "slots": 4}, "models": [{"id": "parrot", "context": 4096}]}
    async with openai_server(["parrot"]) as server:
        server.on("/echo", Respond(json=about), method="GET")
        tables = {"backends": [{"name": "echo", "url": server.url}]}  # type auto: the fingerprint must find it
        nexus = await nexus_gateway(tables, plugins=[module])
        await nexus.until(lambda: nexus.gateway.ready and "echo" in nexus.gateway.fleet.standings)
        headers = await ask(nexus.client, "/v1/chat/completions", "parrot")
        standing = nexus.gateway.fleet.standings["echo"]
    assert (headers["X-Nexus-Backend"], headers["X-Nexus-Privacy-Zone"]) == ("echo", "restricted")
    assert (standing.member.kind, standing.capacity) == ("echo", 4)


def test_the_tests_of_the_backend_tutorial_pass(tmp_path):
    assert " passed" in run_pytest(written(BACKEND, tmp_path), "tests/test_echo.py")


def test_the_ranks_of_the_backend_tutorial_are_those_of_the_kinds(tmp_path):
    from nexus.catalog import Catalog

    text = BACKEND.read_text(encoding="utf-8").partition("| rank | kinds |")[2].partition("\n\n")[0]
    told: dict[str, tuple[int, int]] = {}
    for line in text.splitlines()[2:]:
        _, ranks, kinds, _ = line.split("|")
        low, _, high = ranks.strip().partition("–")
        told |= {kind.strip(" `").partition("`")[0]: (int(low), int(high or low)) for kind in kinds.split(", ") if "`" in kind}
    real = {kind.name: kind.fingerprints[0].rank for kind in Catalog.load().backends.values() if kind.fingerprints}
    real.pop("echo", None)  # where somebody has installed the example
    assert set(told) == set(real)
    assert all(low <= real[name] <= high for name, (low, high) in told.items()), real


# ---------------------------------------------------------------- write a dialect


@pytest.fixture
async def plain(tmp_path, imported, nexus_gateway):
    """A gateway with the package of the page, before a plain server, one of OpenAI's API and one of Anthropic's."""
    module = imported(written(DIALECT, tmp_path) / "src" / "nexus_plain" / "__init__.py", "nexus_plain")
    async with ScriptedUpstream() as speaker, openai_server(["tiny"], text="one two") as openai, anthropic_server() as anthropic:
        speaker.on("/plain/models", Respond(json={"plain": 1, "models": [{"name": "starling", "context": 4096}]}), method="GET")
        tables = {
            "backends": [
                {"name": "speaker", "url": speaker.url, "zone": "open"},  # type auto: the fingerprint must find it
                {"name": "openai", "type": "openai-compatible", "url": openai.url},
                {"name": "anthropic", "type": "anthropic", "url": anthropic.url},
            ],
            "routing": {"aliases": {"mynah": ["starling"]}},
            "server": {"stream_keepalive_seconds": 0.5},
        }
        nexus = await nexus_gateway(tables, plugins=[module])
        standings = nexus.gateway.fleet.standings
        await nexus.until(lambda: len(standings) == 3 and all(standing.pairs for standing in standings.values()))
        yield nexus, speaker


PLAIN_ANSWER = {"model": "starling", "say": "h\u00e9 you", "why": "limit", "tokens": {"in": 3, "out": 2}}
PLAIN_STREAM = b'{"say":"h\\u00e9"}\n{"say":" you"}\n{"done":true,"why":"limit","tokens":{"in":3,"out":2}}\n'


def plain_stream(*pieces: bytes | asyncio.Event, end: str = "proper") -> Stream:
    return Stream(pieces, done=False, headers={"Content-Type": "application/x-ndjson"}, end=end)


async def test_plain_passes_through_and_an_alias_is_spliced(plain):
    nexus, speaker = plain
    speaker.on("/plain/chat", Respond(json=PLAIN_ANSWER))
    async with nexus.client.post("/plain/chat", data=b'{"model": "mynah",  "ask": "hi", "other": 1}') as answer:
        assert (answer.status, await answer.json(), answer.headers["X-Nexus-Backend"]) == (200, PLAIN_ANSWER, "speaker")
        assert speaker.requests[-1].json == {"model": "starling", "ask": "hi", "other": 1}
    speaker.on("/plain/chat", plain_stream(PLAIN_STREAM))
    async with nexus.client.post("/plain/chat", data=b'{"model": "starling", "ask": "hi", "stream": true}') as answer:
        assert (answer.content_type, await answer.read()) == ("application/x-ndjson", PLAIN_STREAM)


@pytest.mark.parametrize("model", ["tiny", "claude-tiny"])
async def test_a_plain_client_reaches_servers_of_every_api(plain, model):
    nexus, _ = plain
    async with nexus.client.post("/plain/chat", json={"model": model, "ask": "hi", "rules": "Be short."}) as answer:
        said = await answer.json()
        assert (answer.status, said["model"], said["why"]) == (200, model, "end"), said
    async with nexus.client.post("/plain/chat", json={"model": model, "ask": "hi", "stream": True}) as answer:
        *pieces, last = map(json.loads, (await answer.text()).splitlines())
        assert answer.content_type == "application/x-ndjson"
    assert "".join(piece["say"] for piece in pieces) == said["say"] != ""
    assert (last["done"], last["why"], last["tokens"]["out"] > 0) == (True, "end", True)


async def test_clients_of_every_api_reach_a_plain_server(plain):
    nexus, speaker = plain
    messages = [{"role": "user", "content": "hi"}]
    speaker.on("/plain/chat", Respond(json=PLAIN_ANSWER))
    async with nexus.client.post("/v1/chat/completions", json={"model": "starling", "messages": messages, "seed": 7}) as answer:
        (choice,) = (await answer.json())["choices"]
        assert (choice["message"]["content"], choice["finish_reason"]) == ("h\u00e9 you", "length")
        assert answer.headers["X-Nexus-Translation-Loss"] == "seed"
    async with nexus.client.post("/v1/messages", json={"model": "starling", "messages": messages, "max_tokens": 9}) as answer:
        said = await answer.json()
        assert (said["content"], said["stop_reason"]) == ([{"type": "text", "text": "h\u00e9 you"}], "max_tokens")
    assert json.loads(speaker.requests[-1].body) == {"model": "starling", "ask": "hi", "limit": 9}
    speaker.on("/plain/chat", plain_stream(PLAIN_STREAM))
    async with nexus.client.post(
        "/v1/messages", json={"model": "starling", "messages": messages, "max_tokens": 9, "stream": True}
    ) as answer:
        wire = await answer.text()
        assert answer.content_type == "text/event-stream"
    assert '"text":"h\u00e9"' in wire
    assert wire.rstrip().endswith('{"type":"message_stop"}')


async def test_what_plain_cannot_say_is_refused_by_name(plain):
    nexus, speaker = plain
    tool = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
    body = {"model": "starling", "messages": [{"role": "user", "content": "hi"}], "n": 2}
    for more, lost in (({}, "n"), ({"tools": [tool], "n": 1}, "tools")):
        before = len([r for r in speaker.requests if r.method == "POST"])
        async with nexus.client.post("/v1/chat/completions", json=body | more) as answer:
            error = (await answer.json())["error"]
        assert (answer.status, lost in error["message"]) == (400, True), error
        assert len([r for r in speaker.requests if r.method == "POST"]) == before


async def test_a_plain_stream_is_kept_alive_and_breaks_visibly(plain):
    nexus, speaker = plain
    gate = asyncio.Event()
    speaker.on("/plain/chat", Held(gate, plain_stream(b'{"say":"one"}\n', end="cut")))
    async with nexus.client.post("/plain/chat", json={"model": "starling", "ask": "hi", "stream": True}) as answer:
        assert answer.status == 200, await answer.text()
        assert (answer.headers["X-Nexus-Pending"], answer.content_type) == ("true", "application/x-ndjson")
        assert await answer.content.readline() == b"\n"
        gate.set()
        lines = [json.loads(line) for line in (await answer.text()).splitlines() if line]
    assert lines[0] == {"say": "one"}
    assert (lines[-1]["code"], len(lines)) == ("backend_broke_off", 2)


async def test_errors_and_the_model_list_are_plain_for_plain_clients(plain):
    nexus, _ = plain
    async with nexus.client.post("/plain/chat", json={"model": "nobody", "ask": "hi"}) as answer:
        assert (answer.status, (await answer.json())["code"]) == (404, "model_not_found")
    async with nexus.client.post("/plain/chat", json={"model": "starling"}) as answer:
        assert (answer.status, (await answer.json())["wrong"]) == (400, "'ask' must be a text")
    async with nexus.client.get("/v1/models", headers={"plain-version": "1"}) as answer:
        assert {"starling", "mynah", "tiny"} <= {entry["name"] for entry in (await answer.json())["models"]}


def test_the_tests_of_the_dialect_tutorial_pass(tmp_path):
    assert " passed" in run_pytest(written(DIALECT, tmp_path), "tests/test_plain.py")


# ---------------------------------------------------------------- embed


async def test_the_application_of_the_embedding_page_serves(tmp_path, imported, monkeypatch):
    monkeypatch.setenv("NEXUS_SERVER_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("NEXUS_DISCOVERY_SOURCES", "")
    directory = written(EMBED, tmp_path)
    async with ollama_server(["llama3.2:3b"]) as server:
        config = directory / "nexus.toml"
        config.write_text(config.read_text().replace("http://127.0.0.1:11434", server.url))
        app = imported(directory / "app.py", "app_of_the_page").make_app()
        async with served(app) as url, aiohttp.ClientSession(url) as client:
            await until(lambda: app[GATEWAY].ready)
            headers = await ask(client, "/llm/v1/chat/completions", "llama3.2:3b")
            assert headers["X-Nexus-Backend"] == "gpu"
            async with client.get("/") as home, client.get("/llm/health") as health, client.get("/v1/models") as outside:
                assert (await home.text(), health.status, outside.status) == ("1 models under /llm/v1\n", 200, 404)


class served:
    """An application on a free port."""

    def __init__(self, app: web.Application) -> None:
        self.runner = web.AppRunner(app, shutdown_timeout=1)

    async def __aenter__(self) -> str:
        await self.runner.setup()
        await web.TCPSite(self.runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self.runner.addresses[0][1]}"

    async def __aexit__(self, *error: object) -> None:
        await self.runner.cleanup()


# ---------------------------------------------------------------- what stands alone

# the clients' pages are held by what drives the clients: each in an environment of its own; OpenAI's has `test_docs_openai`
ALONE = [
    block
    for block in blocks("python")
    if "import " in block.text
    and block.file is None
    and "from openai import" not in block.text
    and block.page.startswith(("README", "docs"))
    and not block.page.startswith("docs/clients/")
]


def test_there_are_such_blocks():
    assert len(ALONE) >= 3


@pytest.mark.parametrize("block", ALONE, ids=str)
def test_a_block_that_stands_alone_runs(block: Block, tmp_path, imported):
    path = tmp_path / "block.py"
    path.write_text(block.text, encoding="utf-8")
    imported(path, f"block_of_line_{block.line}")


def test_the_example_of_the_testing_page_passes(tmp_path):
    assert " passed" in run_pytest(written(KIT, tmp_path), "test_failover.py")
