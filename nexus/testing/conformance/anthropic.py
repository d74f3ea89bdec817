"""The scenarios as Anthropic's clients and its cloud say them, after Anthropic's API reference.  Strict reading is in `anthropic_reading`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from nexus.dialects.canonical import Answer, FinishReason, Part, Reasoning, Text, ToolCall
from nexus.testing.conformance import anthropic_reading
from nexus.testing.conformance.golden import COMMENT, JSON, Exchange, GoldenTable, with_halves, with_marks, with_strangers
from nexus.testing.conformance.scenarios import (
    CITY,
    MODEL,
    PARIS,
    PDF,
    PDF_URL,
    PICTURE,
    PICTURE_URL,
    REDACTED,
    SIGNATURE,
    SUM,
    UNICODE,
    ZURICH,
    Manner,
    Scenario,
)

TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
FINISH = {
    FinishReason.STOP: "end_turn",
    FinishReason.LENGTH: "max_tokens",
    FinishReason.TOOL_CALLS: "tool_use",
    FinishReason.STOP_SEQUENCE: "stop_sequence",
    FinishReason.CONTENT_FILTER: "refusal",
}


def _text(text: str, **more: Any) -> JSON:
    return {"type": "text", "text": text, **more}


def _user(*blocks: Any) -> JSON:
    return {"role": "user", "content": [_text(block) if isinstance(block, str) else block for block in blocks]}


def _assistant(*blocks: Any) -> JSON:
    return {**_user(*blocks), "role": "assistant"}


def _use(id: str, name: str, arguments: str) -> JSON:
    return {"type": "tool_use", "id": id, "name": name, "input": json.loads(arguments)}


def _result(id: str, *blocks: Any, **more: Any) -> JSON:
    return {"type": "tool_result", "tool_use_id": id, **_content(*blocks), **more}


def _content(*blocks: Any) -> JSON:
    return {"content": _user(*blocks)["content"]}


def _asks(*messages: JSON, **fields: Any) -> JSON:
    return {"model": MODEL, "max_tokens": 256, "messages": list(messages), **fields}


TOOLS = [
    {"name": "get_weather", "description": "The weather in a city.", "input_schema": CITY},
    {"name": "get_time", "description": "The time in a city.", "input_schema": CITY},
]
IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PICTURE}}
IMAGE_URL = {"type": "image", "source": {"type": "url", "url": PICTURE_URL}}
FILE = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}, "title": "report.pdf"}
FILE_URL = {"type": "document", "source": {"type": "url", "url": PDF_URL}}
CALLED = (
    _user("Paris or Zürich?"),
    _assistant("I ask.", _use("call_A1", "get_weather", PARIS), _use("call_B2", "get_weather", ZURICH)),
)
HELLO = _user("Hello!")
KEPT = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
PLAIN = Exchange(
    request=_asks(
        _user("Hello, who are you?"),
        _assistant("A model."),
        _user("And what is 2 + 2?"),
        system=[_text("You are brief.")],
        metadata={"user_id": "user-7"},
    )
)
SAID: Mapping[str, Exchange] = {
    "plain": PLAIN,
    "streamed": PLAIN,
    # the newest models are sampled as they are
    "sampling": Exchange(
        request=_asks(HELLO, temperature=0.5, top_p=0.9, top_k=40), arrives=_asks(HELLO), lost={"temperature", "top_p", "top_k"}
    ),
    "tools": Exchange(request=_asks(_user("The weather in Zürich?"), tools=TOOLS, tool_choice={"type": "auto"})),
    "parallel tools": Exchange(request=_asks(_user("Weather and time in Paris?"), tools=TOOLS, tool_choice={"type": "any"})),
    "forced tool": Exchange(
        request=_asks(HELLO, tools=TOOLS, tool_choice={"type": "tool", "name": "get_time", "disable_parallel_tool_use": True})
    ),
    "tool results": Exchange(
        request=_asks(*CALLED, _user(_result("call_A1", "18 °C"), _result("call_B2", "9 °C", "rain"), "Which one?"), tools=TOOLS)
    ),
    "images in results": Exchange(
        request=_asks(*CALLED, _user(_result("call_A1", "A map:", IMAGE), _result("call_B2", "no map"), "Which one?"), tools=TOOLS)
    ),
    "failed tool": Exchange(
        request=_asks(*CALLED, _user(_result("call_A1", "18 °C"), _result("call_B2", "no such city", is_error=True)), tools=TOOLS)
    ),
    "images": Exchange(request=_asks(_user("Which is a cat?", IMAGE, IMAGE_URL))),
    "documents": Exchange(request=_asks(_user(FILE, "Sum it up."))),
    "document by URL": Exchange(request=_asks(_user(FILE_URL, "Sum it up."))),
    "reasoning": Exchange(request=_asks(HELLO, thinking={"type": "adaptive"}, output_config={"effort": "high"})),
    # the cloud takes thinking back only with its signature, which other dialects have no place for
    "reasoning sent back": Exchange(
        request=_asks(
            HELLO,
            _assistant(
                {"type": "thinking", "thinking": "A greeting.", "signature": SIGNATURE},
                {"type": "redacted_thinking", "data": REDACTED},
                "Hello.",
            ),
            _user("What did you think?"),
        ),
        arrives=_asks(HELLO, _assistant("Hello."), _user("What did you think?")),
        lost={"thinking"},
        poorer=True,
    ),
    "JSON schema": Exchange(request=_asks(_user("2 + 2?"), output_config={"format": {"type": "json_schema", "schema": SUM}})),
    "stop": Exchange(request=_asks(_user("Count."), stop_sequences=["END", "three"])),
    "length": Exchange(request={**_asks(_user("Count.")), "max_tokens": 3}),
    "refusal": Exchange(request=_asks(_user("Do evil."))),
    "long unicode": Exchange(request=_asks(_user(UNICODE))),
    "empty answer": Exchange(request=_asks(HELLO)),
    "system in blocks": Exchange(
        request=_asks(HELLO, system=[_text("You are brief."), _text("You are kind.", **KEPT)]),
        arrives=_asks(HELLO, system=[_text("You are brief."), _text("You are kind.")]),
        poorer=True,
    ),
    "late system": Exchange(
        request=_asks(HELLO, _assistant("Hello."), {**_user("Be brief from here on."), "role": "system"}, _user("How are you?")),
        arrives=_asks(HELLO, _assistant("Hello."), _user("How are you?"), system=[_text("Be brief from here on.")]),
        lost={"system_position"},
    ),
}


class AnthropicTable(GoldenTable):
    """Anthropic's messages, as its cloud takes them for its newest models."""

    dialect = "anthropic"
    path = "/v1/messages"
    headers: Mapping[str, str] = {"anthropic-version": "2023-06-01", "anthropic-beta": "golden-2026-01-01"}
    query = "beta=true"
    credentials: Mapping[str, str] = {"x-api-key": "client-key"}
    wants = frozenset({"anthropic-version"})
    home = False

    def exchange(self, scenario: Scenario) -> Exchange:
        told = tuple(frames(scenario.said, scenario.manner))
        return attrs.evolve(SAID.get(scenario.request, Exchange()), reply=reply(scenario.said), frames=told)

    def streaming(self, request: JSON) -> JSON:
        return {**request, "stream": True}

    def begun(self, text: str) -> tuple[bytes, ...]:
        said = Answer(parts=(Text(text=text),))
        return tuple(frames(said))[:-3]

    def whole(self, body: bytes) -> Answer:
        return anthropic_reading.whole(body)

    def streamed(self, body: bytes) -> Answer:
        return anthropic_reading.streamed(body)

    def broken(self, body: bytes) -> tuple[str, str]:
        return anthropic_reading.broken(body)

    def error(self, status: int, body: bytes) -> str:
        return anthropic_reading.error(status, body)

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps(_error(message, TYPES.get(status, "invalid_request_error"))).encode()

    def error_event(self, message: str) -> bytes:
        return _event("error", **_error(message, "api_error"))


