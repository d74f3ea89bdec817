"""The scenarios as OpenAI's clients and servers say them, after OpenAI's API reference.  Strict reading is in `openai_reading`."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from nexus.dialects.canonical import Answer, FinishReason, Part, Reasoning, Text, ToolCall
from nexus.testing.acts import sse
from nexus.testing.conformance import openai_reading
from nexus.testing.conformance.golden import COMMENT, JSON, Exchange, GoldenTable, with_halves, with_marks, with_strangers
from nexus.testing.conformance.scenarios import (
    CITY,
    MODEL,
    PARIS,
    PDF,
    PICTURE,
    PICTURE_URL,
    SUM,
    UNICODE,
    ZURICH,
    Manner,
    Scenario,
)

CREATED = 1_760_000_000
TYPES = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error", 500: "server_error", 529: "server_error"}
FINISH = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
}


def _function(name: str, description: str) -> JSON:
    return {"type": "function", "function": {"name": name, "description": description, "parameters": CITY}}


def _call(id: str, name: str, arguments: str) -> JSON:
    return {"id": id, "type": "function", "function": {"name": name, "arguments": arguments}}


def _user(content: Any) -> JSON:
    return {"role": "user", "content": content}


def _system(content: str) -> JSON:
    return {"role": "system", "content": content}


def _assistant(content: str, **more: Any) -> JSON:
    return {"role": "assistant", "content": content, **more}


def _tool(id: str, content: Any) -> JSON:
    return {"role": "tool", "tool_call_id": id, "content": content}


def _text(text: str) -> JSON:
    return {"type": "text", "text": text}


def _picture(url: str) -> JSON:
    return {"type": "image_url", "image_url": {"url": url}}


def _asks(*messages: JSON, **fields: Any) -> JSON:
    return {"model": MODEL, "messages": list(messages), "max_tokens": 256, **fields}


TOOLS = [_function("get_weather", "The weather in a city."), _function("get_time", "The time in a city.")]
DATA_URL = f"data:image/png;base64,{PICTURE}"
FILE = {"type": "file", "file": {"filename": "report.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}}
HELLO = _user("Hello!")
CALLED = (
    _user("Paris or Zürich?"),
    _assistant("I ask.", tool_calls=[_call("call_A1", "get_weather", PARIS), _call("call_B2", "get_weather", ZURICH)]),
)
PLAIN = Exchange(
    request=_asks(
        _system("You are brief."),
        _user("Hello, who are you?"),
        _assistant("A model."),
        _user("And what is 2 + 2?"),
        user="user-7",
    )
)
SAID: Mapping[str, Exchange] = {
    "plain": PLAIN,
    "streamed": PLAIN,
    "sampling": Exchange(request=_asks(HELLO, temperature=0.5, top_p=0.9, top_k=40)),
    "tools": Exchange(request=_asks(_user("The weather in Zürich?"), tools=TOOLS, tool_choice="auto")),
    "parallel tools": Exchange(request=_asks(_user("Weather and time in Paris?"), tools=TOOLS, tool_choice="required")),
    "forced tool": Exchange(
        request=_asks(
            HELLO, tools=TOOLS, tool_choice={"type": "function", "function": {"name": "get_time"}}, parallel_tool_calls=False
        )
    ),
    "tool results": Exchange(
        request=_asks(
            *CALLED, _tool("call_A1", "18 °C"), _tool("call_B2", [_text("9 °C"), _text("rain")]), _user("Which one?"), tools=TOOLS
        ),
        arrives=_asks(*CALLED, _tool("call_A1", "18 °C"), _tool("call_B2", "9 °C\n\nrain"), _user("Which one?"), tools=TOOLS),
    ),
    # a tool's message has no place for pictures: they follow as the user's
    "images in results": Exchange(
        request=_asks(
            *CALLED,
            _tool("call_A1", [_text("A map:"), _picture(DATA_URL)]),
            _tool("call_B2", "no map"),
            _user("Which one?"),
            tools=TOOLS,
        ),
        arrives=_asks(
            *CALLED,
            _tool("call_A1", "A map:"),
            _tool("call_B2", "no map"),
            _user([_text("This is the result of the tool call call_A1:"), _picture(DATA_URL), _text("Which one?")]),
            tools=TOOLS,
        ),
    ),
    # that a tool failed is said in words alone
    "failed tool": Exchange(
        arrives=_asks(*CALLED, _tool("call_A1", "18 °C"), _tool("call_B2", "The tool failed: no such city"), tools=TOOLS),
        lost={"is_error"},
    ),
    "images": Exchange(request=_asks(_user([_text("Which is a cat?"), _picture(DATA_URL), _picture(PICTURE_URL)]))),
    "documents": Exchange(request=_asks(_user([FILE, _text("Sum it up.")]))),
    "document by URL": Exchange(lost={"document_url"}, refused=True),
    "reasoning": Exchange(request=_asks(HELLO, reasoning_effort="high"), drops={"signature", "redacted_thinking"}),
    "reasoning sent back": Exchange(
        request=_asks(HELLO, _assistant("Hello.", reasoning_content="A greeting."), _user("What did you think?")),
        omits={"signature", "redacted_thinking"},
        lost={"signature", "redacted_thinking"},
    ),
    "JSON schema": Exchange(
        request=_asks(
            _user("2 + 2?"),
            response_format={"type": "json_schema", "json_schema": {"name": "answer", "schema": SUM, "strict": True}},
        )
    ),
    "stop": Exchange(request=_asks(_user("Count."), stop=["END", "three"]), drops={"stop_sequence"}),
    "length": Exchange(request=_asks(_user("Count."), max_tokens=3)),
    "refusal": Exchange(request=_asks(_user("Do evil."))),
    "long unicode": Exchange(request=_asks(_user(UNICODE))),
    "empty answer": Exchange(request=_asks(HELLO)),
    # templates take one system message, at the top
    "system in blocks": Exchange(
        request=_asks(_system("You are brief."), _system("You are kind."), HELLO),
        omits={"cache_control"},
        arrives=_asks(_system("You are brief.\n\nYou are kind."), HELLO),
        lost={"cache_control"},
    ),
    "late system": Exchange(
        request=_asks(HELLO, _assistant("Hello."), _system("Be brief from here on."), _user("How are you?")),
        arrives=_asks(
            HELLO,
            _assistant("Hello."),
            _user("<system-reminder>\nBe brief from here on.\n</system-reminder>\n\nHow are you?"),
        ),
        lost={"system_role"},
    ),
}

SERVERS = {404: "not_found_error"}
"""Types of errors that servers at home have and the cloud has not."""


class OpenAITable(GoldenTable):
    """OpenAI's chat completions, as servers at home speak them."""

    dialect = "openai"
    path = "/v1/chat/completions"
    headers: Mapping[str, str] = {"openai-organization": "org-golden"}
    credentials: Mapping[str, str] = {"authorization": "Bearer client-key"}
    spare = 2  # the usage and [DONE]: what was said is complete with its finish_reason

    def exchange(self, scenario: Scenario) -> Exchange:
        said = self.sayable(scenario.said)
        told = tuple(frames(said, scenario.manner))
        return attrs.evolve(SAID.get(scenario.request, Exchange()), reply=reply(said), frames=told)

    def streaming(self, request: JSON) -> JSON:
        return {**request, "stream": True, "stream_options": {"include_usage": True}}

    def begun(self, text: str) -> tuple[bytes, ...]:
        return _chunk({"role": "assistant", "content": ""}), _chunk({"content": text[:4]}), _chunk({"content": text[4:]})

    def sayable(self, answer: Answer) -> Answer:
        """No signatures, nothing redacted; which stop sequence it was is not told."""
        parts = tuple(
            attrs.evolve(part, signature=None) if isinstance(part, Reasoning) else part
            for part in answer.parts
            if not isinstance(part, Reasoning) or part.redacted is None
        )
        finish = FinishReason.STOP if answer.finish is FinishReason.STOP_SEQUENCE else answer.finish
        return attrs.evolve(answer, parts=parts, finish=finish, stop_sequence=None)

    def whole(self, body: bytes) -> Answer:
        return openai_reading.whole(body)

    def streamed(self, body: bytes) -> Answer:
        return openai_reading.streamed(body)

    def broken(self, body: bytes) -> tuple[str, str]:
        return openai_reading.broken(body)

    def error(self, status: int, body: bytes) -> str:
        return openai_reading.error(status, body)

    def error_body(self, status: int, message: str) -> bytes:
        return json.dumps(_error(message, SERVERS.get(status) or TYPES.get(status, "invalid_request_error"))).encode()

    def error_event(self, message: str) -> bytes:
        return sse(_error(message, "server_error"))


