"""The canonical events written as one Anthropic stream.  Whole messages are in `answers`.

Blocks come one after another: started, filled, stopped.  Where a server mixes its tool calls, a call waits until the one
before it is complete.  Bytes are put together around the one value that changes, which saves half a microsecond an event.
"""

from __future__ import annotations

from typing import Any

from nexus.api import BackendError, Usage
from nexus.dialects.arguments import Arguments
from nexus.dialects.canonical import (
    Begin,
    Finish,
    FinishReason,
    ReasoningDelta,
    ReasoningSignature,
    RedactedReasoning,
    RefusalDelta,
    ReplyContext,
    StreamEncoder,
    StreamEvent,
    TextDelta,
    ToolCallDelta,
    ToolCallStart,
    UsageSeen,
)
from nexus.dialects.held import Held
from nexus.dialects.jsontext import dumps, object_of, why_no_object
from nexus.model import NO_USAGE
from nexus_anthropic.answers import BAD_ARGUMENTS
from nexus_anthropic.usage import usage_object
from nexus_anthropic.waiting import Waiting
from nexus_anthropic.words import stop_reason

_START = b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,"content_block":%b}\n\n'
_STOP = b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":{"type":"'
_TEXT = b'{"type":"text","text":""}'
_THINKING = b'{"type":"thinking","thinking":"","signature":""}'
_LAST = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
TEXT, THINKING, REFUSAL = "text", "thinking", "refusal"


