"""The kinds of this package against doubles that answer as the servers do."""

import contextlib

import nexus_openai
import pytest
from nexus_openai import CompatibleOptions

from nexus.api import NoOptions, Price, Secret, Server, State
from nexus.testing import (
    FakeModel,
    Malformed,
    Respond,
    ScriptedUpstream,
    litellm_server,
    llamafile_server,
    llamaswap_server,
    localai_server,
    mlx_server,
    openai_server,
    rayserve_server,
    transformers_server,
)
from nexus.testing.scope import a_scope

KINDS = {kind.name: kind for kind in nexus_openai.nexus_backends()}
DOUBLES = {
    "openai": openai_server,
    "openai-compatible": openai_server,
    "localai": localai_server,
    "llamaswap": llamaswap_server,
    "llamafile": llamafile_server,
    "rayserve": rayserve_server,
    "litellm": litellm_server,
    "transformers": transformers_server,
    "mlx": mlx_server,
}
TASKS = {"transformers": {"chat"}, "mlx": {"chat", "completion"}}


@contextlib.asynccontextmanager
async def opened(kind: str, server, key: str | None = None, options=None):
    async with a_scope(upstream=object()) as scope:
        target = Server(name="x", url=server.url, key=Secret(key) if key else None)
        async with KINDS[kind].open(target, options or KINDS[kind].options(), scope) as backend:
            yield backend


async def probe(kind: str, server, key: str | None = None, options=None):
    async with server, opened(kind, server, key, options) as backend:
        return await backend.probe()


def test_the_descriptors():
    assert set(KINDS) == set(DOUBLES)
    assert [name for name, kind in KINDS.items() if kind.cloud] == ["openai"]
    assert [name for name, kind in KINDS.items() if kind.runs_models] == ["llamafile", "transformers", "mlx"]
    assert KINDS["openai"].default_url == "https://api.openai.com"
    assert KINDS["openai"].fingerprints == ()
    assert KINDS["llamafile"].capacity == 1


@pytest.mark.parametrize("kind", DOUBLES)
async def test_every_kind_lists_its_models(kind):
    report = await probe(kind, DOUBLES[kind](["tiny"]))
    assert report.ok, report.problem
    (model,) = report.models
    assert model.id == "tiny"
    assert (
        {task for _, task in model.speaks}
        == TASKS.get(kind, {"chat", "completion", "embedding"})
        == {t for _, t in KINDS[kind].speaks}
    )


@pytest.mark.parametrize(
    ("kind", "takes"),
    [
        ("openai", True),
        ("localai", True),
        ("litellm", True),
        ("openai-compatible", False),
        ("llamaswap", True),
        ("mlx", True),
        ("transformers", False),
        ("rayserve", False),
    ],
)
async def test_stream_options_only_where_they_are_known_to_be_taken(kind, takes):
    assert [model.takes_usage for model in (await probe(kind, DOUBLES[kind]())).models] == [takes]


async def test_the_operator_may_know_that_they_are():
    report = await probe("openai-compatible", openai_server(), options=CompatibleOptions(takes_usage=True))
    assert [model.takes_usage for model in report.models] == [True]


@pytest.mark.parametrize("kind", DOUBLES)
async def test_the_wrong_key(kind):
    report = await probe(kind, DOUBLES[kind](api_key="sk-1"), key="sk-2")
    assert (report.ok, report.code) == (False, "unauthorized")
    assert report.problem == "answered 401: the key is wrong or missing (api_key_env)"


@pytest.mark.parametrize("kind", DOUBLES)
async def test_the_right_key(kind):
    report = await probe(kind, DOUBLES[kind](api_key="sk-1"), key="sk-1")
    assert report.ok, report.problem


@pytest.mark.parametrize("kind", DOUBLES)
async def test_nobody_there(kind):
    async with DOUBLES[kind]() as server, opened(kind, server) as backend:
        server.stop_listening()
        report = await backend.probe()
    assert (report.ok, report.code) == (False, "unreachable")
    assert report.problem == f"refused the connection at {server.url}"