# ---------------------------------------------------------------- replies


def _error(message: str, type: str) -> JSON:
    return {"error": {"message": message, "type": type, "param": None, "code": None}}


def reply(said: Answer) -> JSON:
    """The whole answer."""
    text = "".join(part.text for part in said.parts if isinstance(part, Text))
    message: dict[str, Any] = {"role": "assistant", "content": text or (None if _calls(said.parts) else ""), "refusal": None}
    if thoughts := "".join(part.text for part in said.parts if isinstance(part, Reasoning)):
        message["reasoning_content"] = thoughts
    if calls := _calls(said.parts):
        message["tool_calls"] = [_call(call.id, call.name, call.arguments) for call in calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _finish(said)}
    return {
        "id": "chatcmpl-golden",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [choice],
        "usage": _usage(said),
    }


def frames(said: Answer, manner: Manner = Manner.USUAL) -> Iterator[bytes]:
    """The events of the stream: the role first, text in pieces, the arguments of all calls in turns of one character, usage last."""
    told = _frames(said, at_once=manner is Manner.AT_ONCE, bare=manner is Manner.BARE)
    if manner is Manner.RESTLESS:
        return (frame.replace(b'"finish_reason":null', b'"finish_reason":"stop"') for frame in told)
    if manner is Manner.ENDLESS:
        return iter(list(told)[:-1])
    if manner is Manner.MARKED:
        return with_marks(told, COMMENT)
    if manner is Manner.STRANGE:
        return with_strangers(tuple(told), STRANGERS)
    return with_halves(told) if manner is Manner.TORN else told


