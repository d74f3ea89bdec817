"""One Anthropic stream read into the canonical events.  Whole messages are in `answers`; nothing here passes bytes through.

Blocks may overlap (llama.cpp closes all of them at the end), the last boundary may be missing, events and blocks that nobody
knows are passed over.  One typed decode for each event, which takes half as long as one into plain values.
"""

from __future__ import annotations

from typing import Any

import msgspec

from nexus.api import BackendError
from nexus.dialects.canonical import (
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
    made_call_id,
)
from nexus.dialects.decoding import EventDecoder
from nexus.dialects.held import EACH_CALL, Held
from nexus.dialects.jsontext import loads
from nexus.dialects.sse import data_of
from nexus.model import NO_USAGE
from nexus_anthropic.blocks_in import arguments_of, call_id_of
from nexus_anthropic.usage import merged, tells_output, usage_of
from nexus_anthropic.words import KINDS, finish_of

_UNREADABLE = "the backend sent an event that cannot be read"
_KNOWN = frozenset(
    {"message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop"}
)


_DELTAS = frozenset({"text_delta", "input_json_delta", "thinking_delta", "signature_delta"})
_READ = _DELTAS | {None}  # some servers say no type
_BLOCKS = frozenset({"text", "tool_use", "thinking", "redacted_thinking", None})


class _Delta(msgspec.Struct):
    type: str | None = None
    text: str | None = None
    partial_json: str | None = None
    thinking: str | None = None
    signature: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Block(msgspec.Struct):
    type: str | None = None
    id: Any = None  # blocks of a kind that nobody knows may hold anything
    name: Any = None
    text: Any = None
    thinking: Any = None
    signature: Any = None
    data: Any = None
    input: Any = None


class _Message(msgspec.Struct):
    model: str | None = None
    usage: Any = None


class _Event(msgspec.Struct):
    type: str | None = None
    index: int | None = None
    delta: _Delta | None = None
    content_block: _Block | None = None
    message: _Message | None = None
    usage: Any = None
    error: Any = None


_event = msgspec.json.Decoder(_Event)


