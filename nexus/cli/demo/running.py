"""One run of the demo: servers up, gateway up, the story, then whatever the user likes until a signal."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import shlex
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nexus.cli.address import DEFAULT_URL
from nexus.cli.calling import calling
from nexus.cli.demo.asking import Client
from nexus.cli.demo.fleet import MODEL, Servers, open_servers, tables
from nexus.cli.demo.story import Story
from nexus.cli.demo.telling import Teller
from nexus.cli.failure import Failure
from nexus.cli.options import print_json
from nexus.cli.signals import Signals
from nexus.config import load
from nexus.errors import ConfigError, StartupError
from nexus.gateway import Gateway
from nexus.server import listen
from nexus.tasks import Tasks
from nexus.testing.waits import until
from nexus.upstream import Pool

LOG = logging.getLogger("nexus")
DEFAULT_PORT = 6398
START_SECONDS = 20.0


async def run(*, once: bool, port: int | None, as_json: bool) -> bool:
    """Tell the story; keep running unless `once`.  Returns whether the story came to its end.  Raises StartupError."""
    teller = Teller(quiet=as_json)
    told = asyncio.Event()
    with TemporaryDirectory(prefix="nexus-demo-") as directory, Signals() as signals:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(Tasks(LOG))
            tasks.once(functools.partial(_interrupt, signals, _this_task(), told), "wait for a signal")
            servers = await stack.enter_async_context(open_servers())
            gateway, url = await stack.enter_async_context(_gateway(servers, Path(directory), port))
            pool = Pool()
            stack.push_async_callback(pool.close)
            tasks.spawn(pool.run, "sweep the client's connections")
            await until(lambda: gateway.ready, timeout=START_SECONDS)
            teller.introduction(url)
            story = Story(Client(pool, url), servers, teller)
            await story.tell()
            if as_json:
                print_json({"url": url, "chapters": story.chapters})
            told.set()
            if not once:
                teller.farewell(_your_turn(url))
                await signals.first.wait()
    return told.is_set()


async def _interrupt(signals: Signals, story: asyncio.Task[Any], told: asyncio.Event) -> None:
    """A signal ends the story; after the story it is waited for anyway."""
    await signals.first.wait()
    if not told.is_set():
        story.cancel()


def _this_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task


@asynccontextmanager
async def _gateway(servers: Servers, state_dir: Path, port: int | None) -> AsyncIterator[tuple[Gateway, str]]:
    """The gateway on the port asked for; on the usual one, or where that is taken on a free one."""
    async with AsyncExitStack() as stack:
        try:
            running = await stack.enter_async_context(_on(servers, state_dir, DEFAULT_PORT if port is None else port))
        except StartupError:
            if port is not None:
                raise
            running = await stack.enter_async_context(_on(servers, state_dir, 0))
        yield running


def _on(servers: Servers, state_dir: Path, port: int) -> AbstractAsyncContextManager[tuple[Gateway, str]]:
    try:
        config, catalog = load(tables(servers, state_dir, port), env={})
    except ConfigError as error:
        raise Failure(f'the demo needs the standard plugins: pip install "nexus-proxy[standard]" ({error.mistakes[0]})') from None
    return listen(config, catalog)


def _your_turn(url: str) -> list[str]:
    """What to try next, ready to paste."""
    body = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "Hello"}]})
    where = "" if url == DEFAULT_URL else f" --url {url}"
    return [
        "Everything keeps running until Ctrl-C.  In another terminal:",
        "",
        f"curl -i {url}/v1/chat/completions -H 'Content-Type: application/json' -d {shlex.quote(body)}; echo",
        f"{calling()} backends{where}",
        f"{calling()} models{where}",
        f"{calling()} explain {MODEL} --image{where}",
        "",
        f"Any OpenAI client works: base_url = {url}/v1, api_key = anything, model = {MODEL}.",
        f"With a real server on this machine, such as Ollama or llama.cpp, `{calling()}` alone is all you need.",
    ]