# ---------------------------------------------------------------- replies


def _error(message: str, type: str) -> JSON:
    return {"type": "error", "error": {"type": type, "message": message}, "request_id": "req_golden"}


def reply(said: Answer) -> JSON:
    """The whole message."""
    content = [_block(part) for part in said.parts]
    return {
        **_message(said),
        "content": content,
        "stop_reason": _finish(said),
        "stop_sequence": said.stop_sequence,
        "usage": _usage(said),
    }


def frames(said: Answer, manner: Manner = Manner.USUAL) -> Iterator[bytes]:
    """The events of the stream: a ping after the start, blocks one after another, arguments in pieces of one character."""
    told = _frames(said, manner)
    if manner is Manner.MARKED:
        return with_marks(told, COMMENT, _event("ping"))
    if manner is Manner.STRANGE:
        return with_strangers(tuple(told), STRANGERS)
    return with_halves(told) if manner is Manner.TORN else told


def _frames(said: Answer, manner: Manner) -> Iterator[bytes]:
    yield _event("message_start", message={**_message(said), "usage": {**_usage(said), "output_tokens": 1}})
    yield _event("ping")
    blocks = [list(_filled(index, part, manner)) for index, part in enumerate(said.parts or (Text(text=""),))]
    together = itertools.zip_longest(*blocks) if manner is Manner.IN_TURNS else blocks
    yield from (event for events in together for event in events if event is not None)
    delta = {"stop_reason": _finish(said), "stop_sequence": said.stop_sequence}
    told = {name: count for name, count in _usage(said).items() if name.startswith("output")}
    yield _event("message_delta", delta=delta, usage=told)
    yield _event("message_stop")


