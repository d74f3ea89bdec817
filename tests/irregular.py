"""Hypothesis strategies for answers as servers really tell them: streamed with every irregularity that is known of some, and whole.

Every strategy makes one `Told`: what is said, and the bytes of it told both ways.  What is compared is in `test_irregular`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import attrs
from hypothesis import strategies as st

FINISHES = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}
COUNTS = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
words = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map("w{}".format)
objects = st.dictionaries(words, st.integers(0, 99) | words, max_size=2)


@attrs.frozen(kw_only=True)
class Told:
    """`thought`, `text`, `calls` (name and arguments) and `finish` (in OpenAI's words) are what both say; `used` is whether they
    report their usage."""

    thought: str
    text: str
    calls: tuple[tuple[str, dict[str, Any]], ...]
    finish: str
    used: bool
    stream: bytes
    whole: bytes


@st.composite
def saids(draw: st.DrawFn) -> dict[str, Any]:
    """What an answer says."""
    calls = tuple(draw(st.lists(st.tuples(st.sampled_from(["f", "get_weather"]), objects), max_size=3)))
    return {
        "thought": draw(st.just("") | words),
        "text": draw(st.just("") | words),
        "calls": calls,
        "finish": "tool_calls" if calls else draw(st.sampled_from(["stop", "length"])),
        "used": draw(st.booleans()),
    }


@st.composite
def pieces(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(1, max(len(text) - 1, 1)), max_size=2)))
    return [piece for a, b in zip((0, *cuts), (*cuts, len(text)), strict=True) if (piece := text[a:b])]


# ---------------------------------------------------------------- OpenAI's servers


@st.composite
def openai(draw: st.DrawFn) -> Told:
    said = draw(saids())
    deltas = [*draw(openai_words(said)), *draw(openai_calls(said["calls"]))]
    spread = draw(st.sampled_from(["end", "end", "", "each"])) if said["finish"] != "length" else "end"
    role = {"role": "assistant"}
    deltas = [{**(role if draw(st.booleans()) else {}), **delta} for delta in deltas]
    chunks = [
        _chunk(delta, {"each": "stop", "": ""}.get(spread))
        for delta in [{**role, "content": draw(st.sampled_from(["", None]))}, *deltas]
    ]
    last = _chunk(draw(st.sampled_from([{}, None, {"content": ""}, {"content": None}])), said["finish"])
    chunks.append(last)
    if said["used"]:
        where = draw(st.sampled_from(["alone", "LiteLLM's", "last", "twice", "null before"]))
        alone = {
            "choices": [{"index": 0, "delta": {}}] if where == "LiteLLM's" else draw(st.sampled_from([[], None])),
            "usage": COUNTS,
        }
        if where == "null before":
            chunks = [{**chunk, "usage": None} for chunk in chunks]
        if where == "last":
            chunks[-1] = {**last, "usage": COUNTS}
        else:
            chunks += [alone] * (2 if where == "twice" else 1)
    if draw(st.booleans()):
        chunks = [draw(st.sampled_from([chunk, _odd(chunk)])) for chunk in chunks]
    events = [b"data: %b" % json.dumps(chunk, ensure_ascii=draw(st.booleans())).encode() for chunk in chunks]
    done = [b"data: [DONE]"] if draw(st.booleans()) else []
    noise = [b": keep-alive", b"data:", b"event: ping", b'data: {"choices": []}', b'data: {"choices": null, "x": {}}']
    return Told(**said, stream=draw(wires([*events, *done], noise, len(events))), whole=draw(openai_wholes(said)))


@st.composite
def openai_words(draw: st.DrawFn, said: dict[str, Any]) -> list[dict[str, Any]]:
    name = draw(st.sampled_from(["reasoning_content", "reasoning"]))
    in_parts = draw(st.booleans())
    thoughts, texts = draw(pieces(said["thought"])), draw(pieces(said["text"]))
    if in_parts:
        return [{"content": [_thinking(piece)]} for piece in thoughts] + [{"content": [_text(piece)]} for piece in texts]
    return [{name: piece, "content": None} for piece in thoughts] + [{"content": piece} for piece in texts]


@st.composite
def openai_calls(draw: st.DrawFn, calls: Iterable[tuple[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    places, ids, one_id = draw(st.booleans()), draw(st.booleans()), draw(st.booleans())
    deltas = []
    for number, (name, arguments) in enumerate(calls):
        place = {"index": number if places else 0} if draw(st.booleans()) or places else {}
        id = {"id": "call_0" if one_id and places else f"call_{number}"} if ids else {}
        if not arguments and places and draw(st.booleans()):
            none = draw(st.sampled_from([{"arguments": None}, {"arguments": ""}, {}]))
            deltas.append({"tool_calls": [{**place, **id, "function": {"name": name, **none}}]})
            continue
        if draw(st.booleans()):
            deltas.append({"tool_calls": [{**place, **id, "function": {"name": name, "arguments": arguments or "{}"}}]})
            continue
        text = draw(pieces(json.dumps(arguments)))
        deltas.append({"tool_calls": [{**place, **id, "type": "function", "function": {"name": name, "arguments": text[0]}}]})
        deltas += [{"tool_calls": [{**place, "function": {"arguments": piece}}]} for piece in text[1:]]
    return deltas


@st.composite
def openai_wholes(draw: st.DrawFn, said: dict[str, Any]) -> bytes:
    calls = []
    for number, (name, arguments) in enumerate(said["calls"]):
        none = [{}, None, ""] if not arguments else []
        told = draw(st.sampled_from([arguments, json.dumps(arguments), *none]))
        calls += [{"id": draw(st.sampled_from([f"c{number}", None, "", number])), "function": {"name": name, "arguments": told}}]
        calls += draw(st.sampled_from([[], [None]]))
    message: dict[str, Any] = {"role": "assistant", "content": said["text"] or draw(st.sampled_from([None, "", []]))}
    if draw(st.booleans()):
        message["content"] = [
            *([_thinking(said["thought"])] if said["thought"] else []),
            *([_text(said["text"])] if said["text"] else []),
        ]
    elif said["thought"]:
        message[draw(st.sampled_from(["reasoning_content", "reasoning"]))] = said["thought"]
    if calls or draw(st.booleans()):
        message["tool_calls"] = calls or None
    finish = "stop" if said["calls"] and draw(st.booleans()) else said["finish"]
    usage = {"usage": COUNTS} if said["used"] else draw(st.sampled_from([{}, {"usage": None}, {"usage": {}}]))
    body = {"id": None, "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": finish}], **usage}
    return draw(st.sampled_from([b"", "\ufeff".encode()])) + json.dumps(body).encode()


def _chunk(delta: Any, finish: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice]}


def _odd(chunk: dict[str, Any]) -> dict[str, Any]:
    """The same with a place that is a text, and what is none beside what is some."""
    odd = json.loads(json.dumps(chunk))
    for choice in odd["choices"] or ():
        choice["index"] = "0"
        if isinstance(choice.get("delta"), dict) and choice["delta"].get("tool_calls"):
            choice["delta"]["tool_calls"].insert(0, None)
    if odd["choices"]:
        odd["choices"].append(None)
    return odd


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _thinking(text: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": [_text(text)]}


# ---------------------------------------------------------------- Anthropic's servers


@st.composite
def anthropic(draw: st.DrawFn) -> Told:
    said = draw(saids())
    ids = draw(st.sampled_from(["toolu_{}", "toolu", "", None, 7]))
    blocks: list[dict[str, Any]] = [
        *([{"type": "thinking", "thinking": said["thought"], "signature": ""}] if said["thought"] else []),
        *([{"type": "text", "text": said["text"]}] if said["text"] else []),
        *(
            {"type": "tool_use", "id": ids and str(ids).format(n), "name": name, "input": args}
            for n, (name, args) in enumerate(said["calls"])
        ),
    ]
    usage: dict[str, Any] = {"input_tokens": 11, "output_tokens": 7} if said["used"] else {}
    reason = FINISHES[said["finish"]]
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {"id": None, "model": "m", "usage": usage or None}}]
    late = draw(st.booleans())  # all blocks are closed at the end
    for at, block in enumerate(blocks):
        events += draw(block_events(block, draw(st.sampled_from([at, str(at)]))))
        if not late:
            events.append({"type": "content_block_stop", "index": at})
    if late:
        events += [{"type": "content_block_stop", "index": at} for at in range(len(blocks))]
    if draw(st.booleans()):
        events.insert(1, {"type": "message_delta", "delta": {"stop_reason": None}, "usage": usage or None})
    events.append(
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, **({"usage": usage} if usage else {})}
    )
    events.append({"type": "message_stop"})
    wire = [b"event: %b\ndata: %b" % (event["type"].encode(), json.dumps(event).encode()) for event in events]
    noise = [b": keep-alive", b"data:", b'event: ping\ndata: {"type":"ping"}', b'event: new\ndata: {"type":"new","delta":7}']
    body = {"type": "message", "id": None, "model": "m", "content": blocks, "stop_reason": reason, "usage": usage or None}
    return Told(**said, stream=draw(wires(wire, noise, len(wire) - 1)), whole=json.dumps(body).encode())


@st.composite
def block_events(draw: st.DrawFn, block: dict[str, Any], place: Any) -> list[dict[str, Any]]:
    if block["type"] == "tool_use":
        text = json.dumps(block["input"])
        if draw(st.booleans()):
            return [{"type": "content_block_start", "index": place, "content_block": block}]
        start, parts = {**block, "input": draw(st.sampled_from([{}, None]))}, draw(pieces(text))
        if not block["input"]:
            parts = draw(st.sampled_from([[], [""], ["{}"]]))
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in parts]
    else:
        name = block["type"]
        start = {**block, name: ""}
        deltas = [{"type": f"{name}_delta", name: piece} for piece in draw(pieces(block[name]))]
    return [
        {"type": "content_block_start", "index": place, "content_block": start},
        *({"type": "content_block_delta", "index": place, "delta": delta} for delta in deltas),
    ]


# ---------------------------------------------------------------- the wire


@st.composite
def wires(draw: st.DrawFn, events: list[bytes], noise: list[bytes], needed: int) -> bytes:
    """The events with what says nothing between them; the first `needed` are never behind the last boundary."""
    end = draw(st.sampled_from([b"\n", b"\r\n", b"\r"]))
    told = []
    for event in events:
        told += draw(st.lists(st.sampled_from(noise), max_size=1))
        told.append(event)
    wire = b"".join(event.replace(b"\n", end) + 2 * end for event in told)
    return draw(st.sampled_from([b"", "\ufeff".encode()])) + wire
