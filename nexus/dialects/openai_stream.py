"""OpenAI's chat streams, to and from the canonical events.  Whole replies are in `openai_answer`; nothing here passes bytes through.

This is the hot path of translation: one typed decode for each event, and bytes put together around the one value that changes.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.dialects.canonical import (
    Begin,
    FailureKind,
    Finish,
    FinishReason,
    ReasoningDelta,
    ReplyContext,
    StreamEncoder,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
    made_call_id,
)
from nexus.dialects.decoding import EventDecoder
from nexus.dialects.jsontext import loads
from nexus.dialects.openai_answer import BROKEN_OFF, finish_of, finish_word, text_of, usage_object
from nexus.dialects.openai_content import arguments_text
from nexus.dialects.openai_patience import patient
from nexus.dialects.openai_reader import DONE, Chunks, is_error, usage_of
from nexus.dialects.sse import data_of
from nexus.model import NO_USAGE, Usage

# OpenAI's types and codes of errors, and those of its kin: vLLM's, llama.cpp's ("exceed_context_size_error", "unavailable_error")
KINDS = {
    "invalid_request_error": FailureKind.INVALID_REQUEST,
    "exceed_context_size_error": FailureKind.INVALID_REQUEST,
    "context_length_exceeded": FailureKind.INVALID_REQUEST,
    "BadRequestError": FailureKind.INVALID_REQUEST,
    "authentication_error": FailureKind.AUTHENTICATION,
    "invalid_api_key": FailureKind.AUTHENTICATION,
    "permission_error": FailureKind.PERMISSION,
    "not_found_error": FailureKind.NOT_FOUND,
    "model_not_found": FailureKind.NOT_FOUND,
    "NotFoundError": FailureKind.NOT_FOUND,
    "rate_limit_error": FailureKind.RATE_LIMIT,
    "rate_limit_exceeded": FailureKind.RATE_LIMIT,
    "insufficient_quota": FailureKind.RATE_LIMIT,
    "requests": FailureKind.RATE_LIMIT,  # OpenAI's types of a limit say what of
    "tokens": FailureKind.RATE_LIMIT,
    "overloaded_error": FailureKind.OVERLOADED,
    "unavailable_error": FailureKind.OVERLOADED,
    "service_unavailable": FailureKind.OVERLOADED,
    "timeout_error": FailureKind.TIMEOUT,
}
_UNREADABLE = "the backend sent an event that cannot be read"


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None  # text; a few servers send the object


class _Call(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: Any = None  # text, null, or a list of parts
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: list[_Call] | None = None


class _Choice(msgspec.Struct):
    index: int | None = 0
    delta: _Delta | None = None
    finish_reason: Any = None
    stop_reason: Any = None


class _Chunk(msgspec.Struct):
    model: Any = ""
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None


_chunk = msgspec.json.Decoder(_Chunk)
_encode = msgspec.json.Encoder().encode


class Decoder(EventDecoder):
    """One stream of chunks.  What follows `[DONE]` or a failure is not looked at."""

    __slots__ = ("_at", "_calls", "_finished")

    framing = Chunks
    kinds = KINDS

    def __init__(self) -> None:
        super().__init__()
        self._finished = False  # there was a finish reason
        self._calls: list[str] = []  # the ids, in the order of their starts
        self._at: dict[int | None, int] = {}  # the server's index -> ours

    def take(self, event: bytes) -> None:
        data = data_of(event)
        if data is None:
            return
        if data.strip() == DONE:
            self.ended = self.over = True
            return
        try:
            chunk = _chunk.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            again = self._again(data)
            if again is None:
                return
            chunk = again
        if (chunk.choices is None or chunk.error) and is_error(value := loads(data)):
            self.fail_by(value)
        else:
            self._take(chunk)

    def _again(self, data: bytes) -> _Chunk | None:
        """An event with half a surrogate pair in it, or with a call that is not quite in OpenAI's form, is mended; others fail."""
        try:
            value = self.torn(data)
            if not is_error(value):
                return msgspec.convert(patient(value), _Chunk)
        except (ValueError, msgspec.ValidationError):
            self.fail(_UNREADABLE, "malformed")
        else:
            self.fail_by(value)
        return None

    def _take(self, chunk: _Chunk) -> None:
        if not self.begun:
            self.begin(_word(chunk.model))
        for choice in chunk.choices or ():
            if not choice.index and not self._finished:
                self._choice(choice)
                if self.over:
                    return
        if chunk.usage is not None and (usage := usage_of(chunk.usage)) is not None:
            self.out.append(UsageSeen(usage=usage))

    def _choice(self, choice: _Choice) -> None:
        if choice.delta is not None:
            self._delta(choice.delta)
        reason = choice.finish_reason
        if reason is None or self.over:
            return
        if reason in BROKEN_OFF:
            self.fail(f"the backend gave its answer up ({reason})")
            return
        finish, stop = finish_of(reason, choice.stop_reason, called=bool(self._calls))
        self._finished = self.ended = True
        self.out.append(Finish(reason=finish or FinishReason.STOP, stop_sequence=stop))

    def _delta(self, delta: _Delta) -> None:
        if thought := text_of(delta.reasoning_content) or text_of(delta.reasoning):
            self.out.append(ReasoningDelta(text=thought))
        if text := text_of(delta.content) or text_of(delta.refusal):
            self.out.append(TextDelta(text=text))
        for call in delta.tool_calls or ():
            self._call(call)

    def _call(self, call: _Call) -> None:
        function = call.function
        name = function.name if function else None
        index = self._at.get(call.index)
        # some servers number every call 0, or not at all: a new id with a name is a new call
        if index is None or (call.id and name and call.id != self._calls[index]):
            if call.index is None and index is None and self._calls and not name:
                index = len(self._calls) - 1
            elif not name:
                self.fail("the backend sent a tool call without a name", "malformed")
                return
            else:
                index = self._start(call, name)
        if function is not None and (piece := arguments_text(function.arguments)):
            self.out.append(ToolCallDelta(index=index, arguments=piece))

    def _start(self, call: _Call, name: str) -> int:
        index = len(self._calls)
        id = call.id or made_call_id()
        self._calls.append(id)
        self._at[call.index] = index
        self.out.append(ToolCallStart(index=index, id=id, name=name))
        return index