class Encoder(StreamEncoder):
    """One stream of one message."""

    __slots__ = (
        "_arguments", "_called", "_context", "_deltas", "_finish", "_head", "_held", "_index", "_open", "_usage", "_waiting",
    )  # fmt: skip

    def __init__(self, context: ReplyContext) -> None:
        self._context = context
        self._index = -1  # of the block that is open, or was last
        self._open: str | ToolCallStart | None = None
        self._head = b""  # of every delta of the open block
        self._held = Held()
        self._arguments = Arguments(self._held)  # of the open call
        self._waiting = Waiting(self._held)
        self._called = False
        self._deltas = 0
        self._finish: Finish | None = None
        self._usage: Usage = NO_USAGE

    def encode(self, event: StreamEvent) -> bytes:
        if self._waiting and not isinstance(event, Begin | Finish | UsageSeen):
            return self._late(event)
        if type(event) is TextDelta:
            if self._open != TEXT:
                return self._change(event, TEXT, _TEXT, event.text, b'text_delta","text":')
            self._deltas += 1
            return b'%btext_delta","text":%b}}\n\n' % (self._head, dumps(event.text))
        if isinstance(event, ToolCallDelta):
            return self._piece(event)
        if isinstance(event, ReasoningDelta):
            if self._open != THINKING:
                return self._change(event, THINKING, _THINKING, event.text, b'thinking_delta","thinking":')
            self._deltas += 1
            return b'%bthinking_delta","thinking":%b}}\n\n' % (self._head, dumps(event.text))
        return self._rare(event)

    def finish(self) -> bytes:
        """Raises BackendError("malformed") where a call's arguments are no JSON object and nothing says that they were cut."""
        said = [self._released(ended=True), self._closed()]
        if self._index < 0:  # clients that see no block take the stream for a broken one
            said.append(self._begun(_TEXT, TEXT) + self._closed())
        finish = self._finish.reason if self._finish else None
        delta = {
            "stop_reason": stop_reason(finish, called=self._called),
            "stop_sequence": self._finish.stop_sequence if self._finish else None,
        }
        usage = self._usage
        if usage.source == "unknown":
            usage = Usage(input_tokens=self._context.input_estimate, output_tokens=self._deltas, source="counted")
        ended = dumps({"type": "message_delta", "delta": delta, "usage": usage_object(usage)})
        return b"".join(said) + b"event: message_delta\ndata: " + ended + b"\n\n" + _LAST

    # ---------------------------------------------------------------- the rarer events

    def _rare(self, event: StreamEvent) -> bytes:
        if isinstance(event, ToolCallStart):
            return self._call(event)
        if isinstance(event, Begin):
            return self._message(event)
        if isinstance(event, Finish):
            self._finish = event
        elif isinstance(event, UsageSeen):
            self._usage = event.usage
        elif isinstance(event, RefusalDelta) and self._open == REFUSAL:
            self._deltas += 1
            return b'%btext_delta","text":%b}}\n\n' % (self._head, dumps(event.text))
        elif isinstance(event, RefusalDelta):  # words in a block of their own
            return self._change(event, REFUSAL, _TEXT, event.text, b'text_delta","text":')
        elif self._must_wait():
            self._waiting.put(event)
        elif isinstance(event, ReasoningSignature):
            return self._signature(event)
        elif isinstance(event, RedactedReasoning):
            block = dumps({"type": "redacted_thinking", "data": event.data})
            return self._closed() + self._begun(block, "redacted") + self._closed()
        return b""

    def _message(self, event: Begin) -> bytes:
        usage = Usage(input_tokens=self._context.input_estimate)
        message: dict[str, Any] = {
            "id": f"msg_{self._context.id}",
            "type": "message",
            "role": "assistant",
            "model": event.model or self._context.model,
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": usage_object(usage),
        }
        return b"event: message_start\ndata: " + dumps({"type": "message_start", "message": message}) + b"\n\n"

    def _signature(self, event: ReasoningSignature) -> bytes:
        """It ends its block; thinking that the model does not show is a signature alone."""
        opened = b"" if self._open == THINKING else self._closed() + self._begun(_THINKING, THINKING)
        return opened + b'%bsignature_delta","signature":%b}}\n\n' % (self._head, dumps(event.signature)) + self._closed()

    # ---------------------------------------------------------------- blocks

    def _begun(self, block: bytes, kind: str | ToolCallStart) -> bytes:
        self._index += 1
        self._open = kind
        self._head = _DELTA % self._index
        return _START % (self._index, block)

    def _closed(self) -> bytes:
        if self._open is None:
            return b""
        if isinstance(self._open, ToolCallStart):
            self._check(self._open)
        self._open = None
        return _STOP % self._index

    def _change(self, event: StreamEvent, kind: str, block: bytes, text: str, delta: bytes) -> bytes:
        """The first piece of a block of another kind."""
        if self._must_wait():
            self._waiting.put(event)
            return b""
        self._deltas += 1
        return self._closed() + self._begun(block, kind) + self._head + delta + dumps(text) + b"}}\n\n"

    # ---------------------------------------------------------------- tool calls

    def _call(self, event: ToolCallStart) -> bytes:
        if self._must_wait():
            self._waiting.put(event)
            return b""
        self._called = True
        closed = self._closed()
        self._arguments.let_go()
        self._arguments = Arguments(self._held)
        return closed + self._begun(dumps({"type": "tool_use", "id": event.id, "name": event.name, "input": {}}), event)

    def _piece(self, event: ToolCallDelta) -> bytes:
        if not isinstance(self._open, ToolCallStart) or self._open.index != event.index:
            return self._stray(event)
        self._arguments.add(event.arguments)
        self._deltas += 1
        return b'%binput_json_delta","partial_json":%b}}\n\n' % (self._head, dumps(event.arguments))

    def _stray(self, event: ToolCallDelta) -> bytes:
        """A piece for a call that was complete and is closed: only blanks can follow a JSON object."""
        if event.arguments.strip():
            raise BackendError("malformed", "a tool call went on after its arguments were complete")
        return b""

    def _must_wait(self) -> bool:
        """Whether the open block is a call whose arguments may still go on."""
        return isinstance(self._open, ToolCallStart) and not self._arguments.complete

    def _check(self, call: ToolCallStart) -> None:
        cut = self._finish is not None and self._finish.reason is FinishReason.LENGTH
        if not cut and object_of(self._arguments.text) is None:
            raise BackendError("malformed", BAD_ARGUMENTS.format(call.name, why_no_object(self._arguments.text)))

    # ---------------------------------------------------------------- waiting

    def _late(self, event: StreamEvent) -> bytes:
        """Something while others wait for the open call: its own pieces go out, and may complete it."""
        assert isinstance(self._open, ToolCallStart)
        if not isinstance(event, ToolCallDelta) or event.index != self._open.index:
            self._waiting.put(event)
            return b""
        return self._piece(event) + self._released()

    def _released(self, *, ended: bool = False) -> bytes:
        """What waited, up to a call that may go on; where the stream has `ended` none can, and all of it is written."""
        waiting, self._waiting = self._waiting, Waiting(self._held)  # what is written now waits for nothing
        out = []
        while waiting and (ended or not self._must_wait()):
            if isinstance(self._open, ToolCallStart):
                out.append(self._closed())
            out += [self.encode(event) for event in waiting.take()]
        self._waiting = waiting
        return b"".join(out)
