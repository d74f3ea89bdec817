"""Hypothesis strategies for the canonical form, in the order in which dialects write it: what is made here must come back the same."""

from __future__ import annotations

import json

from hypothesis import strategies as st

from nexus.dialects.canonical import (
    Answer,
    Begin,
    Conversation,
    Finish,
    FinishReason,
    Format,
    Image,
    Message,
    Reasoning,
    ReasoningDelta,
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
