"""Nexus as a process of its own, as people start it, in front of real servers that it has to find by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import attrs
import openai
import pytest

from nexus import __version__

from .llamacpp.process import LlamaCpp
from .real import ENDLESS, HI, SAYS, a_client, eventually, until_busy

PROMISED = 3.0  # seconds, for what comes and for what goes


@attrs.frozen
class Process:
    url: str
    process: asyncio.subprocess.Process
    said: Path

    async def get(self, path):
        """The JSON of a page; None while nobody answers."""
        try:
            async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
                return await answer.json()
        except aiohttp.ClientConnectionError:
            return None

    async def serves(self, server):
        """Whether the server's model is on the list, as a client sees it."""
        listed = await self.get("/v1/models")
        backends = {b["name"] for b in (await self.get("/nexus/backends"))["backends"] if b["url"] == server.url}
        return any(model["id"] == server.model and backends & set(model["backends"]) for model in listed["data"])


@pytest.fixture
def own_server(tiny_model, tmp_path):
    """A server, not yet started, whose model nobody else on this machine has: others may be found as well."""
    server = LlamaCpp(tiny_model, tmp_path / "llamacpp.log", ["--alias", f"tiny-of-{os.getpid()}", "--ctx", "65536"])
    server.model = f"tiny-of-{os.getpid()}"
    yield server
    server.close()


def a_free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@asynccontextmanager
async def nexus(folder: Path, config: str, *arguments: str):
    """`python -m nexus` in a folder with this `nexus.toml`, once it answers.  It is told where to listen by its environment."""
    (folder / "nexus.toml").write_text(config)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NEXUS_")}
    port = a_free_port()
    env = {**kept, "HOME": str(folder), "NEXUS_SERVER_PORT": str(port), "NEXUS_SERVER_STATE_DIR": str(folder / "state")}
    with (folder / "said.log").open("wb") as said:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus", *arguments, cwd=folder, env=env, stderr=said, stdout=said
        )
    running = Process(f"http://127.0.0.1:{port}", process, folder / "said.log")
    try:
        await eventually(lambda: running.get("/health"), timeout=10)
        yield running
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def seconds_until(ask, wanted: bool) -> float:
    """How long it takes until the answer is the wanted one."""
    clock = asyncio.get_running_loop().time
    began = clock()

    async def turned() -> bool:
        return bool(await ask()) is wanted

    await eventually(turned, timeout=8)
    return clock() - began


async def test_a_server_is_found_and_lost_without_a_word_of_configuration(own_server, tmp_path):
    """The one line says where else to knock: the usual ports of this machine may be somebody's."""
    server = own_server
    async with nexus(tmp_path, f"[loopback]\nports = [{server.port}]\n") as running, a_client(running.url) as client:
        assert not await running.serves(server)
        await asyncio.to_thread(server.start)
        assert await seconds_until(lambda: running.serves(server), True) < PROMISED
        raw = await client.chat.completions.with_raw_response.create(model=server.model, messages=HI)
        assert raw.parse().choices[0].message.content.strip() == SAYS
        assert (raw.headers["X-Nexus-Privacy-Zone"], raw.headers["X-Nexus-Backend-Type"]) == ("restricted", "local")
        (shown,) = [b for b in (await running.get("/nexus/backends"))["backends"] if b["url"] == server.url]
        assert (shown["type"], shown["source"], shown["health"]) == ("llamacpp", "loopback", "healthy")
        await asyncio.to_thread(server.kill)
        assert await seconds_until(lambda: running.serves(server), False) < PROMISED
        running.process.terminate()
        assert await running.process.wait() == 0
    assert "Traceback" not in running.said.read_text()


async def test_a_server_that_was_there_first_is_found_and_shown(own_server, tmp_path):
    server = own_server
    await asyncio.to_thread(server.start)
    async with nexus(tmp_path, f"[loopback]\nports = [{server.port}]\n", "serve") as running:
        assert await seconds_until(lambda: running.serves(server), True) < PROMISED
        await eventually(lambda: _printed(running, "base_url"))
        said = running.said.read_text()
    assert f"Nexus {__version__} listens on {running.url}" in said
    assert f"base_url = {running.url}/v1" in said
    assert server.url in said


async def _printed(running, text):
    return text in running.said.read_text()


async def test_sigterm_lets_a_stream_come_to_its_end(own_server, tmp_path):
    server = own_server
    await asyncio.to_thread(server.start)
    config = f'discovery = {{sources = []}}\n[[backends]]\nname = "home"\ntype = "llamacpp"\nurl = "{server.url}"\n'
    async with nexus(tmp_path, config) as running, a_client(running.url) as client:
        await seconds_until(lambda: running.serves(server), True)
        long = {**ENDLESS, "max_tokens": 1500, "stream_options": {"include_usage": True}}
        stream = await client.chat.completions.create(model=server.model, messages=HI, stream=True, **long)
        chunks = [await anext(stream)]
        running.process.send_signal(signal.SIGTERM)
        refused = await eventually(lambda: _refusal(client))
        assert (refused.status_code, refused.code) == (503, "stopping")
        chunks += [chunk async for chunk in stream]
        assert await asyncio.wait_for(running.process.wait(), 5) == 0
    assert chunks[-1].usage.completion_tokens == 1500
    await until_busy(server, 0)


async def _refusal(client):
    """What a newcomer is told; None as long as it is welcome."""
    try:
        await client.models.list()
    except openai.APIStatusError as error:
        return error
    return None
