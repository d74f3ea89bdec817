"""Tokens of an OpenAI stream that reports none: one for each event with content, whatever stands around them."""

from __future__ import annotations

import itertools
import json

import pytest

from nexus.dialects.openai_reader import StreamReader
from nexus.errors import BackendError
from nexus.model import Usage


def event(delta, finish=None):
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}).encode() + b"\n\n"


BEGINNINGS = {
    "none": b"",
    "a role": event({"role": "assistant", "content": ""}),
    "a role and null": event({"role": "assistant", "content": None}),
    "two roles": 2 * event({"role": "assistant", "content": ""}),
    "a comment": b": OPENROUTER PROCESSING\n\n" + event({"role": "assistant"}),
    "no choice": b'data: {"choices": [], "prompt_filter_results": [{"prompt_index": 0}]}\n\n',
    "nothing for a while": 5 * event({"content": ""}),
    "a tool's name": event({"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f", "arguments": ""}}]}),
}
SAID = {
    "text": lambda number: event({"content": f"word{number}"}),
    "with the role in each": lambda number: event({"role": "assistant", "content": f"word{number}"}),
    "thoughts": lambda number: event({"reasoning_content": f"hm{number}"}),
    "thoughts by another name": lambda number: event({"reasoning": f"hm{number}"}),
    "a refusal": lambda number: event({"refusal": f"no{number}"}),
    "an empty finish reason in each": lambda number: event({"content": f"word{number}"}, ""),
    "arguments": lambda number: event({"tool_calls": [{"index": 0, "function": {"arguments": f'{{"a":{number}'}}]}),
    "arguments as an object": lambda number: event(
        {"tool_calls": [{"index": number, "function": {"name": "f", "arguments": {"a": 1}}}]}
    ),
    "parts of a text": lambda number: event({"content": [{"type": "text", "text": f"word{number}"}]}),
    "parts of a thought": lambda number: event(
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": f"hm{number}"}]}]}
    ),
    "a finish reason in each": lambda number: event({"content": f"word{number}"}, "stop"),
}
ENDS = {
    "as usual": event({}, "stop") + b"data: [DONE]\n\n",
    "without [DONE]": event({}, "stop"),
    "an empty text": event({"content": ""}, "length") + b"data: [DONE]\n\n",
    "cut": b"",
}


def counted(stream: bytes, size: int) -> Usage:
    reader = StreamReader(7, hide_usage=False)
    for at in range(0, len(stream), size):
        reader.feed(stream[at : at + size])
    try:
        reader.finish()
    except BackendError as error:
        assert error.code == "cut"  # noqa: PT017 - a cut stream is one of the cases
    return reader.usage()


@pytest.mark.parametrize("said", SAID.values(), ids=SAID)
def test_one_for_each_event_with_content(said):
    for (beginning, before), (end, after), count in itertools.product(BEGINNINGS.items(), ENDS.items(), (1, 2, 5, 20)):
        stream = before + b"".join(said(number) for number in range(count)) + after
        for size in (1, 100, 100_000):
            expected = Usage(input_tokens=7, output_tokens=count, source="counted")
            assert counted(stream, size) == expected, (beginning, end, count, size)


def test_a_last_word_in_the_event_that_finishes_counts_too():
    stream = event({"content": "a"}) + event({"content": "b"}) + event({"content": "c"}, "stop") + b"data: [DONE]\n\n"
    assert counted(stream, 50).output_tokens == 3


def test_texts_of_the_completions_api_count():
    texts = [b'data: {"choices": [{"text": "word", "finish_reason": null}]}\n\n'] * 4
    end = b'data: {"choices": [{"text": "", "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    assert counted(b"".join(texts) + end, 40).output_tokens == 4


@pytest.mark.parametrize("size", [4096, 64 * 1024, 1024 * 1024])
def test_of_the_events_that_come_together_only_those_at_both_ends_are_looked_at(monkeypatch, size):
    seen = []
    look = StreamReader._look_at
    monkeypatch.setattr(StreamReader, "_look_at", lambda self, one: (seen.append(one), look(self, one))[1])
    beginning, end = BEGINNINGS["a role"] + SAID["text"](0), ENDS["as usual"]
    stream = beginning + b"".join(SAID["text"](number) for number in range(1, 3000)) + end
    usage = counted(stream.replace(b'"finish_reason": null', b'"finish_reason":null'), size)
    assert usage.output_tokens == 3000
    assert len(seen) <= 4


@pytest.mark.parametrize("boundary", [b"\n\n", b"\n\n\n", b"\r\n\r\n", b"\r\r"])
@pytest.mark.parametrize("size", [1, 100, 1024 * 1024])
def test_whatever_stands_between_events_each_counts_once(boundary, size):
    told = [
        SAID["text"](1),
        b": ping\n\n",
        event({"content": "and"}, "stop"),
        SAID["text"](2),
        event({}, "stop"),
        b"data: [DONE]\n\n",
    ]
    stream = b"".join(one.replace(b"\n\n", boundary) for one in told)
    assert counted(stream, size).output_tokens == 3
