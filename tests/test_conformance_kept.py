"""Encoding and decoding keep what the canonical form carries, for every dialect that is installed, and for every pair of them.

The values are those that every dialect has words for.  What is lost of all others is in `test_conformance_losses`.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from nexus.api import Dialect, Payload, replace
from nexus.catalog import Catalog
from nexus.dialects.canonical import (
    Answer,
    Begin,
    Conversation,
    Finish,
    ReasoningDelta,
    ReplyContext,
    Target,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolMode,
    UsageSeen,
    joined,
)
from nexus.model import CHAT
from nexus.testing.conformance import spoken

from .canonical_anything import any_conversations, objects
from .canonical_replies import any_answers, any_streams

HOME = Target(model="m", home=True, thinks=True)
CONTEXT = ReplyContext(request_id="r", model="m", created=1, wants_usage=True)
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
INSTALLED = tuple(Catalog.load().dialects)


@pytest.fixture
async def dialects():
    async with spoken() as found:
        yield {name: dialect for name, dialect in found.items() if dialect.translates}


def blank(part) -> bool:
    return isinstance(part, Text) and not part.text.strip()


@st.composite
def sayable(draw) -> Conversation:
    """A conversation that every dialect can say."""
    made = draw(any_conversations(plain=True, called_with=objects))
    assume(not any(blank(inner) for m in made.messages for part in m.parts for inner in getattr(part, "parts", (part,))))
    choice = made.tool_choice
    parallel = choice is not None and choice.mode is not ToolMode.NONE and made.parallel_tools is False
    return replace(
        made,
        tools=tuple(replace(t, strict=None, schema={"properties": {}, **t.schema, "type": "object"}) for t in made.tools),
        parallel_tools=False if parallel else None,
        max_output_tokens=draw(st.integers(1, 10**6)),
        seed=None,
        presence_penalty=None,
        frequency_penalty=None,
        response_format=None,
        thinking=None,
        wants_usage=made.stream,
    )


def meant(conversation: Conversation) -> Conversation:
    """The same with arguments as JSON without blanks, and with turns of one role as one."""
    messages = [replace(m, parts=tuple(_compact(part) for part in m.parts)) for m in joined(conversation.messages)]
    return replace(conversation, messages=tuple(messages), wants_usage=False)


def _compact(part):
    if not isinstance(part, ToolCall):
        return part
    return replace(part, arguments=json.dumps(json.loads(part.arguments), separators=(",", ":")))


def rewritten(conversation: Conversation, dialect: Dialect) -> Conversation:
    endpoint = dialect.endpoint_for(CHAT)
    assert endpoint is not None
    body, unwritten = dialect.write_request(endpoint, conversation, HOME)
    again, unread = dialect.read_request(endpoint, Payload(body))
    assert (unwritten, unread) == ((), ())
    return again


def test_there_is_more_than_one_dialect(dialects):
    assert {"openai", "anthropic"} <= set(dialects) <= set(INSTALLED)


@RELAXED
@given(conversation=sayable())
def _conversations_are_kept(dialects, conversation):
    for dialect in dialects.values():
        assert meant(rewritten(conversation, dialect)) == meant(conversation), dialect.name


@RELAXED
@given(conversation=sayable())
def _conversations_pass_through_every_pair(dialects, conversation):
    for first in dialects.values():
        for second in dialects.values():
            assert meant(rewritten(rewritten(conversation, first), second)) == meant(conversation), (first.name, second.name)


def test_a_conversation_is_kept(dialects):
    _conversations_are_kept(dialects)


def test_a_conversation_passes_through_every_pair(dialects):
    _conversations_pass_through_every_pair(dialects)


# ---------------------------------------------------------------- replies


def reply_of(answer: Answer) -> Answer:
    return replace(answer, parts=tuple(_compact(part) for part in answer.parts))


def through_whole(answer: Answer, dialect: Dialect) -> Answer:
    body, unwritten = dialect.write_answer(answer, CONTEXT)
    again, unread = dialect.read_answer(body)
    assert (unwritten, unread) == ((), ())
    return again


@RELAXED
@given(answer=any_answers(plain=True))
def _answers_are_kept(dialects, answer):
    for first in dialects.values():
        for second in dialects.values():
            there = through_whole(answer, first)
            assert reply_of(through_whole(there, second)) == reply_of(answer), (first.name, second.name)


def test_an_answer_is_kept_through_every_pair(dialects):
    _answers_are_kept(dialects)


def said(events) -> tuple:
    """What a stream said, however it was cut into events."""
    calls: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, ToolCallStart):
            calls[event.index] = [event.id, event.name, ""]
        elif isinstance(event, ToolCallDelta):
            calls[event.index][2] += event.arguments
    begun = [event for event in events if isinstance(event, Begin)]
    told = [event.usage for event in events if isinstance(event, UsageSeen)]
    return (
        begun,
        "".join(event.text for event in events if isinstance(event, ReasoningDelta)),
        "".join(event.text for event in events if isinstance(event, TextDelta)),
        calls,
        [event for event in events if isinstance(event, Finish)],
        told[-1:],
    )


def through(events, dialect: Dialect):
    encoder = dialect.stream_encoder(CONTEXT)
    wire = b"".join([*map(encoder.encode, events), encoder.finish()])
    decoder = dialect.stream_decoder()
    return decoder.feed(wire) + decoder.finish()


@RELAXED
@given(events=any_streams(plain=True))
def _streams_are_kept(dialects, events):
    for first in dialects.values():
        for second in dialects.values():
            assert said(through(through(events, first), second)) == said(events), (first.name, second.name)


def test_a_stream_is_kept_through_every_pair(dialects):
    _streams_are_kept(dialects)
