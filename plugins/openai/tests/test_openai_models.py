"""What the many forms of a model list mean, and the table of OpenAI's families."""

import pytest
from nexus_openai.cloud import FAMILIES, family
from nexus_openai.models import offers_of, parse

from nexus.api import BackendError, State


def one(**entry):
    (model,) = parse({"data": [{"id": "m", **entry}]})
    return model


@pytest.mark.parametrize(
    ("entry", "served", "at_most"),
    [
        ({}, None, None),
        ({"max_model_len": 8192}, 8192, None),
        ({"context_length": 131072}, None, 131072),
        ({"context_window": 131072}, None, 131072),
        ({"loaded_context_length": 4096, "max_context_length": 32768}, 4096, 32768),
        ({"meta": {"n_ctx": 4096, "n_ctx_train": 8192}}, 4096, 8192),
        ({"meta": None, "max_model_len": None}, None, None),
        ({"max_model_len": "8192"}, 8192, None),
        ({"max_model_len": 8192.0}, 8192, None),
        ({"max_model_len": True, "context_length": -1}, None, None),
        ({"max_model_len": "a lot", "context_length": [1]}, None, None),
        ({"max_model_len": 0, "n_ctx": 512}, 512, None),
    ],
)
def test_contexts(entry, served, at_most):
    model = one(**entry)
    assert (model.context, model.context_max) == (served, at_most)


@pytest.mark.parametrize(
    ("entry", "most"),
    [
        ({}, None),
        ({"max_completion_tokens": 32768}, 32768),
        ({"top_provider": {"max_completion_tokens": 16384}}, 16384),
        ({"top_provider": {"max_completion_tokens": None}, "max_output_tokens": "8192"}, 8192),
        ({"top_provider": 7, "max_output_tokens": 0}, None),
    ],
)
def test_the_longest_answer(entry, most):
    assert one(**entry).max_output_tokens == most


@pytest.mark.parametrize(
    ("entry", "offers"),
    [
        ({}, {}),
        ({"object": "model", "type": "model"}, {}),
        ({"type": "llm"}, {"chat": True, "embedding": False}),
        ({"type": "vlm"}, {"chat": True, "embedding": False, "vision": True}),
        ({"type": "embeddings"}, {"chat": False, "completion": False, "embedding": True}),
        ({"type": "rerank"}, {"chat": False, "completion": False, "embedding": False}),
        ({"mode": "embedding"}, {"chat": False, "completion": False, "embedding": True}),
        ({"mode": "audio_transcription"}, {"chat": False, "completion": False, "embedding": False}),
        (
            {"capabilities": ["vision", "tools", "json_schema", "levitation", 7]},
            {"vision": True, "tools": True, "json_schema": True},
        ),
        ({"capabilities": ["tool_use"]}, {"tools": True}),
        ({"capabilities": ["embeddings"]}, {"chat": False, "completion": False, "embedding": True}),
        ({"capabilities": ["chat", "embeddings"]}, {"chat": True, "embedding": True}),
        (
            {"capabilities": {"completion_chat": True, "function_calling": False, "vision": False, "fine_tuning": True}},
            {"chat": True, "tools": False, "vision": False},
        ),
        ({"capabilities": {"vision": None}}, {}),
        ({"capabilities": "vision"}, {}),
        ({"architecture": {"input_modalities": ["text", "image"]}}, {"vision": True}),
        ({"architecture": {"input_modalities": ["text"]}}, {"vision": False}),
        ({"architecture": {"input_modalities": []}}, {}),
        ({"input_modalities": ["Text", "Image"]}, {"vision": True}),
        ({"supported_parameters": ["tools", "structured_outputs", "top_p"]}, {"tools": True, "json_schema": True}),
    ],
    ids=str,
)
def test_what_a_model_offers(entry, offers):
    assert offers_of(entry) == offers


@pytest.mark.parametrize(
    ("state", "expected"), [("loaded", State.READY), ("not-loaded", State.ASLEEP), ("?", State.UNKNOWN), (7, State.UNKNOWN)]
)
def test_states(state, expected):
    assert one(state=state).state is expected


def test_each_id_once_and_junk_left_out():
    entries = [{"id": "a"}, {"id": "a", "max_model_len": 1024}, {"id": ""}, {"id": None}, {}, None, 7, {"id": "b/c:d"}]
    assert [(model.id, model.context) for model in parse({"data": entries})] == [("a", 1024), ("b/c:d", None)]


def test_aliases():
    assert one(aliases=["m", "n", 7, ""]).aliases == ("n",)
    assert one(aliases="n").aliases == ()


@pytest.mark.parametrize("answer", [None, [], "x", {}, {"models": []}, {"data": {}}, {"data": "x"}])
def test_what_is_no_list(answer):
    with pytest.raises(BackendError) as caught:
        parse(answer)
    assert caught.value.code == "malformed"


@pytest.mark.parametrize(
    ("name", "context", "yes", "no"),
    [
        ("gpt-4o", 128_000, {"chat", "vision", "image_url", "tools", "json_schema"}, {"embedding"}),
        ("gpt-4o-2024-08-06", 128_000, {"chat", "json_schema"}, {"completion"}),
        ("gpt-4o-2024-05-13", 128_000, {"chat", "vision"}, {"json_schema"}),
        ("gpt-4.1-mini-2025-04-14", 1_047_576, {"chat", "vision"}, set()),
        ("gpt-4-0613", 8_192, {"chat", "tools"}, {"vision"}),
        ("gpt-3.5-turbo-instruct-0914", 4_096, {"completion"}, {"chat"}),
        ("text-embedding-3-small", 8_191, {"embedding"}, {"chat"}),
        ("o3-mini", 200_000, {"chat", "tools"}, {"vision"}),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", 128_000, {"chat"}, set()),
        ("gpt-4o-transcribe", None, set(), {"chat", "embedding"}),
        ("o1-pro-2025-03-19", None, set(), {"chat"}),
        ("whisper-1", None, set(), {"chat"}),
    ],
)
def test_families(name, context, yes, no):
    found = family(name)
    assert found is not None
    assert found.context == context
    assert {need for need in yes if found.offers[need]} == yes
    assert {need for need in no if not found.offers[need]} == no


@pytest.mark.parametrize(
    ("name", "max_output", "thinks"),
    [
        ("gpt-5-mini-2025-08-07", 128_000, True),
        ("o3-mini", 100_000, True),
        ("gpt-4o-mini", 16_384, False),
        ("gpt-4o-2024-05-13", 4_096, False),
    ],
)
def test_how_much_a_family_writes_and_whether_it_thinks(name, max_output, thinks):
    found = family(name)
    assert found is not None
    assert (found.max_output, found.offers["thinking"]) == (max_output, thinks)


@pytest.mark.parametrize("name", ["gpt-5.5", "gpt-6", "gpt", "", "-", "o5", "chatgpt-x", "ft:", "ft:unknown:x", "llama3"])
def test_families_that_are_not_known(name):
    assert family(name) is None


def test_no_family_says_yes_and_no_to_the_same_need():
    for found in FAMILIES.values():
        assert not set(found.yes) & set(found.no)
