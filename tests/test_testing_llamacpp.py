"""The real llama.cpp server of the tests, driven directly by the real client: what later goes through the gateway works without."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import openai
import pytest

ASK = {"model": "tiny-llama", "messages": [{"role": "user", "content": "say hello"}], "temperature": 0}
SENTENCE = "Hello from the tiny random llama model that our tests have made"
WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 8}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOL = {"type": "function", "function": {"name": "weather", "parameters": WEATHER}}


def client_of(server, key="none"):
    return openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0, timeout=30)


async def test_chat_whole_and_streamed_say_the_sentence(llamacpp):
    server = llamacpp()
    async with client_of(server) as client:
        whole = await client.chat.completions.create(**ASK)
        stream = await client.chat.completions.create(**ASK, stream=True, stream_options={"include_usage": True})
        chunks = [chunk async for chunk in stream]
    assert whole.choices[0].message.content.strip() == SENTENCE
    assert whole.choices[0].finish_reason == "stop"
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices).strip() == SENTENCE
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens > 10


async def test_a_forced_tool_call_and_a_schema_end_properly(llamacpp):
    server = llamacpp()
    async with client_of(server) as client:
        called = await client.chat.completions.create(**ASK, tools=[TOOL], tool_choice="required", max_tokens=200)
        format = {"type": "json_schema", "json_schema": {"name": "weather", "schema": WEATHER}}
        written = await client.chat.completions.create(**ASK, response_format=format, max_tokens=200)
    assert called.choices[0].finish_reason == "tool_calls"
    assert set(json.loads(called.choices[0].message.tool_calls[0].function.arguments)) == {"city"}
    assert set(json.loads(written.choices[0].message.content)) == {"city"}


async def test_embeddings_as_floats_and_as_base64(llamacpp):
    server = llamacpp(embedding=True)
    async with client_of(server) as client:
        packed = await client.embeddings.create(model="tiny-llama", input=["one", "two"])
        plain = await client.embeddings.create(model="tiny-llama", input=["one", "two"], encoding_format="float")
    assert len(packed.data) == 2
    assert packed.data[0].embedding == pytest.approx(plain.data[0].embedding, abs=1e-6)
    assert packed.data[0].embedding != packed.data[1].embedding


async def test_it_says_its_context_and_its_slots(llamacpp):
    server = llamacpp(ctx=4096, parallel=3)
    async with aiohttp.ClientSession() as session, session.get(f"{server.url}/props") as answer:
        props = await answer.json()
    assert props["default_generation_settings"]["n_ctx"] == 4096
    assert props["total_slots"] == 3
    assert props["build_info"]


async def test_a_key_is_asked_for(llamacpp):
    server = llamacpp(api_key="sk-test")
    async with client_of(server, "wrong") as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(**ASK)
    async with client_of(server, "sk-test") as client:
        assert (await client.chat.completions.create(**ASK, max_tokens=1)).choices


async def test_killed_it_refuses_and_restarted_it_serves_on_the_same_port(llamacpp):
    server = llamacpp()
    await asyncio.to_thread(server.kill)
    assert not server.alive
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", server.port)
    url = server.url
    await asyncio.to_thread(server.restart)
    assert server.url == url
    async with client_of(server) as client:
        assert (await client.chat.completions.create(**ASK, max_tokens=2)).choices[0].finish_reason == "length"


async def test_two_servers_run_side_by_side(llamacpp):
    one, two = llamacpp(), llamacpp()
    assert one.port != two.port
    one.kill()
    async with client_of(two) as client:
        assert [model.id async for model in client.models.list()] == [two.model]


def test_a_server_that_cannot_start_says_why(llamacpp, tiny_model, tmp_path):
    server = llamacpp()
    kind = type(server)
    broken = kind(tmp_path / "missing.gguf", tmp_path / "broken.log", [])
    with pytest.raises(RuntimeError, match="did not start"):
        broken.start()
    broken.close()
