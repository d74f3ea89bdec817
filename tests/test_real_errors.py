"""What the `openai` client raises when llama.cpp cannot: as early as Nexus knows, and in words that clients understand."""

import asyncio

import openai
import pytest

from .asking import a_backend, fleet
from .real import HI, KEY, MODEL, data_of, real

PICTURE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4nGNgYGBgAAAABQABpfZFQAAAAABJRU5ErkJggg=="
SEEING = [
    {"role": "user", "content": [{"type": "text", "text": "what is this?"}, {"type": "image_url", "image_url": {"url": PICTURE}}]}
]
SERVED = 2048


def home(server, **more):
    return a_backend("home", server, "llamacpp", **more)


async def test_a_wrong_name_gets_the_nearest_ones(llamacpp, nexus_gateway):
    server = llamacpp()
    async with real(nexus_gateway, fleet(home(server), routing={"aliases": {"tiny": MODEL}})) as at:
        with pytest.raises(openai.NotFoundError, match=MODEL) as raised:
            await at.client.chat.completions.create(model="tiny-lama", messages=HI)
    assert (raised.value.code, raised.value.param) == ("model_not_found", "model")
    assert set(data_of(raised.value)["context"]["nearest"]) == {MODEL, "tiny"}


@pytest.mark.parametrize("stream", [False, True])
async def test_a_prompt_that_is_too_long_for_what_is_served(llamacpp, nexus_gateway, stream):
    server = llamacpp(ctx=SERVED)
    async with real(nexus_gateway, fleet(home(server))) as at:
        long = [{"role": "user", "content": "hello " * 10 * SERVED}]
        with pytest.raises(openai.BadRequestError, match=f"prompt is too long: at least .* > {SERVED} maximum") as raised:
            await at.client.chat.completions.create(model=MODEL, messages=long, stream=stream)
        # so near the limit that only the server can count it: told in the same words
        near = [{"role": "user", "content": "a " * (SERVED + 100)}]
        with pytest.raises(openai.BadRequestError, match=rf"prompt is too long: \d+ tokens > {SERVED} maximum") as counted:
            await at.client.chat.completions.create(model=MODEL, messages=near, stream=stream)
        stories = await at.stories()
    assert raised.value.code == "context_length_exceeded"
    assert raised.value.type == "invalid_request_error"
    assert (counted.value.code, counted.value.type) == ("context_length_exceeded", "invalid_request_error")
    assert [len(story["attempts"]) for story in stories] == [0, 1]
    assert counted.value.response.headers["X-Nexus-Backend"] == "home"


async def test_a_picture_never_reaches_a_model_that_takes_none(llamacpp, nexus_gateway):
    server = llamacpp()
    async with real(nexus_gateway, fleet(home(server))) as at:
        with pytest.raises(openai.BadRequestError, match="takes no images") as raised:
            await at.client.chat.completions.create(model=MODEL, messages=SEEING)
        (story,) = await at.stories()
    assert raised.value.code == "capability_mismatch"
    assert [(r["backend"], r["stage"], r["reason"]) for r in data_of(raised.value)["context"]["refusals"]] == [
        ("home", "capability", "no_vision")
    ]
    assert story["attempts"] == []


async def test_a_picture_that_was_let_through_is_refused_in_the_servers_own_words(llamacpp, nexus_gateway):
    """Where the operator says that the model sees, the server is asked, and what it answers is no fault of its health."""
    written = [{"id": MODEL, "capabilities": ["chat", "vision"]}]
    server = llamacpp()
    async with real(nexus_gateway, fleet(home(server, models=written))) as at:
        with pytest.raises(openai.APIStatusError, match="image input is not supported") as raised:
            await at.client.chat.completions.create(model=MODEL, messages=SEEING)
        (story,) = await at.stories()
        answer = await at.client.chat.completions.create(model=MODEL, messages=HI)
        failures = at.gateway.gateway.fleet.standings["home"].pairs[MODEL].failures
    assert (raised.value.status_code, raised.value.code) == (400, "capability_mismatch")
    assert [(a["outcome"], a["status"], a["code"]) for a in story["attempts"]] == [("rejected", 500, "no_vision")]
    assert answer.choices
    assert failures == 0


# ---------------------------------------------------------------- keys


async def test_the_backends_key_is_used(llamacpp, nexus_gateway, monkeypatch):
    monkeypatch.setenv("KEY_OF_HOME", "sk-of-the-backend")
    server = llamacpp(api_key="sk-of-the-backend")
    async with real(nexus_gateway, fleet(home(server, api_key_env="KEY_OF_HOME"))) as at:
        answer = await at.client.chat.completions.create(model=MODEL, messages=HI)
        stream = await at.client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        chunks = [chunk async for chunk in stream]
    assert answer.choices[0].finish_reason == chunks[-1].choices[0].finish_reason == "stop"


async def test_the_clients_key_is_not_passed_on(llamacpp, nexus_gateway):
    """The server comes to want the client's very own key: with that on board the second chat would be answered."""
    server = llamacpp()
    async with real(nexus_gateway, fleet(home(server))) as at:
        await at.client.chat.completions.create(model=MODEL, messages=HI)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(llamacpp, port=server.port, api_key=KEY)
        with pytest.raises(openai.InternalServerError, match="answered 401") as raised:
            await at.client.chat.completions.create(
                model=MODEL, messages=HI, extra_headers={"x-api-key": KEY, "x-goog-api-key": KEY}
            )
    assert (raised.value.status_code, raised.value.code) == (502, "all_attempts_failed")
    assert KEY not in raised.value.response.text


async def test_a_server_that_wants_a_key_which_nobody_wrote_is_not_asked(llamacpp, nexus_gateway):
    async with real(nexus_gateway, fleet(home(llamacpp(api_key=KEY)))) as at:
        with pytest.raises(openai.InternalServerError) as raised:
            await at.client.chat.completions.create(model=MODEL, messages=HI)
        async with at.gateway.client.get("/nexus/backends") as page:
            (shown,) = (await page.json())["backends"]
    assert raised.value.status_code == 503
    assert (shown["health"], "api_key_env" in shown["problem"]) == ("unhealthy", True)
