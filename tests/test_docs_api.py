"""docs/reference/api.md and docs/guide/explain.md say what a running gateway answers: paths, keys, the fields of every shape."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest

from nexus.control import Control
from nexus.keys import hash_key
from nexus.observers.render import event_json
from nexus.pages import Pages
from nexus.testing import Hang, a_body, every_event, ollama_server, openai_server
from nexus.testing.builders import FakeClock

from .docs_pages import ROOT, blocks

API = ROOT / "docs" / "reference" / "api.md"
EXPLAIN = ROOT / "docs" / "guide" / "explain.md"

# Objects whose keys are names or words of the moment, not fields.
MAPS = {"outcomes", "attempts", "backends", "models", "aliases", "capabilities", "parts", "data"}
CONFIG = """
[routing.aliases]
"llama" = ["llama3.1:8b", "gpt-4o-mini"]

[[backends]]
name = "gpu"
type = "ollama"
url = "{gpu}"
max_concurrent = 1

[[backends]]
name = "cloud"
type = "openai"
url = "{cloud}"

[[keys]]
name = "laptop"
hash = "{hash}"
admin = true
"""
KEY = "nx-of-the-pages"


@pytest.fixture
async def nexus(nexus_gateway):
    """A gateway as the page imagines it: a home server, a cloud, a key."""
    async with AsyncExitStack() as stack:
        gpu = await stack.enter_async_context(ollama_server(["llama3.1:8b"]))
        cloud = await stack.enter_async_context(openai_server(["gpt-4o-mini"]))
        gateway = await nexus_gateway(CONFIG.format(gpu=gpu.url, cloud=cloud.url, hash=hash_key(KEY)))
        gateway.client.headers["Authorization"] = f"Bearer {KEY}"
        await gateway.until(lambda: gateway.gateway.ready)
        yield gateway, gpu


def shapes(title: str) -> list[Any]:
    """The JSON blocks under one heading."""
    text = API.read_text(encoding="utf-8")
    found = re.search(rf"^### `{re.escape(title)}`\n(.*?)(?=^##|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no {title}"
    return [json.loads(block) for block in re.findall(r"^```json\n(.*?)^```", found[1], re.MULTILINE | re.DOTALL)]


def fields(value: Any, name: str = "") -> Any:
    """A shape without its values: the fields of objects, the first item of lists; maps have the shape of one of their values."""
    if isinstance(value, Mapping):
        if name in MAPS and not {"total", "name", "healthy"} & set(value):
            return {"*": fields(next(iter(value.values()), None))}
        return {key: fields(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [fields(value[0])] if value else []
    return ...


def same(said: Any, is_: Any) -> bool:
    """Whether two shapes agree; an empty list, or nothing, says nothing about what could be in it."""
    if isinstance(said, dict) and isinstance(is_, dict):
        return set(said) == set(is_) and all(same(said[key], is_[key]) for key in said)
    if isinstance(said, list) and isinstance(is_, list):
        return not said or not is_ or same(said[0], is_[0])
    return True


async def get(nexus, path: str) -> Any:
    async with nexus.client.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def chat(nexus, model: str = "llama", **headers: str) -> Any:
    async with nexus.client.post("/v1/chat/completions", data=a_body(model), headers=headers) as answer:
        return answer.status, dict(answer.headers), await answer.json()


@pytest.mark.parametrize("title", ["GET /health", "GET /v1/models", "GET /nexus/backends", "GET /nexus/models", "GET /nexus/stats"])
async def test_a_page_of_the_gateway_has_the_documented_fields(nexus, title):
    gateway, _ = nexus
    await chat(gateway)
    (said,) = shapes(title)
    told = await get(gateway, title.removeprefix("GET "))
    assert same(fields(said), fields(told)), f"{fields(told)}"


async def test_a_request_has_the_documented_fields(nexus):
    gateway, _ = nexus
    _, headers, _ = await chat(gateway)
    (said,) = shapes("GET /nexus/requests/{id}")
    told = await get(gateway, f"/nexus/requests/{headers['X-Nexus-Request-Id']}")
    assert same(fields(said), fields(told)), f"{fields(told)}"
    assert set(await get(gateway, "/nexus/requests")) == {"requests"}


async def test_explain_takes_and_gives_what_is_documented(nexus):
    gateway, _ = nexus
    asked, said = shapes("POST /nexus/explain")
    async with gateway.client.post("/nexus/explain", json=asked) as answer:
        told = await answer.json()
    assert answer.status == 200, told
    assert same(fields(said), fields(told)), f"{fields(told)}"
    assert told["legs"] == said["legs"]
    assert told["refusals"] == said["refusals"]
    assert [choice["backend"] for choice in told["choices"]] == ["gpu"]


async def test_the_queue_has_the_documented_fields(nexus):
    gateway, gpu = nexus
    (said,) = shapes("GET /nexus/queue")
    gpu.next(Hang(), path="/v1/chat/completions")
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(chat(gateway, "llama3.1:8b")) for _ in range(2)]
        await gateway.until(lambda: len(gateway.gateway.waiting))
        told = await get(gateway, "/nexus/queue")
        for task in tasks:
            task.cancel()
    assert same(fields(said), fields(told)), f"{fields(told)}"
    assert told["waiting"], "nobody waits"


def test_every_event_has_the_documented_fields():
    text = API.read_text(encoding="utf-8").partition("### `GET /nexus/events`")[2]
    table = {
        cells[1].strip(" `"): set(re.findall(r"`(\w+)`", cells[3]))
        for cells in (r.split("|") for r in text.splitlines() if r.startswith("| `"))
    }
    told = {}
    for event in every_event():
        made = event_json(event, FakeClock())
        told[made["type"]] = set(made) - {"type", "time"}
    assert table == told | {"dropped": {"count"}}


async def test_every_endpoint_is_documented_with_its_key_and_no_other(nexus):
    gateway, _ = nexus
    dialects = tuple(gateway.gateway.runtime.dialects.values())
    routes = [
        *Control(gateway.gateway, dialects).routes(),
        *(r for c in gateway.gateway.routes for r in c.routes()),
    ]
    served = {(r.method, r.path.replace("{tail}", "{id}"), "admin" if r.admin else "none") for r in routes}
    served |= {(e.method, e.path, "client") for d in dialects for e in d.endpoints}
    pages = Pages(gateway.gateway, dialects, lambda head: True).routes()
    served |= {("GET", path.replace("{tail}", "{id}"), "client" if keyed else "none") for path, _, keyed in pages}
    text = API.read_text(encoding="utf-8").partition("## Endpoints")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| (\w+) \| `([^`]+)` \| (\w+) \|", text, re.MULTILINE)) == served


async def test_the_error_of_the_explain_page_is_the_one_that_is_sent(nexus):
    gateway, _ = nexus
    said = json.loads(blocks("json", page=EXPLAIN)[0].text)
    status, headers, told = await chat(gateway, "gpt-4o-mini", **{"X-Nexus-Zone": "restricted"})
    assert (status, told) == (503, said)
    assert headers["X-Nexus-Rejection-Reasons"] in EXPLAIN.read_text(encoding="utf-8")
