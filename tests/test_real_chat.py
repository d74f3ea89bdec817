"""Chats and plain completions: the `openai` client, Nexus, llama.cpp."""

import asyncio
import json

import openai
import pydantic
import pytest

from .asking import a_backend, fleet
from .real import HI, KEY, MODEL, SAYS, real, text_of

ID = "a-request"
ASKED_AS = {"extra_headers": {"X-Request-Id": ID}}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}

# One call, and the same one every time.
FORCED = {"messages": HI, "tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False, "temperature": 0}


class Person(pydantic.BaseModel):
    name: str
    age: int


def home(server):
    return fleet(a_backend("home", server, "llamacpp"))


async def collected(stream):
    return [chunk async for chunk in stream]


def reported(usage):
    """The client's usage, as the gateway's own pages say it."""
    return {"input_tokens": usage.prompt_tokens, "output_tokens": usage.completion_tokens, "source": "reported"}


def told(story):
    return {key: story["usage"][key] for key in ("input_tokens", "output_tokens", "source")}


# ---------------------------------------------------------------- whole


async def test_a_chat_and_its_headers(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        raw = await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, **ASKED_AS)
        answer = raw.parse()
        story = await at.story(ID)
        await at.idle()
    assert answer.choices[0].message.content.strip() == SAYS
    assert answer.choices[0].finish_reason == "stop"
    assert {name: raw.headers[f"X-Nexus-{name}"] for name in ("Request-Id", "Backend", "Backend-Type", "Model")} == {
        "Request-Id": ID,
        "Backend": "home",
        "Backend-Type": "local",
        "Model": MODEL,
    }
    assert (raw.headers["X-Nexus-Privacy-Zone"], raw.headers["X-Nexus-Route-Reason"]) == ("restricted", "capability-match")
    assert raw.headers["X-Nexus-Attempts"] == "1"
    assert answer.usage.completion_tokens > len(SAYS.split())
    assert told(story) == reported(answer.usage)
    assert (story["outcome"], story["status"]) == ("ok", 200)


async def test_the_client_that_does_not_know_asyncio(llamacpp, nexus_gateway):
    def talk(base_url):
        with openai.OpenAI(base_url=base_url, api_key=KEY, max_retries=0, timeout=10) as client:
            names = [model.id for model in client.models.list()]
            whole = client.chat.completions.create(model=names[0], messages=HI)
            streamed = list(client.chat.completions.create(model=names[0], messages=HI, stream=True))
        return names, whole.choices[0].message.content, text_of(streamed)

    async with real(nexus_gateway, home(llamacpp())) as at:
        names, whole, streamed = await asyncio.to_thread(talk, at.base_url)
    assert names == [MODEL]
    assert whole.strip() == streamed.strip() == SAYS


# ---------------------------------------------------------------- streamed


@pytest.mark.parametrize("options", [None, {"include_usage": False}, {"include_usage": True}], ids=["unsaid", "no", "yes"])
async def test_the_usage_of_a_stream_is_known_and_shown_to_who_asked(llamacpp, nexus_gateway, options):
    async with real(nexus_gateway, home(llamacpp())) as at:
        asked = {} if options is None else {"stream_options": options}
        raw = await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI, stream=True, **asked, **ASKED_AS)
        chunks = await collected(raw.parse())
        story = await at.story(ID)
        await at.idle()
        whole = await at.client.chat.completions.create(model=MODEL, messages=HI)
    assert raw.headers["X-Nexus-Backend"] == "home"
    assert text_of(chunks).strip() == SAYS
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    shown = [chunk for chunk in chunks if not chunk.choices]
    if options == {"include_usage": True}:
        assert shown == chunks[-1:]
        assert told(story) == reported(chunks[-1].usage)
    else:
        assert not shown
        assert not any(chunk.usage for chunk in chunks)
    assert told(story) == reported(whole.usage)
    assert (story["outcome"], story["status"]) == ("ok", 200)
    assert story["timings"]["first_byte_ms"] > 0