def _filled(index: int, part: Part, manner: Manner) -> Iterator[bytes]:
    """One block, from its start to its stop.  Told at once, a call brings its input with its start, as some servers do."""
    whole = manner is Manner.AT_ONCE and isinstance(part, ToolCall)
    yield _event("content_block_start", index=index, content_block={**_block(part), **({} if whole else _empty(part))})
    for delta in () if whole else _deltas(part, bare=manner is Manner.BARE):
        yield _event("content_block_delta", index=index, delta=delta)
    yield _event("content_block_stop", index=index)


def _message(said: Answer) -> JSON:
    head = {"id": "msg_golden", "type": "message", "role": "assistant", "model": MODEL, "content": []}
    return {**head, "stop_reason": None, "stop_sequence": None}


def _block(part: Part) -> JSON:
    if isinstance(part, Text):
        return _text(part.text)
    if isinstance(part, ToolCall):
        return _use(part.id, part.name, part.arguments)
    assert isinstance(part, Reasoning), "nothing else is part of an answer"
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    return {"type": "thinking", "thinking": part.text, "signature": part.signature or ""}


def _empty(part: Part) -> JSON:
    """What a block holds at its start."""
    if isinstance(part, Text):
        return {"text": ""}
    if isinstance(part, ToolCall):
        return {"input": {}}
    return {} if isinstance(part, Reasoning) and part.redacted is not None else {"thinking": "", "signature": ""}


def _deltas(part: Part, *, bare: bool) -> Iterator[JSON]:
    if isinstance(part, Text):
        yield from ({"type": "text_delta", "text": part.text[at : at + 7]} for at in range(0, len(part.text), 7))
    elif isinstance(part, ToolCall):
        yield from ({"type": "input_json_delta", "partial_json": piece} for piece in ("", *("" if bare else part.arguments)))
    elif isinstance(part, Reasoning) and part.redacted is None:
        yield {"type": "thinking_delta", "thinking": part.text}
        yield {"type": "signature_delta", "signature": part.signature or ""}


def _event(kind: str, **fields: Any) -> bytes:
    data = json.dumps({"type": kind, **fields}, separators=(",", ":"), ensure_ascii=False)
    return f"event: {kind}\ndata: {data}\n\n".encode()


def _finish(said: Answer) -> str:
    return FINISH[said.finish or FinishReason.STOP]


def _usage(said: Answer) -> JSON:
    usage = said.usage
    thought = {"output_tokens_details": {"thinking_tokens": usage.reasoning_tokens}} if usage.reasoning_tokens else {}
    return {
        "input_tokens": usage.input_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.output_tokens,
        **thought,
    }


STRANGERS = (
    _event("content_block_delta", index=0, delta={"type": "brand_new_delta", "text": "Not said."}),
    _event("content_block_start", index=7, content_block={"type": "brand_new", "text": "Not said."}),
    _event("content_block_delta", index=7, delta={"type": "text_delta", "text": "Not said."}),
    _event("content_block_stop", index=7),
    _event("brand_new", index=7, text="Not said.", delta={"type": "text_delta", "text": "Not said."}),
)
"""What no client of today knows, with words that are no part of the answer."""
