"""Hypothesis strategies for all that a reply in the canonical form has a place for, whole or streamed.  Requests are in `canonical_anything`.

Those that are `plain` make no more than what every dialect says and orders alike.
"""

from __future__ import annotations

from collections.abc import Iterator

from hypothesis import strategies as st

from nexus.dialects.canonical import (
    Answer,
    Begin,
    Finish,
    FinishReason,
    Part,
    Reasoning,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    StreamEvent,
    Text,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.model import Usage

from .canonical_anything import arguments, names, objects, plain_calls, plain_words, texts, thoughts, words

PLAIN_ENDS = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.TOOL_CALLS, FinishReason.CONTENT_FILTER)


@st.composite
def usages(draw: st.DrawFn, least: int = 0) -> Usage:
    """What a server reports; the cached and the reasoning tokens are parts of the rest."""
    prompt, output = draw(st.integers(least, 10**6)), draw(st.integers(least, 10**6))
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=draw(st.integers(0, prompt)),
        reasoning_tokens=draw(st.integers(0, output)),
        source="reported",
    )


@st.composite
def any_answers(draw: st.DrawFn, *, plain: bool = False, called_with: st.SearchStrategy[str] = objects, least: int = 1) -> Answer:
    """A whole reply, its parts in any order unless it is plain.  Arguments that were cut may be anything; a plain reply's never are.

    `least` is how many tokens are reported at the least."""
    finish = draw(st.sampled_from(PLAIN_ENDS if plain else list(FinishReason)))
    cut = finish is FinishReason.LENGTH and not plain
    calls: list[Part] = []
    if finish in (FinishReason.TOOL_CALLS, FinishReason.LENGTH):
        calls = draw(plain_calls("call", arguments if cut else called_with, int(finish is FinishReason.TOOL_CALLS)))
    said = draw(plain_words if plain else st.lists(texts | thoughts, max_size=4))
    return Answer(
        model=draw(names),
        parts=(*said, *calls) if plain else tuple(draw(st.permutations([*said, *calls]))),
        finish=finish,
        stop_sequence=draw(words) if finish is FinishReason.STOP_SEQUENCE else None,
        usage=draw(usages(least)),
    )


@st.composite
def any_streams(
    draw: st.DrawFn, *, plain: bool = False, called_with: st.SearchStrategy[str] = objects, least: int = 1
) -> list[StreamEvent]:
    """A stream of such a reply, cut anywhere: pieces of a call may come after what began after it, unless it is plain.

    With `least` 0 there may be noughts, as servers say them in a stream that do not count yet."""
    answer = draw(any_answers(plain=plain, called_with=called_with, least=least))
    events: list[StreamEvent] = [Begin(model=answer.model)]
    late: list[ToolCallDelta] = []
    index = 0
    for part in answer.parts:
        if isinstance(part, ToolCall):
            events.append(ToolCallStart(index=index, id=part.id, name=part.name))
            pieces = [ToolCallDelta(index=index, arguments=piece) for piece in draw(pieces_of(part.arguments))]
            now = len(pieces) if plain else draw(st.integers(0, len(pieces)))
            events += pieces[:now]
            late += pieces[now:]
            index += 1
        elif isinstance(part, Text):
            events += [TextDelta(text=piece) for piece in draw(pieces_of(part.text))]
        elif isinstance(part, Reasoning):
            events += thought_events(part, draw(pieces_of(part.text)))
        late = draw(some_told(events, late))
    events += late
    events.append(UsageSeen(usage=answer.usage))
    events.append(Finish(reason=answer.finish or FinishReason.STOP, stop_sequence=answer.stop_sequence))
    return events


@st.composite
def pieces_of(draw: st.DrawFn, text: str) -> list[str]:
    """The text in pieces, as servers stream it."""
    size = draw(st.integers(1, 7))
    return [text[at : at + size] for at in range(0, len(text), size)]


def thought_events(part: Reasoning, pieces: list[str]) -> Iterator[StreamEvent]:
    """A block of thinking as it is streamed."""
    if part.redacted is not None:
        yield RedactedReasoning(data=part.redacted)
    for piece in pieces:
        yield ReasoningDelta(text=piece)
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
