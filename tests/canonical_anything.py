"""Hypothesis strategies for all that the canonical form has a place for, whether a dialect has words for it or none."""

from __future__ import annotations

import base64
from collections.abc import Iterator

import attrs
from hypothesis import strategies as st

from nexus.dialects.canonical import (
    Answer,
    Begin,
    Conversation,
    Document,
    Finish,
    FinishReason,
    Format,
    Image,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    ResponseFormat,
    Role,
    StreamEvent,
    Text,
    TextDelta,
    Thinking,
    Tool,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    ToolResult,
    UsageSeen,
)

from .canonical_values import arguments, choices, conversations, formats, names, objects, schemas, texts, usages, words

caches = st.sampled_from([None, None, None, None, None, "5m", "1h"])
blanks = st.sampled_from([" ", "\n", "\t \n"])
base64s = st.binary(max_size=8).map(lambda raw: base64.b64encode(raw).decode())
addresses = names.map("https://example.test/{}".format)
any_texts = st.builds(Text, text=words | blanks | words.map("{} \n".format), cache=caches)
any_images = st.builds(Image, url=addresses, detail=st.sampled_from([None, "low", "high", "auto"]), cache=caches) | st.builds(
    Image, data=base64s, media_type=st.sampled_from([None, "image/png", "image/jpeg"]), cache=caches
)
any_documents = st.one_of(
    st.builds(Document, name=st.none() | names, text=words, cache=caches),
    st.builds(Document, name=st.none() | names, url=addresses, cache=caches),
    st.builds(
        Document,
        name=st.none() | names,
        data=base64s,
        media_type=st.sampled_from([None, "application/pdf", "image/tiff"]),
        cache=caches,
    ),
    st.builds(
        Document,
        name=st.none() | names,
        data=words.map(lambda text: base64.b64encode(text.encode()).decode()),
        media_type=st.just("text/csv"),
        cache=caches,
    ),
)
shown = st.one_of(any_texts, any_texts, any_images, any_documents)
thoughts = (
    st.builds(Reasoning, text=words, signature=st.none() | names)
    | st.builds(Reasoning, signature=names)
    | st.builds(Reasoning, redacted=names)
)
# letters that some servers put into ids, and that fall together where others have no place for them
call_ids = st.text(alphabet="ab_.- ", min_size=1, max_size=4)


@st.composite
def any_turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """Turns in any order that a client may send: results follow their calls, a system message may stand before any other turn, and the
    model may speak first and last."""
    ids = draw(st.lists(call_ids, min_size=9, max_size=9, unique=True))
    made: list[Message] = []
    for _ in range(draw(st.integers(0, 3))):
        if draw(st.booleans()):
            made.append(Message(role=Role.SYSTEM, parts=tuple(draw(st.lists(any_texts, min_size=1, max_size=2)))))
        if draw(st.booleans()):
            made.append(Message(role=Role.USER, parts=tuple(draw(st.lists(shown, min_size=1, max_size=3)))))
        if draw(st.booleans()):
            made += draw(model_turns(ids))
    return tuple(made)


@st.composite
def model_turns(draw: st.DrawFn, ids: list[str]) -> list[Message]:
    """A turn of the model's with its parts in any order, and the results of its calls; takes the ids that it uses."""
    mine = [ids.pop() for _ in range(draw(st.integers(0, 3)))]
    calls = [ToolCall(id=id, name=draw(names), arguments=draw(arguments | st.just("")), cache=draw(caches)) for id in mine]
    parts = draw(st.permutations([*calls, *draw(st.lists(any_texts | thoughts, min_size=0 if calls else 1, max_size=3))]))
    turn = [Message(role=Role.ASSISTANT, parts=tuple(parts))]
    if mine:
        results = [
            ToolResult(call_id=id, parts=tuple(draw(st.lists(shown, max_size=2))), is_error=draw(st.booleans()), cache=draw(caches))
            for id in draw(st.permutations(mine))
        ]
        turn.append(Message(role=Role.TOOL, parts=tuple(results)))
    return turn


