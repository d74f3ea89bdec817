"""The Ollama kind against a double that answers as Ollama does."""

import contextlib

import nexus_ollama
import pytest
from nexus_ollama.backend import SHOW_CONCURRENCY
from nexus_ollama.models import NOTHING_SHOWN, model, shown

from nexus.api import NoOptions, Secret, Server, State
from nexus.testing import FakeModel, Malformed, Respond, ScriptedUpstream, Slow, ollama_server
from nexus.testing.scope import a_scope


@contextlib.asynccontextmanager
async def opened(server, key: str | None = None):
    async with a_scope(upstream=object()) as scope:
        target = Server(name="x", url=server.url, key=Secret(key) if key else None)
        async with nexus_ollama.KIND.open(target, NoOptions(), scope) as backend:
            yield backend


async def probe(server, key: str | None = None):
    async with server, opened(server, key) as backend:
        return await backend.probe()


def test_the_descriptor():
    (kind,) = nexus_ollama.nexus_backends()
    assert (kind.name, kind.runs_models, kind.cloud, kind.capacity) == ("ollama", True, False, 1)
    assert kind.service_types == ("_ollama._tcp",)


async def test_what_a_probe_learns():
    report = await probe(ollama_server([FakeModel("llama3:8b", context=4096, context_max=131072, vision=True)]))
    assert (report.ok, report.version, report.capacity) == (True, "0.13.5", None)
    (found,) = report.models
    assert (found.id, found.aliases, found.context, found.context_max) == ("llama3:8b", (), 4096, 131072)
    yes = dict.fromkeys(("chat", "completion", "json_schema", "tools", "vision"), True)
    assert found.offers == yes | {"thinking": False, "image_url": False}
    assert (found.state, found.remote, found.takes_usage) == (State.READY, False, True)


@pytest.mark.parametrize(
    ("version", "native"), [("0.13.5", False), ("0.14.0", True), ("0.14.0-rc1", True), ("1.0", True), ("dev", False)]
)
async def test_newer_versions_take_anthropics_requests(version, native):
    server = ollama_server()
    server.version = version
    (found,) = (await probe(server)).models
    assert (("anthropic", "chat") in found.speaks) is native
    assert ("anthropic", "count") not in found.speaks


async def test_the_tag_latest_may_be_left_out():
    (found,) = (await probe(ollama_server(["tiny:latest"]))).models
    assert (found.id, found.aliases) == ("tiny:latest", ("tiny",))


async def test_an_embedding_model_does_not_chat():
    (found,) = (await probe(ollama_server([FakeModel("nomic:latest", embedding=True)]))).models
    assert found.offers == {
        "chat": False,
        "image_url": False,
        "completion": False,
        "json_schema": False,
        "tools": False,
        "vision": False,
        "thinking": False,
        "embedding": True,
    }


async def test_a_model_that_thinks_says_so():
    (found,) = (await probe(ollama_server([FakeModel("qwen3:8b", thinking=True)]))).models
    assert found.offers["thinking"] is True


async def test_what_is_not_resident_is_asleep():
    async with ollama_server([FakeModel("a:1"), FakeModel("b:1", loaded=False)]) as server, opened(server) as backend:
        assert [found.state for found in (await backend.probe()).models] == [State.READY, State.ASLEEP]
        server.loaded = {"b:1"}
        assert [found.state for found in (await backend.probe()).models] == [State.ASLEEP, State.READY]


@pytest.mark.parametrize(
    ("name", "host", "evidence"),
    [
        ("gpt-oss:120b-cloud", "https://ollama.com:443", "remote_host is https://ollama.com:443"),
        ("tiny:latest", "https://gpu.example:443", "remote_host is https://gpu.example:443"),
        ("gpt-oss:120b-cloud", None, "its tag says cloud"),
        ("glm-4.6:cloud", None, "its tag says cloud"),
    ],
)
async def test_models_that_leave_the_machine(name, host, evidence):
    (found,) = (await probe(ollama_server([FakeModel(name, remote_host=host, loaded=False)]))).models
    assert (found.remote, found.evidence, found.state) == (True, evidence, State.READY)


@pytest.mark.parametrize("name", ["cloud:latest", "cloudy:8b", "my-cloud-model:1", "llama3:8b"])
async def test_names_that_only_look_like_it(name):
    (found,) = (await probe(ollama_server([name]))).models
    assert not found.remote


async def test_remote_is_also_seen_where_only_show_says_it():
    server = ollama_server(["a:1"]).on("/api/show", Respond(json={"remote_model": "gpt-oss:120b"}), method="POST")
    (found,) = (await probe(server)).models
    assert (found.remote, found.evidence) == (True, "remote_model is gpt-oss:120b")


# ---------------------------------------------------------------- show, once