class Encoder(StreamEncoder):
    """One stream of `chat.completion.chunk`s."""

    __slots__ = ("_called", "_context", "_finished", "_head", "_open", "_usage")

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self._usage: Usage = NO_USAGE
        self._finished = False
        self._called = False
        self._begin(Begin())

    def _begin(self, event: Begin) -> None:
        """All chunks of a stream begin with the same bytes."""
        context = self._context
        self._head = b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,"choices":[' % (
            _encode(f"chatcmpl-{context.id}"),
            context.created,
            _encode(event.model or context.model),
        )
        self._open = self._head + b'{"index":0,"delta":{'

    def encode(self, event: StreamEvent) -> bytes:
        if isinstance(event, TextDelta):
            return self._chunk(b'"content":%b' % _encode(event.text))
        if isinstance(event, ToolCallDelta):
            return self._chunk(_ARGUMENTS % (event.index, _encode(event.arguments)))
        if isinstance(event, ReasoningDelta):
            return self._chunk(b'"reasoning_content":%b' % _encode(event.text))
        if isinstance(event, ToolCallStart):
            self._called = True
            return self._chunk(_CALL % (event.index, _encode(event.id), _encode(event.name)))
        if isinstance(event, Begin):
            self._begin(event)
            return self._chunk(b'"role":"assistant","content":""')
        if isinstance(event, Finish):
            return self._finish(event.reason)
        if isinstance(event, UsageSeen):
            self._usage = event.usage
        return b""  # signatures and redacted thinking: OpenAI's clients have no place for them

    def finish(self) -> bytes:
        reason = FinishReason.TOOL_CALLS if self._called else FinishReason.STOP
        last = b"" if self._finished else self._finish(reason)
        if self._context.wants_usage:
            last += b'%b],"usage":%b}\n\n' % (self._head, _encode(usage_object(self._usage)))
        return last + b"data: [DONE]\n\n"

    def _chunk(self, delta: bytes) -> bytes:
        return b'%b%b},"finish_reason":null}]}\n\n' % (self._open, delta)

    def _finish(self, reason: FinishReason) -> bytes:
        self._finished = True
        return b'%b},"finish_reason":"%b"}]}\n\n' % (self._open, finish_word(reason).encode())


_CALL = b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":{"name":%b,"arguments":""}}]'
_ARGUMENTS = b'"tool_calls":[{"index":%d,"function":{"arguments":%b}}]'


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
