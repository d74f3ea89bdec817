"""The llama.cpp kind against a double that answers as the real server does."""

import contextlib

import nexus_llamacpp
import pytest

from nexus.api import BackendKind, NoOptions, Secret, Server, State
from nexus.model import Model
from nexus.testing import CutAfter, FakeModel, Respond, ScriptedUpstream, llamacpp_server
from nexus.testing.scope import a_scope


@contextlib.asynccontextmanager
async def opened(server, key: str | None = None):
    async with a_scope(upstream=object()) as scope:
        target = Server(name="x", url=server.url + "/v1", key=Secret(key) if key else None)
        async with nexus_llamacpp.KIND.open(target, NoOptions(), scope) as backend:
            yield backend


async def model_of(server) -> Model:
    async with server, opened(server) as backend:
        report = await backend.probe()
    assert report.ok, report.problem
    (model,) = report.models
    return model


def test_the_descriptor():
    (kind,) = nexus_llamacpp.nexus_backends()
    assert isinstance(kind, BackendKind)
    assert kind.name == "llamacpp"
    assert kind.runs_models
    assert not kind.cloud


async def test_what_a_probe_learns():
    async with llamacpp_server([FakeModel("tiny", context=4096, context_max=32768, vision=True)], capacity=3) as server:
        async with opened(server) as backend:
            report = await backend.probe()
    assert report.ok
    assert (report.version, report.capacity, report.load) == ("b6940-4f1a2c3d", 3, 0)
    (model,) = report.models
    assert (model.id, model.context, model.context_max, model.state) == ("tiny", 4096, 32768, State.READY)
    assert model.offers == {"chat": True, "completion": True, "json_schema": True, "tools": True, "vision": True}
    assert {task for _, task in model.speaks} == {"chat", "completion", "embedding"}
    assert model.takes_usage


async def test_only_what_leaves_the_idle_timer_alone_is_asked_but_once_what_it_speaks():
    async with llamacpp_server() as server, opened(server) as backend:
        await backend.probe()
        assert [r.body for r in server.requests if r.method == "POST"] == [b"{}"]
        server.requests.clear()
        await backend.probe()
    assert {(received.method, received.path) for received in server.requests} == {
        ("GET", path) for path in ("/health", "/v1/models", "/props", "/metrics")
    }


NATIVE = {("anthropic", "chat"), ("anthropic", "count")}
COUNT = "/v1/messages/count_tokens"


@pytest.mark.parametrize(("status", "native"), [(500, True), (400, True), (404, False), (501, False)])
async def test_a_build_that_takes_anthropics_requests_is_known_by_its_refusal(status, native):
    refusal = Respond(status, json={"error": {"code": status, "message": "'messages' is required", "type": "server_error"}})
    model = await model_of(llamacpp_server().on(COUNT, refusal, method="POST"))
    assert (model.speaks >= NATIVE) is native


async def test_what_a_sleeping_server_speaks_is_asked_when_it_is_awake():
    async with llamacpp_server(sleeping=True) as server, opened(server) as backend:
        server.on(COUNT, Respond(400, json={}), method="POST")
        (model,) = (await backend.probe()).models
        assert server.calls(COUNT) == []
        server.sleeping = False
        (again,) = (await backend.probe()).models
        server.sleeping = True
        (asleep,) = (await backend.probe()).models
    assert [m.speaks >= NATIVE for m in (model, again, asleep)] == [False, True, True]
    assert len(server.calls(COUNT)) == 1


async def test_a_question_that_was_cut_is_asked_again():
    async with llamacpp_server() as server, opened(server) as backend:
        server.on(COUNT, Respond(400, json={}), method="POST")
        server.next(CutAfter(0, Respond()), path=COUNT)
        (model,) = (await backend.probe()).models
        (again,) = (await backend.probe()).models
    assert [m.speaks >= NATIVE for m in (model, again)] == [False, True]


async def test_a_sleeping_server_is_asleep():
    assert (await model_of(llamacpp_server(sleeping=True))).state is State.ASLEEP


async def test_without_metrics_the_load_is_unknown():
    async with llamacpp_server(metrics=False) as server, opened(server) as backend:
        report = await backend.probe()
    assert report.ok
    assert report.load is None


async def test_the_load_is_what_runs_and_waits():
    async with llamacpp_server() as server, opened(server) as backend:
        server.running, server.waiting = 2, 3
        assert (await backend.probe()).load == 5


@pytest.mark.parametrize(
    ("props", "tools"),
    [
        ({"chat_template_caps": {"supports_tools": True}, "chat_template": "x"}, True),
        ({"chat_template_caps": {"supports_tools": False}, "chat_template": "tools"}, False),
        ({"chat_template": "{{ messages }}"}, False),
        ({"chat_template": "{% if tools %}"}, None),
        ({"chat_template": ""}, None),
        ({}, None),
        ([], None),
    ],
)
async def test_tools_by_the_template(props, tools):
    server = llamacpp_server().on("/props", Respond(json=props), method="GET")
    assert (await model_of(server)).offers.get("tools") is tools


@pytest.mark.parametrize(
    ("props", "thinks"),
    [
        ({"chat_template_caps": {"supports_reasoning_effort": True}}, True),
        ({"chat_template_caps": {"supports_reasoning_effort": False}, "chat_template": "{% if enable_thinking %}"}, None),
        ({"chat_template_caps": {}, "chat_template": "{% if enable_thinking %}"}, True),
        ({"chat_template": "{{ messages }}"}, None),
        ({"chat_template": 7}, None),
        ({}, None),
    ],
)
async def test_thinking_by_the_template(props, thinks):
    server = llamacpp_server().on("/props", Respond(json=props), method="GET")
    assert (await model_of(server)).offers.get("thinking") is thinks


