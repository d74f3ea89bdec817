"""Anthropic's dialect keeps what the canonical form carries: properties over the same values as OpenAI's, and the speed of streams."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from nexus_anthropic.dialect import Anthropic

from nexus.api import BackendError, Payload, Usage, replace
from nexus.dialects.canonical import (
    Begin,
    Conversation,
    Finish,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    ReplyContext,
    Target,
    Text,
    TextDelta,
    Thinking,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolMode,
    ToolResult,
    UsageSeen,
    joined,
)

from .canonical_anything import any_conversations, objects
from .canonical_replies import any_answers, any_streams

MESSAGES = Anthropic.endpoints[0]
HOME = Target(model="m", home=True)
CONTEXT = ReplyContext(request_id="r", model="m")
thinkings = (
    st.none() | st.just(Thinking(enabled=False)) | st.builds(Thinking, enabled=st.just(True), budget_tokens=st.integers(1024, 9000))
)


def parsed(conversation):
    """The same with arguments as values: blanks between the tokens of JSON carry nothing."""
    return [
        replace(part, arguments=json.dumps(json.loads(part.arguments), sort_keys=True)) if isinstance(part, ToolCall) else part
        for message in conversation.messages
        for part in message.parts
    ]


def blank(part):
    inner = part.parts if isinstance(part, ToolResult) else (part,)
    return any(isinstance(each, Text) and not each.text.strip() for each in inner)


@st.composite
def sayable(draw):
    """A conversation of which Anthropic's form can say all."""
    made = draw(any_conversations(plain=True, called_with=objects))
    assume(not any(blank(part) for message in made.messages for part in message.parts))
    choice = made.tool_choice
    return replace(
        made,
        tools=tuple(replace(tool, strict=None, schema={"properties": {}, **tool.schema, "type": "object"}) for tool in made.tools),
        parallel_tools=False if choice and choice.mode is not ToolMode.NONE and made.parallel_tools is False else None,
        max_output_tokens=draw(st.integers(10_000, 10**6)),
        seed=None,
        presence_penalty=None,
        frequency_penalty=None,
        response_format=None,
        thinking=None if choice and choice.mode in (ToolMode.REQUIRED, ToolMode.NAMED) else draw(thinkings),
        wants_usage=True,
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(sayable())
def test_what_is_written_is_read_again(conversation: Conversation):
    body, unwritten = Anthropic().write_request(MESSAGES, conversation, HOME)
    again, unread = Anthropic().read_request(MESSAGES, Payload(body))
    assert (unwritten, unread) == ((), ())
    assert parsed(again) == parsed(conversation)
    assert [message.role for message in joined(again.messages)] == [message.role for message in conversation.messages]
    assert replace(again, messages=()) == replace(conversation, messages=())


@settings(max_examples=300, deadline=None)
@given(any_answers(plain=True))
def test_an_answer_that_is_written_is_read_again(answer):
    body, unwritten = Anthropic().write_answer(answer, CONTEXT)
    again, unread = Anthropic().read_answer(body)
    assert (unwritten, unread) == ((), ())
    assert parsed(Conversation(model="", messages=(again,))) == parsed(Conversation(model="", messages=(answer,)))
    assert replace(again, parts=()) == replace(answer, parts=(), usage=as_read(answer.usage))


def as_read(usage):
    """No prompt is of no tokens: where it says so, that much is not known."""
    if usage == Usage(source="reported"):
        return Usage()
    return usage if usage.input_tokens else replace(usage, source="counted")


def encoded(events):
    encoder = Anthropic().stream_encoder(CONTEXT)
    return b"".join([*map(encoder.encode, events), encoder.finish()])


def decoded(wire, *borders):
    decoder = Anthropic().stream_decoder()
    events, at = [], 0
    for border in (*borders, len(wire)):
        events += decoder.feed(wire[at:border])
        at = border
    return events + decoder.finish()


@settings(max_examples=300, deadline=None)
@given(any_streams(plain=True, least=0))
def test_a_stream_that_is_written_is_read_again(events):
    again = decoded(encoded(events))
    assert [e for e in again if not isinstance(e, UsageSeen | Finish)] == [
        e for e in events if not isinstance(e, UsageSeen | Finish)
    ]
    assert [e for e in again if isinstance(e, Finish)] == [e for e in events if isinstance(e, Finish)]
    told = [e.usage for e in events if isinstance(e, UsageSeen)]
    assert [e.usage for e in again if isinstance(e, UsageSeen)][-1:] == [
        as_read(usage) for usage in told if usage != Usage(source="reported")
    ]


@settings(max_examples=30, deadline=None)
@given(any_streams(plain=True), st.data())
def test_a_stream_means_the_same_wherever_it_is_cut(events, data):
    wire = encoded(events)
    whole = decoded(wire)
    borders = sorted(data.draw(st.lists(st.integers(0, len(wire)), max_size=5)))
    assert decoded(wire, *borders) == whole
    assert decoded(wire, *range(len(wire))) == whole
    assert decoded(wire.replace(b"\n", b"\r\n")) == whole


EVERYTHING = (
    Begin(model="m"),
    ReasoningDelta(text="hmm, é"),
    ReasoningSignature(signature="c2ln"),
    RedactedReasoning(data="ZGF0YQ=="),
    TextDelta(text='a "quoted" 😀\n\n'),
    ToolCallStart(index=0, id="toolu_1", name="get"),
    *(ToolCallDelta(index=0, arguments=c) for c in '{"a":"é"}'),
    ToolCallStart(index=1, id="toolu_2", name="get"),
    *(ToolCallDelta(index=1, arguments=c) for c in '{"b":1}'),
)


def test_every_event_survives_a_cut_at_every_byte():
    wire = encoded(EVERYTHING)
    whole = decoded(wire)
    assert tuple(e for e in whole if not isinstance(e, Finish | UsageSeen)) == EVERYTHING
    for border in range(len(wire) + 1):
        assert decoded(wire, border) == whole, f"cut after {border} bytes"


def test_a_stream_that_ends_early_is_cut_wherever_that_is():
    wire = encoded(EVERYTHING)
    for end in range(len(wire) - 2):
        decoder = Anthropic().stream_decoder()
        decoder.feed(wire[:end])
        with pytest.raises(BackendError) as caught:
            decoder.finish()
        assert caught.value.code == "cut", f"ended after {end} bytes, and nobody would know"