def _frames(said: Answer, *, at_once: bool, bare: bool) -> Iterator[bytes]:
    yield _chunk({"role": "assistant", "content": None})
    for part in said.parts:
        if isinstance(part, Text | Reasoning):
            key = "content" if isinstance(part, Text) else "reasoning_content"
            yield from (_chunk({key: part.text[at : at + 7]}) for at in range(0, len(part.text), 7))
    for index, call in enumerate(_calls(said.parts)):
        yield _chunk({"tool_calls": [{"index": index, **_call(call.id, call.name, call.arguments if at_once else "")}]})
    for pieces in () if at_once else itertools.zip_longest(*("" if bare else call.arguments for call in _calls(said.parts))):
        for index, piece in enumerate(pieces):
            if piece:
                yield _chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield _chunk({}, _finish(said))
    yield sse({**_head(), "choices": [], "usage": _usage(said)})
    yield sse("[DONE]")


def _calls(parts: Sequence[Part]) -> list[ToolCall]:
    return [part for part in parts if isinstance(part, ToolCall)]


def _head() -> JSON:
    return {"id": "chatcmpl-golden", "object": "chat.completion.chunk", "created": CREATED, "model": MODEL}


def _chunk(delta: JSON, finish: str | None = None) -> bytes:
    data = {**_head(), "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}
    return b"data: " + json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


def _finish(said: Answer) -> str:
    return FINISH[said.finish or FinishReason.STOP]


def _usage(said: Answer) -> JSON:
    usage = said.usage
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
    }


STRANGERS = (
    _chunk({"brand_new": "Not said."}),
    _chunk({"content": [{"type": "brand_new", "text": "Not said."}]}),
    sse({"type": "brand_new", "text": "Not said.", "delta": {"type": "brand_new_delta", "text": "Not said."}}),
    b'event: brand_new\ndata: {"message":"Not said.","progress":0.5}\n\n',
)
"""What no client of today knows, with words that are no part of the answer."""
