"""Hypothesis strategies for the canonical form, in the order in which dialects write it: what is made here must come back the same."""

from __future__ import annotations

import base64
import json
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
    ToolChoice,
    ToolMode,
    ToolResult,
    UsageSeen,
)
from nexus.model import Usage

words = st.text(min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
schemas = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(lambda more: {"type": "object", **more})
# a model may write anything, JSON or not
arguments = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(json.dumps) | words
objects = st.dictionaries(words, json_values, max_size=3).map(lambda value: json.dumps(value, separators=(",", ":")))
small = st.floats(0, 1, allow_nan=False)
maybe_small = st.none() | small

texts = st.builds(Text, text=words)
images = st.builds(Image, url=names.map("https://example.test/{}.png".format)) | st.builds(
    Image, data=st.binary(max_size=8).map(lambda raw: raw.hex()), media_type=st.sampled_from(["image/png", "image/jpeg"])
)


@st.composite
def turns(draw: st.DrawFn) -> tuple[Message, ...]:
    """A system message perhaps, then a user's turn, and as often as may be an assistant's, its results, and a user's again."""
    made = [Message(role=Role.SYSTEM, parts=(draw(texts),))] if draw(st.booleans()) else []
    made.append(draw(user_turns))
    for number in range(draw(st.integers(0, 3))):
        reasoning = draw(st.lists(st.builds(Reasoning, text=words), max_size=1))
        calls = [
            ToolCall(id=f"call_{number}_{n}", name=draw(names), arguments=draw(arguments)) for n in range(draw(st.integers(0, 3)))
        ]
        said = draw(st.lists(texts, min_size=0 if calls else 1, max_size=1))
        made.append(Message(role=Role.ASSISTANT, parts=(*reasoning, *said, *calls)))
        if calls:
            results = [ToolResult(call_id=call.id, parts=tuple(draw(st.lists(texts, max_size=1)))) for call in calls]
            made.append(Message(role=Role.TOOL, parts=tuple(results)))
        made.append(draw(user_turns))
    return tuple(made)


user_turns = st.one_of(
    texts.map(lambda text: (text,)),
    st.tuples(st.lists(texts | images, max_size=3), images).map(lambda both: (*both[0], both[1])),
).map(lambda parts: Message(role=Role.USER, parts=parts))

tools = st.builds(Tool, name=names, description=st.none() | words, schema=schemas, strict=st.none() | st.booleans())
choices = st.builds(ToolChoice, mode=st.sampled_from([ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED])) | st.builds(
    ToolChoice, mode=st.just(ToolMode.NAMED), name=names
)
formats = st.builds(ResponseFormat, kind=st.sampled_from([Format.TEXT, Format.JSON_OBJECT])) | st.builds(
    ResponseFormat,
    kind=st.just(Format.JSON_SCHEMA),
    name=names,
    description=st.none() | words,
    schema=schemas,
    strict=st.none() | st.booleans(),
)


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """A whole request.  A tool choice comes only with tools."""
    offered = tuple(draw(st.lists(tools, max_size=3)))
    return Conversation(
        model="m",
        messages=draw(turns()),
        tools=offered,
        tool_choice=draw(st.none() | choices) if offered else None,
        parallel_tools=draw(st.none() | st.booleans()) if offered else None,
        max_output_tokens=draw(st.none() | st.integers(1, 10**6)),
        stop=tuple(draw(st.lists(words, max_size=4))),
        temperature=draw(maybe_small),
        top_p=draw(maybe_small),
        top_k=draw(st.none() | st.integers(1, 100)),
        seed=draw(st.none() | st.integers(0, 2**53)),
        presence_penalty=draw(maybe_small),
        frequency_penalty=draw(maybe_small),
        response_format=draw(st.none() | formats),
        thinking=draw(
            st.none()
            | st.just(Thinking(enabled=False))
            | st.builds(Thinking, enabled=st.just(True), effort=st.sampled_from(["low", "medium", "high"]))
        ),
        user=draw(st.none() | words),
        stream=(stream := draw(st.booleans())),
        wants_usage=stream,
    )


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    """What a server reports; the cached and the reasoning tokens are parts of the rest."""
    prompt, output = draw(st.integers(0, 10**6)), draw(st.integers(0, 10**6))
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=draw(st.integers(0, prompt)),
        reasoning_tokens=draw(st.integers(0, output)),
        source="reported",
    )


def reasons(*, called: bool) -> st.SearchStrategy[FinishReason]:
    """Why an answer may end: one that calls tools ends for that."""
    plain = st.sampled_from([FinishReason.STOP, FinishReason.LENGTH, FinishReason.CONTENT_FILTER])
    return st.just(FinishReason.TOOL_CALLS) if called else plain


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    """A whole reply."""
    calls = [ToolCall(id=f"call_{n}", name=draw(names), arguments=draw(arguments)) for n in range(draw(st.integers(0, 3)))]
    thoughts = draw(st.lists(st.builds(Reasoning, text=words), max_size=1))
    said = draw(st.lists(texts, max_size=1))
    return Answer(
        id=draw(names),
        model=draw(names),
        parts=(*thoughts, *said, *calls),
        finish=draw(reasons(called=bool(calls))),
        usage=draw(usages()),
    )


@st.composite
def streams(draw: st.DrawFn) -> list[StreamEvent]:
    """A whole stream, its calls' arguments in pieces."""
    events: list[StreamEvent] = [Begin(id=draw(names), model=draw(names))]
    events += draw(st.lists(st.builds(ReasoningDelta, text=words), max_size=3))
    events += draw(st.lists(st.builds(TextDelta, text=words), max_size=5))
    calls = draw(st.integers(0, 3))
    for index in range(calls):
        events.append(ToolCallStart(index=index, id=f"call_{index}", name=draw(names)))
        pieces = draw(st.lists(words, max_size=4))
        events += [ToolCallDelta(index=index, arguments=piece) for piece in pieces]
    events.append(Finish(reason=draw(reasons(called=bool(calls)))))
    events.append(UsageSeen(usage=draw(usages())))
    return events


# ---------------------------------------------------------------- all that the form has a place for, said by some dialect or by none

caches = st.none() | st.sampled_from(["5m", "1h"])
blanks = st.sampled_from([" ", "\n", "\t \n"])
base64s = st.binary(max_size=8).map(lambda raw: base64.b64encode(raw).decode())
addresses = names.map("https://example.test/{}".format)
any_texts = st.builds(Text, text=words | blanks, cache=caches)
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
