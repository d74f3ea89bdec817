"""The doubles of inference servers: believable to the real client, and each recognised as what it stands for."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import openai
import pytest

from nexus.testing import (
    FakeModel,
    Hang,
    Pace,
    Respond,
    anthropic_server,
    litellm_server,
    llamacpp_server,
    llamafile_server,
    llamaswap_server,
    localai_server,
    ollama_server,
    openai_server,
    rayserve_server,
    vllm_server,
)

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "unit": {"enum": ["C", "F"]},
    },
}
TOOLS = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "time"}},
]
SAMPLE = {"city": "text", "days": [1], "unit": "C"}

ALL = {
    "openai": openai_server,
    "ollama": ollama_server,
    "llamacpp": llamacpp_server,
    "vllm": vllm_server,
    "localai": localai_server,
    "llamaswap": llamaswap_server,
    "llamafile": llamafile_server,
    "litellm": litellm_server,
    "rayserve": rayserve_server,
}


@pytest.fixture
async def session():
    async with aiohttp.ClientSession() as session:
        yield session


async def fetch(session, url, method="GET", **kw):
    """Status and JSON (else text) of one exchange."""
    async with session.request(method, url, **kw) as answer:
        return answer.status, await (answer.json() if answer.content_type == "application/json" else answer.text())


def client_of(server, key="none"):
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


# ---- the OpenAI surface, which all of them have


@pytest.mark.parametrize("make", ALL.values(), ids=ALL.keys())
async def test_the_real_client_talks_to_every_double(make):
    async with make(["m"], text="one two three") as server, client_of(server) as client:
        assert [model.id async for model in client.models.list()] == ["m"]
        whole = await client.chat.completions.create(model="m", messages=HELLO)
        stream = await client.chat.completions.create(
            model="m", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = await client.completions.create(model="m", prompt="once")
    assert whole.choices[0].message.content == text.choices[0].text == "one two three"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "one two three"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage == whole.usage
    assert whole.usage.completion_tokens == 3
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + 3


async def test_usage_comes_only_where_it_was_asked_for_and_is_known():
    for usage, options in ((True, openai.NOT_GIVEN), (False, {"include_usage": True})):
        async with openai_server(usage=usage) as server, client_of(server) as client:
            stream = await client.chat.completions.create(model="tiny", messages=HELLO, stream=True, stream_options=options)
            assert all(chunk.usage is None and chunk.choices for chunk in [chunk async for chunk in stream])


async def test_completions_stream_too():
    async with openai_server(text="a b") as server, client_of(server) as client:
        stream = await client.completions.create(model="tiny", prompt="x", stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].text for chunk in chunks[:-1]] == ["a", " b"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 2


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
async def test_a_limit_cuts_the_answer(field):
    async with openai_server(text="a b c") as server, client_of(server) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HELLO, **{field: 2})
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("a b", "length")


async def test_several_choices():
    async with openai_server(text="a b") as server, client_of(server) as client:
        whole = await client.chat.completions.create(model="tiny", messages=HELLO, n=2)
        stream = await client.chat.completions.create(model="tiny", messages=HELLO, n=2, stream=True)
        indexes = {chunk.choices[0].index async for chunk in stream}
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert indexes == {0, 1}
    assert whole.usage.completion_tokens == 4


async def test_the_text_may_depend_on_the_request():
    async with openai_server(text=lambda body: body["messages"][-1]["content"][::-1]) as server, client_of(server) as client:
        answer = await client.chat.completions.create(model="tiny", messages=HELLO)
    assert answer.choices[0].message.content == "olleh"


@pytest.mark.parametrize(
    ("choice", "tool", "called"),
    [
        ("required", False, "weather"),
        ({"type": "function", "function": {"name": "time"}}, False, "time"),
        ("auto", True, "weather"),
        ("auto", False, None),
        ("none", True, None),
    ],
)
async def test_tools(choice, tool, called):
    async with openai_server(tool=tool) as server, client_of(server) as client:
        whole = await client.chat.completions.create(model="tiny", messages=HELLO, tools=TOOLS, tool_choice=choice)
        async with client.chat.completions.stream(model="tiny", messages=HELLO, tools=TOOLS, tool_choice=choice) as stream:
            streamed = await stream.get_final_completion()
    for answer in (whole.choices[0], streamed.choices[0]):
        calls = [(call.function.name, json.loads(call.function.arguments)) for call in answer.message.tool_calls or ()]
        assert calls == ([(called, SAMPLE if called == "weather" else {})] if called else [])
        assert answer.finish_reason == ("tool_calls" if called else "stop")


async def test_a_tool_result_is_answered_by_text():
    messages = [*HELLO, {"role": "tool", "tool_call_id": "c", "content": "sunny"}]
    async with openai_server(tool=True) as server, client_of(server) as client:
        answer = await client.chat.completions.create(model="tiny", messages=messages, tools=TOOLS)
    assert answer.choices[0].message.content


async def test_json_formats():
    async with openai_server(text="hi") as server, client_of(server) as client:
        formats = ({"type": "json_object"}, {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}})
        answers = [await client.chat.completions.create(model="tiny", messages=HELLO, response_format=f) for f in formats]
    assert [json.loads(answer.choices[0].message.content) for answer in answers] == [{"answer": "hi"}, SAMPLE]


async def test_embeddings_are_the_same_in_both_encodings():
    async with openai_server([FakeModel("e", embedding=True)], dimensions=16) as server, client_of(server) as client:
        packed = await client.embeddings.create(model="e", input=["one", "two"])
        plain = await client.embeddings.create(model="e", input=["one", "two"], encoding_format="float")
        tokens = await client.embeddings.create(model="e", input=[[1, 2], [3]], dimensions=4)
    assert [e.embedding for e in packed.data] == [e.embedding for e in plain.data]
    assert packed.data[0].embedding != packed.data[1].embedding
    assert len(packed.data[0].embedding) == 16
    assert [len(e.embedding) for e in tokens.data] == [4, 4]


BAD = {
    "no JSON": ("chat/completions", b"{", 400),
    "no object": ("chat/completions", b"[]", 400),
    "no messages": ("chat/completions", b'{"model": "tiny"}', 400),
    "unknown model": ("chat/completions", b'{"model": "x", "messages": []}', 404),
    "picture": (
        "chat/completions",
        json.dumps({"model": "tiny", "messages": [{"role": "user", "content": [{"type": "image_url"}]}]}).encode(),
        400,
    ),
    "no prompt": ("completions", b'{"model": "tiny"}', 400),
    "no embedding model": ("embeddings", b'{"model": "tiny", "input": "x"}', 400),
    "no path": ("nothing", b"{}", 404),
}


@pytest.mark.parametrize(("path", "body", "status"), BAD.values(), ids=BAD.keys())
async def test_bad_requests(session, path, body, status):
    async with openai_server() as server:
        got, answer = await fetch(session, f"{server.url}/v1/{path}", "POST", data=body)
    assert got == status
    assert set(answer["error"]) == {"message", "type", "param", "code"}


async def test_one_model_by_its_id(session):
    async with openai_server(["org/a:1"]) as server:
        assert (await fetch(session, f"{server.url}/v1/models/org/a:1"))[1]["id"] == "org/a:1"
        assert (await fetch(session, f"{server.url}/v1/models/b"))[0] == 404


async def test_models_may_come_and_go(session):
    async with openai_server(["a"]) as server:
        server.models["b"] = FakeModel("b")
        del server.models["a"]
        assert [m["id"] for m in (await fetch(session, f"{server.url}/v1/models"))[1]["data"]] == ["b"]


async def test_a_key_is_asked_for():
    async with openai_server(api_key="sk-right") as server:
        async with client_of(server, "sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        async with client_of(server, "sk-right") as client:
            assert (await client.models.list()).data


@pytest.mark.parametrize("double", [*ALL.values(), anthropic_server], ids=[*ALL, "anthropic"])
async def test_the_script_goes_before_what_a_double_does_by_itself(double, session):
    async with double() as server:
        assert server._own
        for method, path in server._own:
            verb = method or "GET"
            request = {"headers": {"anthropic-version": "2023-06-01"}, "json": {}}
            server.on(path, Respond(418)).next(Respond(419), path=path)
            seen = [(await fetch(session, server.url + path, verb, **request))[0] for _ in range(2)]
            assert (path, seen) == (path, [419, 418])
            server.on(path, Respond(420), method=verb)
            assert (await fetch(session, server.url + path, verb, **request))[0] == 420


async def test_what_was_queued_is_used_up(session):
    async with openai_server() as server:
        server.next(Respond(418), path="/v1/models")
        assert [(await fetch(session, f"{server.url}/v1/models"))[0] for _ in range(2)] == [418, 200]


# ---- slots and pace


async def chats(session, server, count, **fields):
    """The statuses of so many chats at once."""
    body = {"model": next(iter(server.models)), "messages": HELLO, **fields}
    url = f"{server.url}/v1/chat/completions"
    return [status for status, _ in await asyncio.gather(*(fetch(session, url, "POST", json=body) for _ in range(count)))]


async def test_no_more_run_at_once_than_there_are_slots(session):
    async with openai_server(capacity=2, pace=Pace(first_token=0.02)) as server:
        most = 0

        def watch(body):
            nonlocal most
            most = max(most, server.running)
            return "ok"

        server.text = watch
        assert await chats(session, server, 6) == [200] * 6
        assert 1 <= most <= 2
        assert (server.running, server.waiting, server.peak) == (0, 0, 6)


async def test_too_many_waiting_are_refused(session):
    async with openai_server(capacity=1, queue_limit=1, pace=Pace(first_token=0.05)) as server:
        assert sorted(await chats(session, server, 4)) == [200, 200, 503, 503]


async def test_a_slot_is_free_again_when_a_client_leaves(session):
    async with openai_server(capacity=1, pace=Pace(first_token=3600)) as server:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await chats(session, server, 1)
        await server.until(lambda: not server.running)
        server.pace = Pace()
        assert await chats(session, server, 1) == [200]


async def test_a_stream_takes_its_time():
    async with (
        openai_server(text="a b c", pace=Pace(first_token=0.03, tokens_per_second=100)) as server,
        client_of(server) as client,
    ):
        start = asyncio.get_running_loop().time()
        async for _ in await client.chat.completions.create(model="tiny", messages=HELLO, stream=True):
            pass
        assert asyncio.get_running_loop().time() - start >= 0.06


async def test_the_first_request_loads_the_model(session):
    async with ollama_server([FakeModel("a:latest", loaded=False)], pace=Pace(load=0.02)) as server:
        ps = f"{server.url}/api/ps"
        assert (await fetch(session, ps))[1] == {"models": []}
        assert await chats(session, server, 1) == [200]
        assert [m["name"] for m in (await fetch(session, ps))[1]["models"]] == ["a:latest"]


# ---- native endpoints


async def test_ollama_says_what_its_models_can_do(session):
    models = [
        FakeModel("see:latest", vision=True, context=4096, context_max=32768),
        FakeModel("vec", embedding=True),
        FakeModel("big:cloud", remote_host="https://ollama.com:443", tools=False),
    ]
    async with ollama_server(models) as server:
        assert await fetch(session, server.url) == (200, "Ollama is running")
        assert (await fetch(session, f"{server.url}/api/version"))[1]["version"] >= "0.13.4"
        tags = {m["name"]: m for m in (await fetch(session, f"{server.url}/api/tags"))[1]["models"]}
        shown = (await fetch(session, f"{server.url}/api/show", "POST", json={"name": "see"}))[1]
        resident = (await fetch(session, f"{server.url}/api/ps"))[1]["models"]
        missing = await fetch(session, f"{server.url}/api/show", "POST", json={"model": "x"})
    assert tags["see:latest"]["capabilities"] == shown["capabilities"] == ["completion", "tools", "vision"]
    assert tags["vec"]["capabilities"] == ["embedding"]
    assert (tags["big:cloud"]["remote_host"], tags["big:cloud"]["remote_model"]) == ("https://ollama.com:443", "big")
    assert "remote_host" not in tags["vec"]
    assert shown["model_info"]["llama.context_length"] == 32768
    assert {m["name"]: m["context_length"] for m in resident} == {"see:latest": 4096, "vec": 8192}
    assert missing == (404, {"error": "model 'x' not found"})


async def test_ollama_loads_and_unloads(session):
    async with ollama_server([FakeModel("a:latest", loaded=False)]) as server:
        url = f"{server.url}/api/generate"
        assert (await fetch(session, url, "POST", json={"model": "a"}))[1]["done_reason"] == "load"
        assert server.loaded == {"a:latest"}
        assert (await fetch(session, url, "POST", json={"model": "a", "keep_alive": 0}))[1]["done_reason"] == "unload"
        assert server.loaded == set()
        assert (await fetch(session, url, "POST", json={"model": "b"}))[0] == 404


async def test_llamacpp_while_it_loads_and_after(session):
    async with llamacpp_server([FakeModel("m", context=2048, tools=False, vision=True)], loading=True, capacity=4) as server:
        health, props = f"{server.url}/health", f"{server.url}/props"
        assert (await fetch(session, health))[0] == 503
        assert (await fetch(session, props))[0] == 503
        assert (await fetch(session, f"{server.url}/v1/models"))[1]["data"][0]["meta"] is None
        server.loading = False
        assert await fetch(session, health) == (200, {"status": "ok"})
        said = (await fetch(session, props))[1]
        listed = (await fetch(session, f"{server.url}/v1/models"))[1]
    assert said["default_generation_settings"]["n_ctx"] == 2048
    assert (said["total_slots"], said["modalities"]["vision"], said["is_sleeping"]) == (4, True, False)
    assert "tools" not in said["chat_template"]
    assert said["build_info"]
    assert listed["data"][0]["meta"]["n_ctx_train"] == 131072
    assert listed["models"][0]["name"] == "m"


async def test_llamacpp_answers_whatever_model_is_named(session):
    async with llamacpp_server() as server:
        body = {"model": "anything", "messages": HELLO}
        assert (await fetch(session, f"{server.url}/v1/chat/completions", "POST", json=body))[1]["model"] == "tiny"


async def test_load_shows_in_metrics_and_slots(session):
    for server, running, waiting in (
        (llamacpp_server(capacity=1), "llamacpp:requests_processing 1", "llamacpp:requests_deferred 1"),
        (vllm_server(capacity=1), 'vllm:num_requests_running{engine="0",model_name="tiny"} 1.0', 'vllm:num_requests_waiting{engine="0",model_name="tiny"} 1.0'),
    ):  # fmt: skip
        async with server:
            server.pace = Pace(first_token=3600)
            both = asyncio.get_running_loop().create_task(chats(session, server, 2))
            await server.until(lambda server=server: (server.running, server.waiting) == (1, 1))
            _, text = await fetch(session, f"{server.url}/metrics")
            assert {running, waiting} <= set(text.splitlines())
            both.cancel()
            await server.until(lambda server=server: not server.in_flight)


async def test_vllm_says_its_context_and_its_health(session):
    async with vllm_server([FakeModel("m", context=4096)], old_metrics=True) as server:
        entry = (await fetch(session, f"{server.url}/v1/models"))[1]["data"][0]
        assert (entry["max_model_len"], entry["root"], entry["owned_by"]) == (4096, "m", "vllm")
        assert "vllm:gpu_cache_usage_perc" in (await fetch(session, f"{server.url}/metrics"))[1]
        assert (await fetch(session, f"{server.url}/health"))[0] == 200
        server.down = True
        assert (await fetch(session, f"{server.url}/health"))[0] == 503


async def test_litellm_counts_what_its_health_costs(session):
    async with litellm_server(api_key="sk-1") as server:
        assert (await fetch(session, f"{server.url}/health/liveliness")) == (200, "I'm alive!")
        assert (await fetch(session, f"{server.url}/model/info"))[0] == 401
        assert server.billed == 0
        key = {"Authorization": "Bearer sk-1"}
        assert (await fetch(session, f"{server.url}/model/info", headers=key))[1]["data"][0]["model_name"] == "tiny"
        await fetch(session, f"{server.url}/health", headers=key)
        assert server.billed == 1


async def test_llamaswap_and_localai_say_what_is_loaded(session):
    async with llamaswap_server(["a"]) as server:
        assert (await fetch(session, f"{server.url}/running"))[1]["running"][0]["model"] == "a"
        await fetch(session, f"{server.url}/api/models/unload", "POST")
        assert (await fetch(session, f"{server.url}/running"))[1] == {"running": []}
    async with localai_server(["a"]) as server:
        assert (await fetch(session, f"{server.url}/system"))[1]["loaded_models"] == [{"id": "a"}]


async def test_a_double_can_hang_like_any_scripted_server(session):
    async with vllm_server() as server:
        server.on("/health", Hang(), method="GET")
        with pytest.raises(TimeoutError):
            await fetch(session, f"{server.url}/health", timeout=aiohttp.ClientTimeout(total=0.05))