@st.composite
def any_conversations(draw: st.DrawFn) -> Conversation:
    """A whole request, with everything in it that the form has a place for."""
    return attrs.evolve(
        draw(conversations()),
        messages=draw(any_turns()),
        tools=tuple(draw(st.lists(any_tools, max_size=2))),
        tool_choice=draw(st.none() | choices),
        parallel_tools=draw(st.none() | st.booleans()),
        stop=tuple(draw(st.lists(words | blanks, max_size=5))),
        response_format=draw(st.none() | any_formats),
        thinking=draw(st.none() | any_thinking),
    )


any_tools = st.builds(
    Tool,
    name=names,
    description=st.none() | words,
    schema=st.none() | schemas,
    strict=st.none() | st.booleans(),
    cache=caches,
)
any_formats = formats | st.builds(ResponseFormat, kind=st.just(Format.JSON_SCHEMA), schema=st.none() | schemas)
any_thinking = st.just(Thinking(enabled=False)) | st.builds(
    Thinking,
    enabled=st.none() | st.just(True),
    effort=st.none() | st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]),
    budget_tokens=st.none() | st.integers(1, 50_000),
)


@st.composite
def any_answers(draw: st.DrawFn) -> Answer:
    """A whole reply, its parts in any order.  Arguments are JSON objects unless they were cut."""
    finish = draw(st.sampled_from(list(FinishReason)))
    of_calls = arguments if finish is FinishReason.LENGTH else objects
    calls = st.integers(1, 2) if finish is FinishReason.TOOL_CALLS else st.integers(0, 2)
    calls = calls if finish in (FinishReason.TOOL_CALLS, FinishReason.LENGTH) else st.just(0)
    made = [ToolCall(id=f"call_{n}", name=draw(names), arguments=draw(of_calls)) for n in range(draw(calls))]
    return Answer(
        id=draw(names),
        model=draw(names),
        parts=tuple(draw(st.permutations([*made, *draw(st.lists(texts | thoughts, max_size=4))]))),
        finish=finish,
        stop_sequence=draw(words) if finish is FinishReason.STOP_SEQUENCE else None,
        usage=draw(usages()),
    )


@st.composite
def any_streams(draw: st.DrawFn) -> list[StreamEvent]:
    """A stream of such a reply, cut anywhere: pieces of a call may come after what began after it."""
    answer = draw(any_answers())
    events: list[StreamEvent] = [Begin(id=answer.id, model=answer.model)]
    late: list[ToolCallDelta] = []
    index = 0
    for part in answer.parts:
        if isinstance(part, ToolCall):
            events.append(ToolCallStart(index=index, id=part.id, name=part.name))
            size = draw(st.integers(1, 7))
            pieces = [
                ToolCallDelta(index=index, arguments=part.arguments[at : at + size]) for at in range(0, len(part.arguments), size)
            ]
            now = draw(st.integers(0, len(pieces)))
            events += pieces[:now]
            late += pieces[now:]
            index += 1
        elif isinstance(part, Text):
            events.append(TextDelta(text=part.text))
        elif isinstance(part, Reasoning):
            events += thought_events(part)
        late = draw(some_told(events, late))
    events += late
    events.append(Finish(reason=answer.finish or FinishReason.STOP, stop_sequence=answer.stop_sequence))
    events.append(
        UsageSeen(
            usage=attrs.evolve(
                answer.usage, input_tokens=answer.usage.input_tokens + 1, output_tokens=answer.usage.output_tokens + 1
            )
        )
    )
    return events


def thought_events(part: Reasoning) -> Iterator[StreamEvent]:
    """A block of thinking as it is streamed."""
    if part.redacted is not None:
        yield RedactedReasoning(data=part.redacted)
    if part.text:
        yield ReasoningDelta(text=part.text)
    if part.signature:
        yield ReasoningSignature(signature=part.signature)


@st.composite
def some_told(draw: st.DrawFn, events: list[StreamEvent], late: list[ToolCallDelta]) -> list[ToolCallDelta]:
    """Tells some of what is late, each call's pieces in their order; what is late still."""
    left = []
    held: set[int] = set()
    for piece in late:
        if piece.index not in held and draw(st.booleans()):
            events.append(piece)
        else:
            held.add(piece.index)
            left.append(piece)
    return left
