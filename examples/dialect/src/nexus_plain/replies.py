"""Plain answers and streams, to and from the canonical form."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from nexus.api import BackendError, Usage
from nexus.dialects.canonical import (
    Answer,
    Begin,
    Failure,
    Finish,
    FinishReason,
    ReplyContext,
    StreamDecoder,
    StreamEncoder,
    StreamEvent,
    Text,
    TextDelta,
    UsageSeen,
)
from nexus_plain.wire import Lines, dumps, lines_of, object_in, text_in, tokens_of, usage_in

UNREADABLE = "the backend sent a line that is no JSON object"


def read(body: bytes) -> Answer:
    said = object_in(body)
    if said is None or ("say" not in said and "wrong" not in said):
        raise BackendError("malformed", "the answer is no JSON object with 'say'")
    if "wrong" in said:
        raise BackendError("error_event", text_in(said, "wrong"))
    text = text_in(said, "say")
    return Answer(
        model=text_in(said, "model"),
        parts=(Text(text=text),) if text else (),
        finish=_reason(said),
        usage=usage_in(said) or Usage(),
    )


def write(answer: Answer, context: ReplyContext) -> bytes:
    text = "".join(part.text for part in answer.parts if isinstance(part, Text))
    return dumps({"model": answer.model or context.model, "say": text, **_end(answer.finish, answer.usage)})


def _reason(said: Mapping[str, Any]) -> FinishReason:
    return FinishReason.LENGTH if said.get("why") == "limit" else FinishReason.STOP


def _end(reason: FinishReason | None, usage: Usage) -> dict[str, Any]:
    return {"why": "limit" if reason is FinishReason.LENGTH else "end", "tokens": tokens_of(usage)}


class Decoder(StreamDecoder):
    """A plain server's stream.  What follows its last line, or an error, is not looked at."""

    def __init__(self) -> None:
        self._lines = Lines()
        self._begun = False
        self._over = False

    def feed(self, data: bytes) -> list[StreamEvent]:
        return [event for line in lines_of(self._lines.feed(data)) for event in self._events(line)]

    def finish(self) -> list[StreamEvent]:
        rest = self._lines.rest()
        events = list(self._events(rest)) if object_in(rest) is not None else []  # half a line is none
        if not self._over:
            raise BackendError("cut", "the stream ended without its last line")
        return events

    def _events(self, line: bytes) -> Iterator[StreamEvent]:
        if self._over:
            return
        said = object_in(line)
        if said is None or "wrong" in said:
            self._over = True
            yield Failure(message=UNREADABLE, code="malformed") if said is None else Failure(message=text_in(said, "wrong"))
            return
        if not self._begun:
            self._begun = True
            yield Begin(model=text_in(said, "model"))
        if text := text_in(said, "say"):
            yield TextDelta(text=text)
        if said.get("done") is True:
            self._over = True
            yield Finish(reason=_reason(said))
            if usage := usage_in(said):
                yield UsageSeen(usage=usage)


class Encoder(StreamEncoder):
    """A plain client's stream.  Why it ended and what it cost is said in the last line."""

    def __init__(self) -> None:
        self._reason: FinishReason | None = None
        self._usage = Usage()

    def encode(self, event: StreamEvent) -> bytes:
        if isinstance(event, TextDelta):
            return dumps({"say": event.text}) + b"\n"
        if isinstance(event, Finish):
            self._reason = event.reason
        elif isinstance(event, UsageSeen):
            self._usage = event.usage
        return b""  # a plain client names no tools, and has no place for what the model thought

    def finish(self) -> bytes:
        return dumps({"done": True, **_end(self._reason, self._usage)}) + b"\n"
