"""What a dialect writes and reads again is what was said, less the losses that it declared: for everything that the form has a place for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings

from nexus.api import BackendError, Dialect, Payload, replace
from nexus.dialects.canonical import (
    Answer,
    Begin,
    Conversation,
    Finish,
    FinishReason,
    Reasoning,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    ReplyContext,
    StreamEvent,
    Target,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.dialects.openai import OpenAI
from nexus.model import CHAT
from nexus.testing.conformance import spoken

from .canonical_anything import any_conversations
from .canonical_losses import KNOWN, OF_REPLIES, left, left_of
from .canonical_replies import any_answers, any_streams
from .canonical_shapes import flat, worded
from .cases import case

THOROUGH = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
CONTEXT = ReplyContext(request_id="r", model="m", created=1, wants_usage=True)
ROOMY = 10**7
TARGETS = {
    "home": Target(model="m", home=True, thinks=True),
    "unknown": Target(model="m", home=True),
    "cloud": Target(model="m", thinks=True, max_output_tokens=ROOMY),
    "by a budget": Target(model="claude-sonnet-4-5", thinks=True, max_output_tokens=ROOMY),
    "old": Target(model="claude-3-opus", thinks=False, max_output_tokens=ROOMY),
    "small": Target(model="m", home=True, thinks=False, image_urls=False, max_output_tokens=1000, room=500),
}


@pytest.fixture
async def dialects():
    async with spoken() as found:
        yield {name: dialect for name, dialect in found.items() if dialect.translates}


def has_one_text(dialect: Dialect) -> bool:
    """Whether a turn has one text in this dialect, and a tool's result holds nothing else."""
    return isinstance(dialect, OpenAI)


def needed(said: Conversation, target: Target) -> Conversation:
    """Who never thinks need not be told not to."""
    idle = target.thinks is False and said.thinking is not None and said.thinking.enabled is False
    return replace(said, thinking=None) if idle else said


def bounded(again: Conversation, said: Conversation) -> Conversation:
    """Without the bounds that a dialect had to name where nobody gave one."""
    most = None if said.max_output_tokens is None else again.max_output_tokens
    thinking = again.thinking
    if thinking is not None and (said.thinking is None or said.thinking.budget_tokens is None):
        thinking = replace(thinking, budget_tokens=None)
    return replace(again, max_output_tokens=most, thinking=thinking)


@THOROUGH
@given(said=any_conversations())
def _requests_are_kept(dialects: dict[str, Dialect], said: Conversation) -> None:
    for name, target in TARGETS.items():
        with case(name):
            _request_is_kept(dialects, target, said)


def _request_is_kept(dialects: dict[str, Dialect], target: Target, said: Conversation) -> None:
    for name, dialect in dialects.items():
        endpoint = dialect.endpoint_for(CHAT)
        assert endpoint is not None
        body, unwritten = dialect.write_request(endpoint, said, target)
        if any(loss.meaning_changed for loss in unwritten):
            continue
        again, unread = dialect.read_request(endpoint, Payload(body))
        lost = frozenset(loss.what for loss in unwritten)
        assert (unread, lost - KNOWN) == ((), frozenset()), name
        said = needed(said, target)
        again = bounded(needed(again, target), said)
        shape = flat if has_one_text(dialect) else worded
        assert shape(left(again, lost)) == shape(left(said, lost)), (name, sorted(lost), body.decode())


def test_a_request_is_kept_but_for_its_losses(dialects):
    _requests_are_kept(dialects)


@THOROUGH
@given(said=any_answers())
def _answers_are_kept(dialects: dict[str, Dialect], said: Answer) -> None:
    for name, dialect in dialects.items():
        body, unwritten = dialect.write_answer(said, CONTEXT)
        again, unread = dialect.read_answer(body)
        lost = frozenset(loss.what for loss in unwritten)
        assert (unread, lost - OF_REPLIES) == ((), frozenset()), name
        one_text = has_one_text(dialect)
        assert left_of(again, lost, one_text=one_text) == left_of(said, lost, one_text=one_text), (name, sorted(lost))


def test_an_answer_is_kept_but_for_its_losses(dialects):
    _answers_are_kept(dialects)


# ---------------------------------------------------------------- streams


def told(events: list[StreamEvent], *, one_text: bool) -> tuple[object, ...]:
    """What a stream said, block by block in the order in which they began, however it was cut.  Where a turn has one text, nothing is
    signed, redacted, or told to have ended at a stop sequence."""
    blocks: list[list[object]] = []
    calls: dict[int, list[object]] = {}
    for event in events:
        last = blocks[-1] if blocks else [None]
        match event:
            case TextDelta() | ReasoningDelta():
                kind = type(event)
                if last[0] is kind and len(last) == 2:
                    last[1] = f"{last[1]}{event.text}"
                else:
                    blocks.append([kind, event.text])
            case ReasoningSignature() if not one_text:
                if last[0] is not ReasoningDelta or len(last) > 2:
                    blocks.append(last := [ReasoningDelta, ""])
                last.append(event.signature)
            case RedactedReasoning() if not one_text:
                blocks.append([RedactedReasoning, event.data])
            case ToolCallStart():
                calls[event.index] = [ToolCall, event.id, event.name, ""]
                blocks.append(calls[event.index])
            case ToolCallDelta():
                calls[event.index][3] = f"{calls[event.index][3]}{event.arguments}"
    (finish,) = [event for event in events if isinstance(event, Finish)]
    if one_text and finish.reason is FinishReason.STOP_SEQUENCE:
        finish = Finish(reason=FinishReason.STOP)
    usage = [event.usage for event in events if isinstance(event, UsageSeen)][-1]
    return events[0], blocks, finish, usage


@THOROUGH
@given(events=any_streams())
def _streams_are_kept(dialects: dict[str, Dialect], events: list[StreamEvent]) -> None:
    assert isinstance(events[0], Begin)
    for name, dialect in dialects.items():
        encoder, decoder = dialect.stream_encoder(CONTEXT), dialect.stream_decoder()
        try:
            wire = b"".join([*map(encoder.encode, events), encoder.finish()])
        except BackendError:
            assume(False)
        again = decoder.feed(wire) + decoder.finish()
        one_text = has_one_text(dialect)
        assert told(again, one_text=one_text) == told(events, one_text=one_text), (name, wire.decode())


def test_a_stream_is_kept_in_its_order(dialects):
    _streams_are_kept(dialects)


# ---------------------------------------------------------------- a property that cannot fail proves nothing


@pytest.mark.parametrize("part", [Text(text="x"), Reasoning(text="x"), ToolCall(id="a", name="f", arguments="{}")])
def test_what_is_dropped_without_a_word_is_seen(part):
    whole, less = Answer(parts=(part,)), Answer()
    assert left_of(whole, frozenset(), one_text=True) != left_of(less, frozenset(), one_text=True)