NO_LISTS = [
    (Respond(404), "not_this_kind"),
    (Respond(body=b"<html>"), "not_this_kind"),
    (Respond(json={"data": 7}), "not_this_kind"),
    (Respond(body=b"[" * 100_000), "not_this_kind"),
    (Respond(302, headers={"Location": "/v1/models2"}), "not_this_kind"),
    (Malformed(b"garbage\r\n\r\n"), "not_this_kind"),
    (Malformed(b""), "unreachable"),
    (Malformed(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"), "unreachable"),
    (Respond(500), "unreachable"),
]


@pytest.mark.parametrize("kind", DOUBLES)
async def test_a_model_list_that_is_none(kind):
    for act, code in NO_LISTS:
        report = await probe(kind, DOUBLES[kind]().on("/v1/models", act, method="GET"))
        assert (report.ok, report.code, report.models) == (False, code, None), f"{act!r:.50}"
        assert report.problem, f"{act!r:.50}"


@pytest.mark.parametrize(
    ("kind", "path"),
    [("localai", "/readyz"), ("rayserve", "/-/healthz"), ("llamafile", "/health"), ("litellm", "/health/liveliness")],
)
async def test_a_server_that_is_not_ready(kind, path):
    for method in (None, "GET"):
        server = DOUBLES[kind]().on(path, Respond(503, json={"loading": {"state": "starting", "eta_seconds": 12}}), method=method)
    report = await probe(kind, server)
    assert (report.ok, report.code, report.eta) == (False, "loading", 12.0)


@pytest.mark.parametrize(
    "body", [b"", b"busy", b"[]", b'{"loading": {"eta_seconds": "soon"}}', b'{"loading": {"eta_seconds": true}}']
)
async def test_not_ready_without_saying_until_when(body):
    report = await probe("localai", localai_server().on("/readyz", Respond(503, body=body)))
    assert (report.code, report.eta) == ("loading", None)


# ---------------------------------------------------------------- LocalAI


async def test_localai_says_what_is_loaded():
    async with localai_server(["a", FakeModel("b", loaded=False)]) as server, opened("localai", server) as backend:
        report = await backend.probe()
    assert report.version == "v3.7.0"
    assert {model.id: model.state for model in report.models} == {"a": State.READY, "b": State.ASLEEP}


async def test_localai_says_what_models_can_do():
    data = [{"id": "tiny", "capabilities": ["chat", "tools"], "input_modalities": ["text", "image"]}, {"id": "other"}]
    server = localai_server().on("/v1/models/capabilities", Respond(json={"object": "list", "data": data}))
    (model,) = (await probe("localai", server)).models
    assert model.offers == {"chat": True, "tools": True, "vision": True}


@pytest.mark.parametrize("act", [Respond(404), Respond(401), Respond(json=[]), Respond(json={"loaded_models": None})])
async def test_localai_without_its_system_page(act):
    (model,) = (await probe("localai", localai_server().on("/system", act))).models
    assert model.state is State.UNKNOWN


async def test_an_older_localai():
    server = localai_server().on("/readyz", Respond(404)).on("/.well-known/localai.json", Respond(404))
    report = await probe("localai", server)
    assert (report.ok, report.version) == (True, "")


# ---------------------------------------------------------------- llama-swap


async def test_llamaswap_says_what_runs():
    data = {"running": [{"model": "a", "state": "ready"}, {"model": "b", "state": "starting"}, {"model": "c", "state": "stopping"}]}
    server = llamaswap_server(["a", "b", "c", "d"]).on("/running", Respond(json=data), method="GET")
    report = await probe("llamaswap", server)
    expected = {"a": State.READY, "b": State.LOADING, "c": State.ASLEEP, "d": State.ASLEEP}
    assert {model.id: model.state for model in report.models} == expected
    assert not server.calls("/health")


async def test_a_server_that_runs_nothing_by_that_name_is_no_llamaswap():
    assert (await probe("llamaswap", openai_server())).code == "not_this_kind"


# ---------------------------------------------------------------- llamafile


@pytest.mark.parametrize("act", [Respond(404), Respond(json={"status": "ok"})])
async def test_llamafile_with_and_without_a_health_page(act):
    report = await probe("llamafile", llamafile_server().on("/health", act, method="GET"))
    assert (report.ok, report.capacity) == (True, 1)
    assert [model.state for model in report.models] == [State.READY]


# ---------------------------------------------------------------- LiteLLM


async def test_litellms_health_page_is_never_asked():
    server = litellm_server()
    assert (await probe("litellm", server)).ok
    assert server.billed == 0


async def test_litellm_says_what_is_behind_a_name():
    info = {
        "mode": "chat",
        "max_input_tokens": 128000,
        "max_output_tokens": 16384,
        "supports_vision": True,
        "supports_function_calling": None,
        "supports_response_schema": False,
        "input_cost_per_token": 2.5e-6,
        "output_cost_per_token": 1e-5,
        "id": 7,
    }
    server = litellm_server().on("/model/info", Respond(json={"data": [{"model_name": "tiny", "model_info": info}]}), method="GET")
    (model,) = (await probe("litellm", server)).models
    assert model.offers == {"chat": True, "embedding": False, "vision": True, "json_schema": False}
    assert (model.context, model.context_max, model.max_output_tokens) == (None, 128000, 16384)
    assert model.price == Price(input=2.5, output=10.0)


@pytest.mark.parametrize("costs", [{}, {"input_cost_per_token": 1e-6}, {"input_cost_per_token": "1", "output_cost_per_token": -1}])
async def test_litellm_without_prices(costs):
    answer = Respond(json={"data": [{"model_name": "tiny", "model_info": costs}, {"model_name": "x", "model_info": None}, 7]})
    (model,) = (await probe("litellm", litellm_server().on("/model/info", answer, method="GET"))).models
    assert model.price is None


@pytest.mark.parametrize("act", [Respond(403), Respond(json={"data": None}), Respond(body=b"x")])
async def test_litellm_that_keeps_its_table_to_itself(act):
    report = await probe("litellm", litellm_server().on("/model/info", act, method="GET"))
    assert [model.offers for model in report.models] == [{}]


# ---------------------------------------------------------------- OpenAI


async def test_openai_asks_for_the_list_and_nothing_else():
    server = openai_server(["gpt-4o", "gpt-99"], api_key="sk-1")
    report = await probe("openai", server, key="sk-1")
    assert [received.path for received in server.requests] == ["/v1/models"]
    known, unknown = report.models
    assert (known.context, known.offers["vision"], known.state) == (128_000, True, State.READY)
    assert (unknown.context, dict(unknown.offers), unknown.price) == (None, {}, None)


async def test_no_key_at_all():
    report = await probe("openai", openai_server(api_key="sk-1"))
    assert report.code == "unauthorized"


async def test_generic_options_are_the_only_ones():
    assert {name: kind.options for name, kind in KINDS.items() if kind.options is not NoOptions} == {
        "openai-compatible": CompatibleOptions
    }


async def test_an_empty_list_is_a_server_without_models():
    report = await probe("openai-compatible", ScriptedUpstream(Respond(json={"object": "list", "data": None})))
    assert (report.ok, report.models) == (True, ())


# ---------------------------------------------------------------- llama-swap


async def test_llama_swaps_further_names_are_in_its_meta():
    report = await probe("llamaswap", llamaswap_server(["tiny-a", "tiny-b"], also={"alias-a": "tiny-a", "alias-b": "tiny-a"}))
    assert [(m.id, m.aliases) for m in report.models] == [("tiny-a", ("alias-a", "alias-b")), ("tiny-b", ())]


async def test_the_context_of_what_runs_is_asked_once_and_nothing_is_started_for_it():
    models = [FakeModel("runs", context=4096), FakeModel("org/runs", context=8192), FakeModel("sleeps", loaded=False)]
    async with llamaswap_server(models) as server, opened("llamaswap", server) as backend:
        for _ in range(3):
            report = await backend.probe()
            assert {m.id: (m.context, m.state) for m in report.models} == {
                "runs": (4096, State.READY),
                "org/runs": (8192, State.READY),
                "sleeps": (None, State.ASLEEP),
            }
        asked = [r.path for r in server.requests if r.path.startswith("/upstream/")]
        assert sorted(asked) == ["/upstream/org/runs/props", "/upstream/runs/props"]  # each question puts off the unloading
        server.loaded.discard("runs")
        assert {m.id: m.context for m in (await backend.probe()).models}["runs"] is None
        server.loaded.add("runs")
        assert {m.id: m.context for m in (await backend.probe()).models}["runs"] == 4096
        assert not server.started


@pytest.mark.parametrize("state", ["starting", "stopping", "stopped", "shutdown", "new word", None])
async def test_one_that_does_not_run_yet_is_not_asked(state):
    async with llamaswap_server(["tiny"]) as server, opened("llamaswap", server) as backend:
        server.on("/running", Respond(json={"running": [{"model": "tiny", "state": state}]}), method="GET")
        (model,) = (await backend.probe()).models
        assert model.state == (State.LOADING if state == "starting" else State.ASLEEP)
        assert not [r for r in server.requests if r.path.startswith("/upstream")]


async def test_what_runs_there_may_be_no_llama_cpp():
    async with llamaswap_server(["tiny"]) as server, opened("llamaswap", server) as backend:
        server.on("/upstream/tiny/props", Respond(404, body=b"not found"))
        report = await backend.probe()
        assert (report.ok, report.models[0].context) == (True, None)


# ---------------------------------------------------------------- transformers and mlx


async def test_transformers_only_chats_and_knows_its_models_by_their_revision_too():
    (model,) = (await probe("transformers", transformers_server(["org/tiny"]))).models
    assert model.aliases == ("org/tiny@main",)
    assert (model.offers["completion"], model.offers["embedding"]) == (False, False)


async def test_what_mlx_was_started_with_has_a_name_where_its_list_has_none():
    async with mlx_server([]) as server:
        async with opened("mlx", server) as backend:
            assert [m.id for m in (await backend.probe()).models] == ["default_model"]
        async with a_scope(upstream=object()) as scope:
            declared = Server(name="x", url=server.url, declared=("org/mine",))
            async with KINDS["mlx"].open(declared, KINDS["mlx"].options(), scope) as backend:
                assert (await backend.probe()).models == ()


@pytest.mark.parametrize("kind", ["openai-compatible", "mlx", "transformers", "llamaswap", "litellm", "rayserve"])
@pytest.mark.parametrize("data", [None, []])
async def test_a_list_of_nothing_is_a_list(kind, data):
    async with DOUBLES[kind]() as server, opened(kind, server) as backend:
        server.on("/v1/models", Respond(json={"object": "list", "data": data}), method="GET")
        report = await backend.probe()
        assert report.ok, report.problem
        assert [m.id for m in report.models] == (["default_model"] if kind == "mlx" else [])