async def test_the_stream_helper(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        options = {"include_usage": True}
        async with at.client.chat.completions.stream(model=MODEL, messages=HI, stream_options=options) as stream:
            events = await collected(stream)
            final = await stream.get_final_completion()
    said = "".join(event.delta for event in events if event.type == "content.delta")
    assert said.strip() == SAYS
    assert [event.content for event in events if event.type == "content.done"] == [said]
    assert (final.choices[0].message.content, final.choices[0].finish_reason) == (said, "stop")
    assert final.usage.completion_tokens > len(SAYS.split())


# ---------------------------------------------------------------- tools, schemas


async def test_a_forced_tool_is_called(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        answer = await at.client.chat.completions.create(model=MODEL, **FORCED)
        (call,) = answer.choices[0].message.tool_calls
        history = [
            *HI,
            {"role": "assistant", "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": "sunny"},
        ]
        after = await at.client.chat.completions.create(model=MODEL, messages=history, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert (call.type, call.function.name) == ("function", "get_weather")
    assert isinstance(json.loads(call.function.arguments)["city"], str)
    assert after.choices[0].message.content.strip() == SAYS
    assert after.usage.prompt_tokens > answer.usage.prompt_tokens


async def test_a_streamed_tool_call_comes_in_pieces_of_one_index(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        stream = await at.client.chat.completions.create(model=MODEL, stream=True, **FORCED, **ASKED_AS)
        chunks = await collected(stream)
        story = await at.story(ID)
    pieces = [piece for chunk in chunks for choice in chunk.choices for piece in choice.delta.tool_calls or ()]
    assert len(pieces) > 2
    assert {piece.index for piece in pieces} == {0}
    assert (pieces[0].function.name, bool(pieces[0].id)) == ("get_weather", True)
    assert "city" in json.loads("".join(piece.function.arguments or "" for piece in pieces))
    assert chunks[-1].choices[0].finish_reason == "tool_calls"
    assert story["usage"]["source"] == "reported"
    assert story["usage"]["output_tokens"] > len(pieces)


async def test_the_stream_helper_puts_a_tool_call_together(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        async with at.client.chat.completions.stream(model=MODEL, **FORCED) as stream:
            done = [event async for event in stream if event.type == "tool_calls.function.arguments.done"]
            final = await stream.get_final_completion()
    (call,) = final.choices[0].message.tool_calls
    assert [(event.name, event.arguments) for event in done] == [("get_weather", call.function.arguments)]
    assert "city" in json.loads(call.function.arguments)


async def test_an_answer_by_a_json_schema(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        asked = {"messages": HI, "response_format": Person, "temperature": 0}
        answer = await at.client.chat.completions.parse(model=MODEL, **asked)
        async with at.client.chat.completions.stream(model=MODEL, **asked) as stream:
            streamed = await stream.get_final_completion()
    assert answer.choices[0].message.parsed.name.strip() == SAYS
    assert streamed.choices[0].message.parsed == answer.choices[0].message.parsed


# ---------------------------------------------------------------- completions, models


async def test_a_plain_completion_whole_and_streamed(llamacpp, nexus_gateway):
    async with real(nexus_gateway, home(llamacpp())) as at:
        whole = await at.client.completions.create(model=MODEL, prompt="hello", extra_headers={"X-Request-Id": "whole"})
        stream = await at.client.completions.create(model=MODEL, prompt="hello", stream=True, **ASKED_AS)
        chunks = await collected(stream)
        stories = [await at.story(id) for id in ("whole", ID)]
    assert whole.object == "text_completion"
    assert whole.choices[0].text.strip() == "".join(c.text for chunk in chunks for c in chunk.choices).strip() == SAYS
    assert [told(story) for story in stories] == [reported(whole.usage)] * 2
    assert [story["request"]["task"] for story in stories] == ["completion"] * 2


async def test_models_are_listed_and_found_by_any_id(llamacpp, nexus_gateway):
    names = ["org/tiny:1b-q8_0", "plain", "an/org/of:orgs/x"]
    servers = [llamacpp(ctx=1024 * place) for place in (1, 2, 3)]
    named = [
        a_backend(f"b{place}", server, "llamacpp", models=[{"id": MODEL, "name": name}])
        for place, (server, name) in enumerate(zip(servers, names, strict=True))
    ]
    async with real(nexus_gateway, fleet(*named, routing={"aliases": {"gpt-4o": names[0]}})) as at:
        listed = {model.id: model async for model in at.client.models.list()}
        found = [await at.client.models.retrieve(name) for name in (*names, "gpt-4o")]
        answer = await at.client.chat.completions.with_raw_response.create(model=names[2], messages=HI)
        aliased = await at.client.chat.completions.with_raw_response.create(model="gpt-4o", messages=HI)
        with pytest.raises(openai.NotFoundError, match="no/such:model"):
            await at.client.models.retrieve("no/such:model")
    assert set(listed) == {*names, "gpt-4o"}
    assert [model.id for model in found] == [*names, "gpt-4o"]
    assert found == [listed[model.id] for model in found]
    assert [model.context_length for model in found] == [1024, 2048, 3072, 1024]
    assert {model.owned_by for model in found} == {"nexus"}
    assert [model.backends for model in found] == [["b0"], ["b1"], ["b2"], ["b0"]]
    assert "tools" in found[0].capabilities
    assert "vision" not in found[0].capabilities
    assert (answer.headers["X-Nexus-Backend"], answer.headers["X-Nexus-Model"]) == ("b2", names[2])
    assert (aliased.headers["X-Nexus-Backend"], aliased.headers["X-Nexus-Model"]) == ("b0", names[0])
