"""The llama.cpp kind and the recogniser against the real server, with a tiny model."""

import contextlib

import nexus_llamacpp
import nexus_ollama
import nexus_openai
import nexus_vllm
import pytest

from nexus.api import NoOptions, Secret, Server, State
from nexus.discovery import Recognised, recognise
from nexus.testing.builders import a_call
from nexus.testing.scope import a_scope

PLUGINS = (nexus_openai, nexus_llamacpp, nexus_vllm, nexus_ollama)
ALL = [(kind.name, print_) for plugin in PLUGINS for kind in plugin.nexus_backends() for print_ in kind.fingerprints]


@contextlib.asynccontextmanager
async def opened(url: str, key: str | None = None):
    async with a_scope() as scope:
        server = Server(name="real", url=url, key=Secret(key) if key else None)
        async with nexus_llamacpp.KIND.open(server, NoOptions(), scope) as backend:
            yield scope, backend


@pytest.mark.parametrize("embedding", [False, True])
async def test_the_real_server_is_recognised_and_probed(llamacpp, embedding):
    # llama.cpp of 2026-10 aborts with embeddings and three slots, so two.
    server = llamacpp(ctx=4096, parallel=2, embedding=embedding)
    async with opened(server.url) as (scope, backend):
        found = await recognise(server.url, ALL, scope.session())
        report = await backend.probe()
    assert found == Recognised(kind="llamacpp", evidence="/props has build_info")
    assert report.ok, report.problem
    assert (report.capacity, report.load) == (2, 0)
    assert report.version
    (model,) = report.models
    assert (model.id, model.context, model.state) == (server.model, 4096, State.READY)
    assert model.context_max >= model.context
    # With and without --embeddings the server says the same: whether it embeds stays unknown.
    assert model.offers == {"chat": True, "completion": True, "json_schema": True, "tools": True, "vision": False}


async def test_the_real_server_with_a_key(llamacpp):
    server = llamacpp(api_key="sk-real")
    async with opened(server.url, "sk-real") as (scope, backend):
        assert (await backend.probe()).ok
        found = await recognise(server.url, ALL, scope.session(), key=Secret("sk-real"))
    assert found is not None
    assert found.kind == "llamacpp"
    for key in (None, "sk-wrong"):
        async with opened(server.url, key) as (_, backend):
            report = await backend.probe()
        assert (report.ok, report.code) == (False, "unauthorized")


async def test_the_real_server_answers_through_the_backend(llamacpp):
    server = llamacpp()
    async with opened(server.url) as (_, backend):
        async with await backend.send(a_call()) as reply:
            parts = [part async for part in _read(reply)]
    assert reply.status == 200
    assert b'"choices"' in b"".join(parts)


async def _read(reply):
    while part := await reply.read():
        yield part