async def test_a_steady_probe_asks_nothing_twice():
    async with ollama_server(["a:1", "b:1"]) as server, opened(server) as backend:
        await backend.probe()
        assert len(server.calls("/api/show")) == 2
        server.requests.clear()
        again = await backend.probe()
    assert sorted(received.path for received in server.requests) == ["/api/ps", "/api/tags", "/api/version"]
    assert [found.context_max for found in again.models] == [131072, 131072]


async def test_a_new_digest_is_asked_again_and_a_deleted_model_forgotten():
    digests = {"a": "1", "b": "1"}
    tags = lambda _: Respond(json={"models": [{"name": name, "digest": digest} for name, digest in digests.items()]})  # noqa: E731
    async with ollama_server(["a", "b"]).on("/api/tags", tags, method="GET") as server, opened(server) as backend:
        await backend.probe()
        digests["a"] = "2"
        await backend.probe()
        del digests["b"]
        await backend.probe()
        digests["b"] = "1"
        await backend.probe()
    assert [received.json["model"] for received in server.calls("/api/show")] == ["a", "b", "a", "b"]


async def test_many_models_are_asked_a_few_at_a_time():
    server = ollama_server([f"m{number}:1" for number in range(50)])
    server.on("/api/show", lambda received: Slow(0.01, server.show(received)), method="POST")
    report = await probe(server)
    assert len(report.models) == 50
    assert all(found.context_max for found in report.models)
    assert 1 < server.peak <= SHOW_CONCURRENCY + 1  # and /api/ps beside them


async def test_a_show_that_fails_is_asked_again():
    async with ollama_server(["a:1"]) as server, opened(server) as backend:
        server.next(Respond(500), path="/api/show")
        (found,) = (await backend.probe()).models
        assert (found.context_max, found.offers["chat"]) == (131072, True)  # newer servers say it in the list, too
        await backend.probe()
        await backend.probe()
        assert len(server.calls("/api/show")) == 2


@pytest.mark.parametrize("act", [Respond(404), Malformed(b""), Respond(json=[]), Respond(json={"models": None})])
async def test_ps_can_be_missing(act):
    report = await probe(ollama_server(["a:1"]).on("/api/ps", act, method="GET"))
    assert [found.state for found in report.models] == [State.ASLEEP]


# ---------------------------------------------------------------- what the answers mean


@pytest.mark.parametrize(
    ("parameters", "num_ctx"),
    [
        ('num_ctx                        8192\nstop    "<|eot|>"', 8192),
        ('stop "num_ctx 12"', None),
        ("temperature 0.7", None),
        ("num_ctx x", None),
        ("num_ctx " + "9" * 40, None),
        (None, None),
        (["num_ctx 1"], None),
    ],
)
def test_the_context_a_model_file_sets(parameters, num_ctx):
    assert shown({"parameters": parameters}).num_ctx == num_ctx


def test_what_is_served_beats_what_is_set():
    facts = shown({"parameters": "num_ctx 8192", "model_info": {"general.architecture": "q", "q.context_length": 40960}})
    assert model({"name": "m"}, facts, None).context == 8192
    assert model({"name": "m"}, facts, {"context_length": 4096}).context == 4096
    assert model({"name": "m"}, facts, {"context_length": 4096}).context_max == 40960


def test_nothing_known_is_unknown():
    found = model({"name": "m"}, NOTHING_SHOWN, None)
    assert (found.offers, found.context, found.context_max, found.remote) == ({"image_url": False}, None, None, False)


@pytest.mark.parametrize(
    "answer", [None, [], 7, {"model_info": 7}, {"model_info": {"general.architecture": 7}}, {"capabilities": "x"}]
)
def test_odd_answers_say_nothing(answer):
    assert shown(answer) == NOTHING_SHOWN


# ---------------------------------------------------------------- what goes wrong


async def test_no_models():
    report = await probe(ollama_server([]).on("/api/tags", Respond(json={"models": None}), method="GET"))
    assert (report.ok, report.models) == (True, ())


async def test_junk_in_the_list_is_left_out():
    tags = {"models": [None, 7, {}, {"name": 7}, {"name": ""}, {"model": "old:1"}, {"name": "a:1", "digest": None}]}
    report = await probe(ollama_server(["a:1"]).on("/api/tags", Respond(json=tags), method="GET"))
    assert [found.id for found in report.models] == ["old:1", "a:1"]


async def test_another_kind_of_server():
    report = await probe(ScriptedUpstream())
    assert (report.ok, report.code) == (False, "not_this_kind")


async def test_the_wrong_key():
    report = await probe(ollama_server(api_key="k"), key="other")
    assert (report.ok, report.code) == (False, "unauthorized")


async def test_nobody_there():
    async with ollama_server() as server, opened(server) as backend:
        server.stop_listening()
        report = await backend.probe()
    assert (report.code, report.problem) == ("unreachable", f"refused the connection at {server.url}")