class Decoder(EventDecoder):
    """One stream.  What follows `message_stop` or a failure is not looked at."""

    __slots__ = ("_calls", "_counts", "_fickle", "_finish", "_foreign", "_given", "_held", "_started", "_told")

    kinds = KINDS

    def __init__(self) -> None:
        super().__init__()
        self._foreign: set[int | None] = set()  # blocks of kinds that nobody knows
        self._held = Held()
        self._started = 0  # calls
        self._calls: dict[int | None, int] = {}  # the block's index -> the call's
        self._given: dict[int | None, str] = {}  # arguments that came with a block's start, until pieces come
        self._counts: dict[str, int] = {}
        self._told = NO_USAGE
        self._fickle = False  # content came after a stop reason
        self._finish: Finish | None = None

    def take(self, event: bytes) -> None:
        data = data_of(event)
        if data is None or data.strip() == b"[DONE]":
            return
        try:
            said = _event.decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            again = self._again(data)
            if again is None:
                return
            said = again
        self._take(said, data)

    def _again(self, data: bytes) -> _Event | None:
        """An event with half a surrogate pair in it is mended, as is a place told as text; one of a type that nobody knows is passed
        over.  Others fail."""
        try:
            value = self.torn(data)
            if isinstance(value, dict):
                if _strange(value):
                    return None
                index = value.get("index")
                if isinstance(index, str) and index.isdecimal():
                    value["index"] = int(index)
                return msgspec.convert(value, _Event)
        except (ValueError, msgspec.ValidationError):
            pass
        self.fail(_UNREADABLE, "malformed")
        return None

    def _take(self, event: _Event, data: bytes) -> None:
        kind = event.type
        if self.ending and kind in ("content_block_delta", "content_block_start"):
            self.ending, self._fickle = False, True
        if kind == "content_block_delta":
            if event.delta is not None:
                self._delta(event.index, event.delta)
        elif kind == "content_block_start":
            if event.content_block is not None:
                self._block(event.index, event.content_block)
        elif kind == "content_block_stop":
            self._complete(event.index)
        elif kind == "message_start":
            self._message(event.message or _Message())
        elif kind == "message_delta":
            self._ending(event)
        elif kind == "message_stop":
            self._stop()
        elif kind == "error" or event.error:
            self.fail_by(loads(data))

    # ---------------------------------------------------------------- the message

    def _message(self, message: _Message) -> None:
        self.begin(message.model or "")
        self._usage(message.usage, begins=True)

    def _usage(self, said: Any, *, begins: bool) -> None:
        self._counts = counts = merged(self._counts, said)
        begins = begins and self._told.source != "reported"
        if (usage := usage_of(counts, begins=begins)) not in (NO_USAGE, self._told):
            self._told = usage
            self.out.append(UsageSeen(usage=usage))

    def _ending(self, event: _Event) -> None:
        self.begin()
        self._usage(event.usage, begins=not tells_output(event.usage))
        delta = event.delta
        if delta is not None and (reason := finish_of(delta.stop_reason)) is not None:
            self._finish = Finish(reason=reason, stop_sequence=delta.stop_sequence)
            self.ending = not self._fickle

    def _stop(self) -> None:
        self.begin()
        for index in list(self._given):
            self._complete(index)
        reason = FinishReason.TOOL_CALLS if self._calls else FinishReason.STOP
        self.out.append(self._finish or Finish(reason=reason))
        self.over = True

    # ---------------------------------------------------------------- blocks

    def _block(self, index: int | None, block: _Block) -> None:
        self.begin()
        if block.type == "tool_use":
            self._call(index, block)
        elif block.type == "redacted_thinking" and _word(block.data):
            self.out.append(RedactedReasoning(data=block.data))
        elif block.type == "text" and _word(block.text):
            self.out.append(TextDelta(text=block.text))
        elif block.type == "thinking":
            self._thought(_word(block.thinking), _word(block.signature))
        elif block.type not in _BLOCKS:
            self._foreign.add(index)

    def _call(self, index: int | None, block: _Block) -> None:
        if not _word(block.name):
            self.fail("the backend sent a tool call without a name", "malformed")
            return
        number = self._calls[index] = self._started
        self._started += 1
        given = arguments_of(block.input) if block.input else ""
        try:
            self._held.add(given, EACH_CALL)
        except BackendError as error:
            self.fail(error.hint, error.code)
            return
        if given:
            self._given[index] = given
        self.out.append(ToolCallStart(index=number, id=call_id_of(block.id) or made_call_id(), name=block.name))

    def _complete(self, index: int | None) -> None:
        given = self._given.pop(index, None)
        if given is not None:
            self._held.let_go(given, 0)
            self.out.append(ToolCallDelta(index=self._calls[index], arguments=given))

    def _delta(self, index: int | None, delta: _Delta) -> None:
        if delta.type not in _READ or index in self._foreign:
            return
        if delta.text:
            if not self.begun:
                self.begin()
            self.out.append(TextDelta(text=delta.text))
        elif delta.partial_json:
            self._arguments(index, delta.partial_json)
        elif delta.thinking or delta.signature:
            self.begin()
            self._thought(delta.thinking, delta.signature)

    def _thought(self, thinking: str | None, signature: str | None) -> None:
        if thinking:
            self.out.append(ReasoningDelta(text=thinking))
        if signature:
            self.out.append(ReasoningSignature(signature=signature))

    def _arguments(self, index: int | None, piece: str) -> None:
        number = self._calls.get(index)
        if number is not None:
            if (given := self._given.pop(index, None)) is not None:
                self._held.let_go(given, 0)
            self.out.append(ToolCallDelta(index=number, arguments=piece))


def _strange(event: dict[str, Any]) -> bool:
    """Whether an event is of a type, or brings a delta of a type, that nobody knows."""
    kind, delta = event.get("type"), event.get("delta")
    if kind not in (*_KNOWN, None, "error"):
        return not event.get("error")
    return kind == "content_block_delta" and isinstance(delta, dict) and delta.get("type") not in _DELTAS


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
