"""The vLLM kind against a double that answers as vLLM does."""

import contextlib

import nexus_vllm
import pytest

from nexus.api import NoOptions, Secret, Server, State
from nexus.testing import FakeModel, Malformed, Respond, ScriptedUpstream, vllm_server
from nexus.testing.scope import a_scope


@contextlib.asynccontextmanager
async def opened(server, key: str | None = None):
    async with a_scope(upstream=object()) as scope:
        target = Server(name="x", url=server.url, key=Secret(key) if key else None)
        async with nexus_vllm.KIND.open(target, NoOptions(), scope) as backend:
            yield backend


async def probe(server, key: str | None = None):
    async with server, opened(server, key) as backend:
        return await backend.probe()


def test_the_descriptor():
    (kind,) = nexus_vllm.nexus_backends()
    assert (kind.name, kind.runs_models, kind.cloud, kind.capacity) == ("vllm", True, False, None)


async def test_what_a_probe_learns():
    report = await probe(vllm_server([FakeModel("meta/llama", context=4096)]))
    assert (report.ok, report.version, report.load, report.capacity) == (True, "0.11.2", 0, None)
    (model,) = report.models
    assert (model.id, model.context, model.context_max, model.state) == ("meta/llama", 4096, 4096, State.READY)
    assert model.takes_usage


async def test_a_version_that_takes_anthropics_requests_wants_a_post_there():
    wants_a_post = Respond(405, json={"detail": "Method Not Allowed"}, headers={"Allow": "POST"})
    async with vllm_server() as server, opened(server) as backend:
        assert not any(name == "anthropic" for model in (await backend.probe()).models for name, _ in model.speaks)
        server.on("/version", Respond(json={"version": "0.12.0"}), method="GET").on("/v1/messages", wants_a_post, method="GET")
        for _ in range(2):
            (model,) = (await backend.probe()).models
    assert {task for name, task in model.speaks if name == "anthropic"} == {"chat"}
    assert len(server.calls("/v1/messages")) == 2  # once for each version


async def test_what_the_server_does_not_say_is_unknown():
    (model,) = (await probe(vllm_server([FakeModel("m", vision=True, tools=True, embedding=True)]))).models
    assert model.offers == {"json_schema": True}


async def test_an_adapter_has_its_base_models_context():
    data = [
        {"id": "base", "max_model_len": 8192, "parent": None},
        {"id": "lora", "parent": "base", "root": "/adapters/lora"},
        {"id": "lost", "parent": "gone"},
        {"id": "odd", "parent": {"x": 1}},
    ]
    report = await probe(vllm_server().on("/v1/models", Respond(json={"data": data}), method="GET"))
    assert {model.id: model.context for model in report.models} == {"base": 8192, "lora": 8192, "lost": None, "odd": None}


@pytest.mark.parametrize("old_metrics", [False, True])
async def test_the_load_is_what_runs_and_waits(old_metrics):
    async with vllm_server(old_metrics=old_metrics) as server, opened(server) as backend:
        server.running, server.waiting = 4, 3
        assert (await backend.probe()).load == 7


@pytest.mark.parametrize(
    ("text", "load"),
    [
        ('vllm:num_requests_running{engine="0",model_name="a}b"} 2.0\nvllm:num_requests_running{engine="1"} 3\n', 5),
        ("vllm_num_requests_running 2\nvllm_num_requests_waiting 1.0 1700000000\n", 3),
        ("vllm:num_requests_running_total 9\n# vllm:num_requests_running 4\n", None),
        ("vllm:num_requests_running NaN\n", None),
        ("vllm:num_requests_running 1e-e\n", None),
        ("", None),
    ],
)
async def test_metrics_in_their_many_forms(text, load):
    assert (await probe(vllm_server().on("/metrics", Respond(body=text.encode()), method="GET"))).load == load


@pytest.mark.parametrize("path", ["/metrics", "/version"])
@pytest.mark.parametrize("act", [Respond(404), Respond(500), Malformed(b"x"), Respond(body=b"\xff\xfe"), Respond(json=7)])
async def test_what_can_be_missing(path, act):
    report = await probe(vllm_server().on(path, act, method="GET"))
    assert report.ok
    assert len(report.models) == 1


async def test_a_dead_engine():
    server = vllm_server()
    server.down = True
    report = await probe(server)
    assert (report.ok, report.code) == (False, "unreachable")
    assert "answered 503 to GET /health" in report.problem


async def test_the_wrong_key():
    report = await probe(vllm_server(api_key="sk-1"), key="sk-2")
    assert (report.ok, report.code) == (False, "unauthorized")
    assert report.problem == "answered 401: the key is wrong or missing (api_key_env)"


async def test_another_kind_of_server():
    report = await probe(ScriptedUpstream())
    assert (report.ok, report.code) == (False, "not_this_kind")


async def test_nobody_there():
    async with vllm_server() as server, opened(server) as backend:
        server.kill()
        report = await backend.probe()
    assert (report.code, report.problem) == ("unreachable", f"refused the connection at {server.url}")


async def test_a_name_that_does_not_resolve():
    async with a_scope(upstream=object()) as scope:
        target = Server(name="x", url="http://user:secret@gpu.invalid:8000")
        async with nexus_vllm.KIND.open(target, NoOptions(), scope) as backend:
            report = await backend.probe()
    assert (report.ok, report.code) == (False, "unreachable")
    assert "gpu.invalid" in report.problem
    assert "secret" not in report.problem
