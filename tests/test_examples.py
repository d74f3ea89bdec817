"""The examples do what their READMEs say: every shell block of each is run, in a copy with ports of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from .environments import Environment, overlay
from .walkthrough import EXAMPLES, Walk, walk


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """All that this environment has, in one where an example may be installed."""
    return overlay(tmp_path / "venv")


async def test_every_example_is_tested() -> None:
    tested = {name.removeprefix("test_the_").removesuffix("_example") for name in globals() if name.endswith("_example")}
    assert {path.name for path in EXAMPLES.iterdir() if path.is_dir()} == tested


# ---------------------------------------------------------------- a backend package


async def test_the_backend_example(tmp_path: Path, environment: Environment) -> None:
    env = environment.variables(PIP_NO_BUILD_ISOLATION="0")  # pip reads it as "no isolation": hatchling is here already
    async with walk("backend", tmp_path, env) as readme:
        assert not _echo(_plugins(environment, readme)), "what installing is to bring must not be there before"
        assert "echo" in await readme.run("pip install .", "nexus plugins")
        assert _echo(_plugins(environment, readme)) == [
            ("nexus-proxy-echo", "0.1.0", "entry point", ["backend echo"]),
        ]
        await readme.start("echo_server.py", listening="7077")
        await readme.start("nexus serve", listening="6398")
        await _serves(readme, "parrot")
        said = await readme.run("nexus backends", "curl")
        assert "good morning" in said
        assert f"127.0.0.1:{readme.ports['7077']}" in said
        await _check_stream(readme)
        await _check_backend(readme)
        assert " passed" in await readme.run("pytest")


def _plugins(environment: Environment, readme: Walk) -> list[dict[str, Any]]:
    command = [environment.python, "-m", "nexus", "plugins", "--json"]
    done = subprocess.run(command, cwd=readme.directory.parent, env=readme.env, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    plugins: list[dict[str, Any]] = said["plugins"]
    return plugins


def _echo(plugins: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    keys = ("distribution", "version", "origin", "provides")
    return [tuple(plugin[key] for key in keys) for plugin in plugins if plugin["name"] == "echo"]


async def _check_stream(readme: Walk) -> None:
    body = {"model": "parrot", "stream": True, "messages": [{"role": "user", "content": "one two three"}]}
    async with aiohttp.ClientSession() as client, client.post(_url(readme, "6398", "/v1/chat/completions"), json=body) as answer:
        events = [line.removeprefix("data: ") for line in (await answer.text()).splitlines() if line]
        assert answer.headers["X-Nexus-Privacy-Zone"] == "restricted"
    assert events[-1] == "[DONE]"
    said = [choice["delta"].get("content", "") for event in events[:-1] for choice in json.loads(event)["choices"]]
    assert "".join(said) == "one two three"


async def _check_backend(readme: Walk) -> None:
    """It was found, not configured, and the probe's facts have arrived."""
    (backend,) = [b for b in (await _get(readme, "6398", "/nexus/backends"))["backends"] if b["type"] == "echo"]
    assert backend["source"] == "loopback"
    assert backend["url"] == f"http://127.0.0.1:{readme.ports['7077']}"
    assert (backend["health"], backend["capacity"], backend["version"], backend["models"]) == ("healthy", 4, "1.0", ["parrot"])


# ---------------------------------------------------------------- a stage in a module


@pytest.mark.parametrize("at_night", [True, False], ids=["night", "day"])
async def test_the_stage_example(tmp_path: Path, environment: Environment, at_night: bool) -> None:
    async with walk("stage", tmp_path, environment.variables()) as readme:
        _make_it(readme.directory / "nexus.toml", night=at_night)
        await readme.start("echo_server.py 7001 &".replace("7001", readme.ports["7001"]), listening="7001")
        await readme.wait_for("7002")
        await readme.start("nexus check", "nexus serve", listening="6398")
        await _serves(readme, "parrot")
        said = await readme.run("curl")
        assert f"X-Nexus-Backend: {'cellar' if at_night else 'bedroom'}" in said
        assert "good night" in said
        explained = await readme.run("nexus explain")
        assert ("bedroom is quiet until" in explained) == at_night
        if at_night:
            assert " passed" in await readme.run("pytest")
        else:
            readme.skip("pytest")


def _make_it(config: Path, *, night: bool) -> None:
    """Move the quiet hours so that it is night, or day, now and for another hour."""
    hour = time.localtime().tm_hour
    begin, end = (hour - 1, hour + 2) if night else (hour + 2, hour + 3)
    text = config.read_text()
    moved = text.replace("from_hour = 22", f"from_hour = {begin % 24}").replace("to_hour = 7", f"to_hour = {end % 24}")
    assert moved != text
    config.write_text(moved)


# ---------------------------------------------------------------- a dialect package


async def test_the_dialect_example(tmp_path: Path, environment: Environment) -> None:
    env = environment.variables(PIP_NO_BUILD_ISOLATION="0")
    async with walk("dialect", tmp_path, env) as readme:
        assert "plain" in await readme.run("pip install .", "nexus plugins")
        (package,) = [plugin for plugin in _plugins(environment, readme) if plugin["name"] == "plain"]
        assert package["provides"] == ["backend plain", "dialect plain"]
        await readme.start("plain_server.py &", "echo_server.py", listening="7001")
        await readme.wait_for("7078")
        await readme.start("nexus serve", listening="6398")
        for model in ("starling", "parrot"):
            await _serves(readme, model)
        assert json.loads(await readme.run("curl", "starling"))["say"] == "good morning"
        *pieces, last = map(json.loads, (await readme.run("curl", "parrot")).splitlines())
        assert ("".join(piece["say"] for piece in pieces), last["done"]) == ("good day", True)
        said = await readme.run("curl", "temperature")
        assert "X-Nexus-Translation-Loss: temperature" in said
        assert "good night" in said
        assert " passed" in await readme.run("pytest")


# ---------------------------------------------------------------- an application that embeds Nexus


async def test_the_embed_example(tmp_path: Path, environment: Environment) -> None:
    async with walk("embed", tmp_path, environment.variables(NEXUS_SERVER_STATE_DIR=str(tmp_path / "state"))) as readme:
        await readme.start("echo_server.py", listening="7077")
        await readme.start("app.py", listening="8090")
        await _serves(readme, "parrot", port="8090", prefix="/llm")
        said = await readme.run("curl")
        assert "Welcome.  The models under /llm/v1 are ready.\n" in said
        assert "good evening" in said
        async with aiohttp.ClientSession() as client, client.get(_url(readme, "8090", "/v1/models")) as answer:
            assert answer.status == 404, "outside its prefix Nexus must not answer"


# ---------------------------------------------------------------- asking


def _url(readme: Walk, port: str, path: str) -> str:
    return f"http://127.0.0.1:{readme.ports[port]}{path}"


async def _get(readme: Walk, port: str, path: str) -> Any:
    async with aiohttp.ClientSession() as client, client.get(_url(readme, port, path)) as answer:
        return await answer.json()


async def _serves(readme: Walk, model: str, *, port: str = "6398", prefix: str = "") -> None:
    """Until the model is listed and every backend has answered.  Raises AssertionError with what the servers said."""
    for _ in range(600):
        listed = [entry["id"] for entry in (await _get(readme, port, f"{prefix}/v1/models"))["data"]]
        health = await _get(readme, port, f"{prefix}/health")
        if model in listed and not health["backends"]["unknown"]:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{model} is not served after a minute:\n{readme.said()}")
