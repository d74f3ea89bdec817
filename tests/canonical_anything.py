"""Hypothesis strategies for all that a request in the canonical form has a place for, whether a dialect has words for it or none.

Those that are `plain` make no more than what dialects say and order alike, and the fields that OpenAI has for all of it: they come
back the same.  Replies are in `canonical_replies`.
"""

from __future__ import annotations

import base64
import json

from hypothesis import strategies as st

from nexus.dialects.canonical import (
    Conversation,
    Document,
    Format,
    Image,
    Message,
    Part,
    Reasoning,
    ResponseFormat,
    Role,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolMode,
    ToolResult,
)

words = st.text(min_size=1, max_size=20)
names = st.from_regex(r"[a-zA-Z0-9_-]{1,20}", fullmatch=True)
blanks = st.sampled_from([" ", "\n", "\t \n"])
caches = st.sampled_from([None, None, None, None, None, "5m", "1h"])
base64s = st.binary(max_size=8).map(lambda raw: base64.b64encode(raw).decode())
addresses = names.map("https://example.test/{}".format)
maybe_small = st.none() | st.floats(0, 1, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
schemas = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(lambda more: {"type": "object", **more})
# a model may write anything, JSON or not
arguments = st.dictionaries(st.text(max_size=5), json_values, max_size=3).map(json.dumps) | words.filter(
    str.strip
)  # blank ones are none
arguments_or_none = arguments | st.just("")
objects = st.builds(
    json.dumps, st.dictionaries(words, json_values, max_size=3), separators=st.just((",", ":")), ensure_ascii=st.booleans()
)
# letters that some servers put into ids, and that fall together where others have no place for them
call_ids = st.text(alphabet="ab_.- ", min_size=1, max_size=4)

# ---------------------------------------------------------------- parts

texts = st.builds(Text, text=words)
images = st.builds(Image, url=addresses) | st.builds(Image, data=base64s, media_type=st.sampled_from(["image/png", "image/jpeg"]))
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
plain_words = st.tuples(
    st.lists(st.builds(Reasoning, text=words), max_size=1),
    st.lists(texts, max_size=1),
).map(lambda both: [*both[0], *both[1]])

# ---------------------------------------------------------------- requests


@st.composite
def any_turns(draw: st.DrawFn, called_with: st.SearchStrategy[str]) -> tuple[Message, ...]:
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
            made += draw(model_turns(ids, called_with))
    return tuple(made)


@st.composite
def model_turns(draw: st.DrawFn, ids: list[str], called_with: st.SearchStrategy[str]) -> list[Message]:
    """A turn of the model's with its parts in any order, and the results of its calls; takes the ids that it uses."""
    mine = [ids.pop() for _ in range(draw(st.integers(0, 3)))]
    calls = [ToolCall(id=id, name=draw(names), arguments=draw(called_with), cache=draw(caches)) for id in mine]
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
def plain_turns(draw: st.DrawFn, called_with: st.SearchStrategy[str]) -> tuple[Message, ...]:
    """A system message perhaps, then a user's turn, and as often as may be the model's, its results, and a user's again."""
    made = [Message(role=Role.SYSTEM, parts=(draw(texts),))] if draw(st.booleans()) else []
    made.append(draw(plain_user_turns))
    for number in range(draw(st.integers(0, 3))):
        parts = draw(plain_words) + draw(plain_calls(f"call_{number}", called_with))
        if not parts:
            continue
        made.append(Message(role=Role.ASSISTANT, parts=tuple(parts)))
        results = [
            ToolResult(call_id=part.id, parts=tuple(draw(st.lists(texts, max_size=1))))
            for part in parts
            if isinstance(part, ToolCall)
        ]
        if results:
            made.append(Message(role=Role.TOOL, parts=tuple(results)))
        made.append(draw(plain_user_turns))
    return tuple(made)


@st.composite
def plain_calls(draw: st.DrawFn, prefix: str, called_with: st.SearchStrategy[str], least: int = 0) -> list[Part]:
    """Calls of tools, their ids numbered after the prefix."""
    return [ToolCall(id=f"{prefix}_{n}", name=draw(names), arguments=draw(called_with)) for n in range(draw(st.integers(least, 3)))]


plain_user_turns = st.one_of(
    texts.map(lambda text: (text,)),
    st.tuples(st.lists(texts | images, max_size=3), images).map(lambda both: (*both[0], both[1])),
).map(lambda parts: Message(role=Role.USER, parts=parts))

any_tools = st.builds(
    Tool,
    name=names,
    description=st.none() | words,
    schema=st.none() | schemas,
    strict=st.none() | st.booleans(),
    cache=caches,
)
plain_tools = st.builds(Tool, name=names, description=st.none() | words, schema=schemas, strict=st.none() | st.booleans())
choices = st.builds(ToolChoice, mode=st.sampled_from([ToolMode.AUTO, ToolMode.NONE, ToolMode.REQUIRED])) | st.builds(
    ToolChoice, mode=st.just(ToolMode.NAMED), name=names
)
plain_formats = st.builds(ResponseFormat, kind=st.sampled_from([Format.TEXT, Format.JSON_OBJECT])) | st.builds(
    ResponseFormat,
    kind=st.just(Format.JSON_SCHEMA),
    name=names,
    description=st.none() | words,
    schema=schemas,
    strict=st.none() | st.booleans(),
)
any_formats = plain_formats | st.builds(ResponseFormat, kind=st.just(Format.JSON_SCHEMA), schema=st.none() | schemas)
plain_thinking = st.just(Thinking(enabled=False)) | st.builds(
    Thinking, enabled=st.just(True), effort=st.sampled_from(["low", "medium", "high"])
)
any_thinking = st.just(Thinking(enabled=False)) | st.builds(
    Thinking,
    enabled=st.none() | st.just(True),
    effort=st.none() | st.sampled_from(["minimal", "low", "medium", "high", "xhigh", "max"]),
    budget_tokens=st.none() | st.integers(1, 50_000),
)


@st.composite
def any_conversations(
    draw: st.DrawFn, *, plain: bool = False, called_with: st.SearchStrategy[str] = arguments_or_none
) -> Conversation:
    """A whole request, with everything in it that the form has a place for.  A plain one chooses among tools only where it has some."""
    tools = tuple(draw(st.lists(plain_tools if plain else any_tools, max_size=3)))
    chooses = not plain or bool(tools)
    return Conversation(
        model="m",
        messages=draw(plain_turns(called_with) if plain else any_turns(called_with)),
        tools=tools,
        tool_choice=draw(st.none() | choices) if chooses else None,
        parallel_tools=draw(st.none() | st.booleans()) if chooses else None,
        max_output_tokens=draw(st.none() | st.integers(1, 10**6)),
        stop=tuple(draw(st.lists(words, max_size=4) if plain else st.lists(words | blanks, max_size=5))),
        temperature=draw(maybe_small),
        top_p=draw(maybe_small),
        top_k=draw(st.none() | st.integers(1, 100)),
        seed=draw(st.none() | st.integers(0, 2**53)),
        presence_penalty=draw(maybe_small),
        frequency_penalty=draw(maybe_small),
        response_format=draw(st.none() | (plain_formats if plain else any_formats)),
        thinking=draw(st.none() | (plain_thinking if plain else any_thinking)),
        user=draw(st.none() | words),
        stream=(stream := draw(st.booleans())),
        wants_usage=stream,
    )
