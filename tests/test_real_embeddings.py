"""Embeddings beside chats: the `openai` client, Nexus, one llama.cpp server for each."""

import pytest

from nexus.model import CHAT, COMPLETION, EMBEDDING

from .asking import a_backend, fleet
from .real import HI, MODEL, real

TEXTS = ["hello", "a longer text of some words", "hello"]
WIDTH = 64  # of the tiny model


def named(name, server):
    return a_backend(name, server, "llamacpp", models=[{"id": MODEL, "name": name}])


def able(name, server, *tasks):
    return a_backend(name, server, "llamacpp", models=[{"id": MODEL, "capabilities": list(tasks)}])


async def test_embeddings_in_both_formats(llamacpp, nexus_gateway):
    server = llamacpp(embedding=True)
    async with real(nexus_gateway, fleet(named("embed", server))) as at:
        ask = at.client.embeddings.create
        packed = await ask(model="embed", input=TEXTS, extra_headers={"X-Request-Id": "packed"})  # base64, without being told
        plain = await ask(model="embed", input=TEXTS, encoding_format="float")
        text = await ask(model="embed", input=TEXTS, encoding_format="base64")
        single = await ask(model="embed", input=TEXTS[0])
        tokens = await ask(model="embed", input=[7, 8, 9])
        story = await at.story("packed")
    assert [item.index for item in packed.data] == [0, 1, 2]
    assert [len(item.embedding) for item in (*packed.data, *plain.data, *single.data, *tokens.data)] == [WIDTH] * 8
    assert all(isinstance(item.embedding, str) for item in text.data)
    first, second, third = (item.embedding for item in packed.data)
    assert first == pytest.approx(third, abs=1e-6)
    assert first != pytest.approx(second, abs=1e-2)
    for ours, theirs in zip(packed.data, plain.data, strict=True):
        assert ours.embedding == pytest.approx(theirs.embedding, abs=1e-6)
    assert story["request"]["task"] == EMBEDDING
    assert (story["usage"]["input_tokens"], story["usage"]["source"]) == (packed.usage.prompt_tokens, "reported")
    assert packed.usage.prompt_tokens > 3


async def test_one_name_on_two_servers_goes_where_the_task_is_done(llamacpp, nexus_gateway):
    chats, embeds = llamacpp(), llamacpp(embedding=True)
    config = fleet(able("chats", chats, CHAT, COMPLETION), able("embeds", embeds, EMBEDDING))
    async with real(nexus_gateway, config) as at:
        answers = [
            await at.client.embeddings.with_raw_response.create(model=MODEL, input="hello"),
            await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI),
            await at.client.completions.with_raw_response.create(model=MODEL, prompt="hello"),
        ]
        (model,) = (await at.client.models.list()).data
    assert [answer.headers["X-Nexus-Backend"] for answer in answers] == ["embeds", "chats", "chats"]
    assert [answer.headers["X-Nexus-Attempts"] for answer in answers] == ["1", "1", "1"]
    assert model.backends == ["chats", "embeds"]


async def test_what_a_server_says_it_cannot_do_is_learnt_and_no_failure(llamacpp, nexus_gateway):
    """llama.cpp tells by a 501 only that it was started without `--embeddings`: the chats it serves must not suffer for it."""
    chats, embeds = llamacpp(), llamacpp(embedding=True)
    config = fleet(a_backend("chats", chats, "llamacpp"), a_backend("embeds", embeds, "llamacpp"), health={"min_samples": 2})
    async with real(nexus_gateway, config) as at:
        answers = [await at.client.embeddings.with_raw_response.create(model=MODEL, input="hello") for _ in range(4)]
        chat = await at.client.chat.completions.with_raw_response.create(model=MODEL, messages=HI)
        (pair,) = at.gateway.gateway.fleet.standings["chats"].candidates()
        (story,) = [s for s in await at.stories() if len(s["attempts"]) > 1]
    assert [answer.headers["X-Nexus-Backend"] for answer in answers] == ["embeds"] * 4
    assert [answer.headers["X-Nexus-Attempts"] for answer in answers] == ["2", "1", "1", "1"]
    assert [(a["backend"], a["outcome"], a["code"]) for a in story["attempts"]] == [
        ("chats", "rejected", "no_embedding"),
        ("embeds", "ok", ""),
    ]
    assert chat.headers["X-Nexus-Backend"] == "chats"
    assert not pair.ejected_until