async def test_images_by_the_list_where_props_are_silent():
    entry = {"id": "m", "architecture": {"input_modalities": ["text", "image"]}}
    server = (
        llamacpp_server()
        .on("/props", Respond(json={}), method="GET")
        .on("/v1/models", Respond(json={"data": [entry]}), method="GET")
    )
    assert (await model_of(server)).offers["vision"] is True


async def test_aliases():
    server = llamacpp_server().on(
        "/v1/models", Respond(json={"data": [{"id": "m", "aliases": ["m", "n", "", 7, "o"]}]}), method="GET"
    )
    assert (await model_of(server)).aliases == ("n", "o")


# ---------------------------------------------------------------- loading


async def test_while_it_loads_the_listed_model_is_loading():
    async with llamacpp_server(loading=True) as server, opened(server) as backend:
        report = await backend.probe()
        assert report.ok
        assert [(model.id, model.state, model.context) for model in report.models] == [("tiny", State.LOADING, None)]
        server.loading = False
        assert [model.state for model in (await backend.probe()).models] == [State.READY]


async def test_what_was_known_before_holds_while_it_loads_again():
    async with llamacpp_server([FakeModel("tiny", context=4096)]) as server, opened(server) as backend:
        before = (await backend.probe()).models[0]
        server.loading = True
        (model,) = (await backend.probe()).models
    assert (model.context, model.offers, model.state) == (before.context, before.offers, State.LOADING)


async def test_a_server_that_loads_and_lists_nothing():
    async with ScriptedUpstream(Respond(503, json={"error": {"message": "Loading model"}})) as server:
        async with opened(server) as backend:
            report = await backend.probe()
    assert (report.ok, report.code, report.problem) == (False, "loading", "is loading its model")


# ---------------------------------------------------------------- router


def router() -> ScriptedUpstream:
    states = {"a": "loaded", "b": "unloaded", "c": "loading", "d": "sleeping", "f": "new word"}
    data = [{"id": name, "object": "model", "status": {"value": value}} for name, value in states.items()]
    data.append({"id": "e/f", "status": {"value": "unloaded", "failed": True, "exit_code": 1}})
    server = (
        ScriptedUpstream()
        .on("/health", Respond(json={"status": "ok"}), method="GET")
        .on("/v1/models", Respond(json={"data": data}), method="GET")
    )
    return server.on(
        "/props", Respond(json={"build_info": "b9", "total_slots": 4, "default_generation_settings": {"n_ctx": 4096}}), method="GET"
    )


async def test_a_router_lists_models_with_their_states():
    async with router() as server, opened(server) as backend:
        report = await backend.probe()
    states = {model.id: model.state for model in report.models}
    assert states == {
        "a": State.READY,
        "b": State.ASLEEP,
        "c": State.LOADING,
        "d": State.ASLEEP,
        "e/f": State.ASLEEP,
        "f": State.UNKNOWN,
    }
    assert [model.id for model in report.models if model.failed] == ["e/f"]
    assert {model.id: model.context for model in report.models if model.context} == {"a": 4096}
    assert report.version == "b9"
    assert report.capacity is None  # each model has slots of its own, which are known once it is loaded
    assert {model.id: model.capacity for model in report.models if model.capacity} == {"a": 4}


async def test_asking_a_router_loads_nothing():
    async with router() as server, opened(server) as backend:
        await backend.probe()
    about_models = [received.target for received in server.requests if "model=" in received.target]
    assert about_models == ["/props?model=a&autoload=false"]


# ---------------------------------------------------------------- what goes wrong


async def test_the_wrong_key():
    async with llamacpp_server(api_key="sk-1") as server:
        async with opened(server, key="sk-2") as backend:
            report = await backend.probe()
        assert (report.ok, report.code) == (False, "unauthorized")
        assert "api_key_env" in report.problem
        assert "sk-" not in report.problem
        async with opened(server, key="sk-1") as backend:
            assert (await backend.probe()).ok


async def test_nobody_there():
    async with llamacpp_server() as server, opened(server) as backend:
        server.stop_listening()
        report = await backend.probe()
    assert (report.ok, report.code) == (False, "unreachable")
    assert report.problem == f"refused the connection at {server.url}"


@pytest.mark.parametrize(
    "act",
    [
        Respond(404),
        Respond(body=b"<html>"),
        Respond(json=[]),
        Respond(json={}),
        Respond(json={"data": "x"}),
        Respond(json={"data": {"id": "x"}}),
    ],
    ids=str,
)
async def test_another_kind_of_server(act):
    async with ScriptedUpstream(act) as server, opened(server) as backend:
        report = await backend.probe()
    assert (report.ok, report.code) == (False, "not_this_kind")


@pytest.mark.parametrize("junk", [None, [], "x", 7, {"id": None}, {"id": ""}, {"id": 7}])
async def test_junk_in_the_list_is_left_out(junk):
    server = llamacpp_server().on(
        "/v1/models", Respond(json={"data": [junk, {"id": "m", "meta": "x", "aliases": "y"}]}), method="GET"
    )
    server.on(
        "/props",
        Respond(json={"total_slots": "many", "default_generation_settings": 7, "modalities": [], "build_info": 1}),
        method="GET",
    )
    server.on("/metrics", Respond(body=b"\xff\x00llamacpp:requests_processing x\n"), method="GET")
    assert (await model_of(server)).id == "m"
