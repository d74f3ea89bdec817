"""How long a prompt is, told from its bytes: every prompt of a batch by itself, all that a model reads, and no base64 as words."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nexus_anthropic.dialect import Anthropic

from nexus.api import Dialect, Facts, Payload
from nexus.dialects.base64s import LEAST, Luggage, without
from nexus.dialects.fields import likely_tokens, prompt_bytes
from nexus.dialects.openai import OpenAI

FILE = base64.b64encode(random.Random(1).randbytes(90_000)).decode()
WORDS = "the quick brown fox jumps " * 400
OPENAI, ANTHROPIC = OpenAI(), Anthropic()


def facts(dialect: Dialect, path: str, separators: tuple[str, str] = (",", ":"), **members: Any) -> Facts:
    endpoint = next(each for each in dialect.endpoints if each.path == path)
    return dialect.decode(endpoint, Payload(json.dumps({"model": "m", **members}, separators=separators).encode()))


def chat(*parts: Any) -> Facts:
    return facts(OPENAI, "/v1/chat/completions", messages=[{"role": "user", "content": list(parts)}])


def message(*blocks: Any) -> Facts:
    return facts(ANTHROPIC, "/v1/messages", max_tokens=9, messages=[{"role": "user", "content": list(blocks)}])


OPENAI_PARTS = {
    "a picture": {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{FILE}"}},
    "a picture's address alone": {"type": "image_url", "image_url": f"data:image/png;base64,{FILE}"},
    "a picture with parameters": {"type": "image_url", "image_url": {"url": f"data:image/png;charset=x;base64,{FILE}"}},
    "sound": {"type": "input_audio", "input_audio": {"data": FILE, "format": "wav"}},
    "a file": {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{FILE}"}},
    "a file without a media type": {"type": "file", "file": {"file_data": FILE}},
    "a video": {"type": "video_url", "video_url": {"url": f"data:video/mp4;base64,{FILE}"}},
    "sound by its address": {"type": "audio_url", "audio_url": {"url": f"data:audio/wav;base64,{FILE}"}},
    "an unknown part": {"type": "hologram", "hologram": {"bits": FILE}},
    "a part of another API": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": FILE}},
    "letters for addresses": {"type": "hologram", "bits": FILE.replace("+", "-").replace("/", "_")},
    "with a line end after 76": {"type": "hologram", "bits": "\n".join(FILE[at : at + 76] for at in range(0, len(FILE), 76))},
}
ANTHROPIC_BLOCKS = {
    "a picture": {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": FILE}},
    "a document": {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": FILE}},
    "a tool's picture": {
        "type": "tool_result",
        "tool_use_id": "t",
        "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": FILE}}],
    },
    "thinking": {"type": "thinking", "thinking": "hm", "signature": FILE},
    "hidden thinking": {"type": "redacted_thinking", "data": FILE},
    "what a search found": {"type": "web_search_result", "encrypted_content": FILE},
    "an unknown block": {"type": "hologram", "bits": {"of": [{"it": FILE}]}},
}


@pytest.mark.parametrize("part", OPENAI_PARTS.values(), ids=OPENAI_PARTS)
def test_what_openai_clients_attach_is_no_words(part: Any) -> None:
    assert chat(part, {"type": "text", "text": "hi"}).tokens_high < 300
    assert chat({"type": "text", "text": WORDS}, part).tokens_low >= len(WORDS) // 8


@pytest.mark.parametrize("block", ANTHROPIC_BLOCKS.values(), ids=ANTHROPIC_BLOCKS)
def test_what_anthropic_clients_attach_is_no_words(block: Any) -> None:
    assert message(block, {"type": "text", "text": "hi"}).tokens_high < 300
    assert message({"type": "text", "text": WORDS}, block).tokens_low >= len(WORDS) // 8


def test_spelling_does_not_matter() -> None:
    part = OPENAI_PARTS["a file"]
    found = facts(OPENAI, "/v1/chat/completions", (" , ", " : "), messages=[{"role": "user", "content": [part]}])
    assert found.tokens_high < 300
    escaped = json.dumps({"model": "m", "messages": [{"role": "user", "content": [part]}]}).replace("/", "\\/").encode()
    assert OPENAI.decode(OPENAI.endpoints[0], Payload(escaped)).tokens_high < 300


@pytest.mark.parametrize("dialect", [OPENAI, ANTHROPIC], ids=["openai", "anthropic"])
@pytest.mark.parametrize("content", [FILE, [{"type": "text", "text": FILE}]], ids=["text", "part"])
def test_in_a_text_base64_is_words_to_the_model(dialect: Dialect, content: Any) -> None:
    found = facts(dialect, dialect.endpoints[0].path, messages=[{"role": "user", "content": content}])
    assert found.tokens_low >= len(FILE) // 8


def test_a_call_of_a_tool_is_words() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps({"data": FILE, "path": WORDS})}}
    found = facts(OPENAI, "/v1/chat/completions", messages=[{"role": "assistant", "tool_calls": [call]}])
    assert found.tokens_low >= (len(WORDS) + len(FILE)) // 8
    assert message({"type": "tool_use", "id": "c", "name": "f", "input": {"path": WORDS}}).tokens_low >= len(WORDS) // 8


def test_all_that_a_model_reads_counts() -> None:
    plain = chat({"type": "text", "text": "hi"}).tokens_low
    messages = [{"role": "user", "content": "hi"}]
    path, tool = "/v1/chat/completions", {"type": "function", "function": {"name": "f", "description": WORDS}}
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"description": WORDS}}}
    for members in ({"tools": [tool]}, {"functions": [tool["function"]]}, {"response_format": schema}):
        assert facts(OPENAI, path, messages=messages, **members).tokens_low >= plain + len(WORDS) // 8 - 8
    own = {"name": "f", "description": WORDS, "input_schema": {}}
    for members in ({"tools": [own]}, {"system": WORDS}, {"output_config": {"format": schema}}):
        assert facts(ANTHROPIC, "/v1/messages", max_tokens=9, messages=messages, **members).tokens_low >= len(WORDS) // 8


BATCHES: dict[str, tuple[Any, int, int]] = {  # what is asked for: the bytes of the longest, and of all
    "a text": ("x" * 100, 102, 102),
    "texts": (["x" * 100, "y" * 50], 102, 154),
    "tokens": ([15339, 1917, 3], 12, 12),
    "lists of tokens": ([[1, 2, 3], [4]], 12, 16),
    "texts and tokens": (["x" * 100, [1, 2]], 102, 110),
    "no text": ("", 2, 2),
    "nothing": ([], 2, 2),
    "brackets in texts": (["],[" * 20, "1,2"], 62, 67),
}


@pytest.mark.parametrize(("value", "longest", "total"), BATCHES.values(), ids=BATCHES)
@pytest.mark.parametrize("separators", [(",", ":"), (" , ", " : ")], ids=["compact", "spaced"])
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v1/completions"])
def test_each_prompt_of_a_batch_stands_alone(path: str, separators: tuple[str, str], value: Any, longest: int, total: int) -> None:
    member = "input" if path == "/v1/embeddings" else "prompt"
    found = facts(OPENAI, path, separators, **{member: value})
    assert found.tokens_low == longest // 8
    assert found.tokens_high == longest // 2 + 1
    assert likely_tokens(found) == (total // 2 + 1) * 2 // 4


@pytest.mark.parametrize("count", [10, 300_000], ids=["few", "many"])
def test_lists_of_tokens_are_told_without_being_decoded(count: int) -> None:
    lists = [[1] * (1 + at % 7) for at in range(count)]
    assert prompt_bytes(json.dumps(lists).encode()) == (28, sum(map(len, lists)) * 4)


TEXTS = st.text(st.sampled_from('ab \\"/+é,:{}'), max_size=30)
MEMBERS = st.recursive(
    TEXTS | st.integers(LEAST - 3, LEAST + 90).map(lambda size: FILE[:size]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["data", "text", "url", "x"]), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=300)
@given(MEMBERS, st.sampled_from([(",", ":"), (", ", ": ")]))
def test_what_is_left_out_is_base64_in_a_member_and_nothing_else(value: Any, separators: tuple[str, str]) -> None:
    body = json.dumps(value, separators=separators).encode()
    assert json.loads(without(body)) == _without(value)
    luggage = Luggage(body)
    assert luggage.unpacked(luggage.body) == body
    json.loads(luggage.body)


def _without(value: Any, key: str | None = None) -> Any:
    if isinstance(value, dict):
        return {name: _without(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without(inner) for inner in value]
    return "" if len(value) >= LEAST and key not in (None, "text") and value == FILE[: len(value)] else value
