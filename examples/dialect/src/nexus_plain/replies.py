"""Plain answers and streams, to and from the canonical form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nexus.api import BackendError, Usage
from nexus.dialects.canonical import (
    Answer,
    Finish,
    FinishReason,
    Loss,
    Losses,
    Reasoning,
    ReplyContext,
    StreamEncoder,
    StreamEvent,
    Text,
    TextDelta,
    UsageSeen,
)
from nexus.dialects.decoding import EventDecoder
from nexus.dialects.lines import Lines
from nexus_plain.wire import dumps, object_in, text_in, tokens_of, usage_in

UNREADABLE = "the backend sent a line that is no JSON object"


def read(body: bytes) -> tuple[Answer, Losses]:
    said = object_in(body)
    if said is None or ("say" not in said and "wrong" not in said):
        raise BackendError("malformed", "the answer is no JSON object with 'say'")
    if "wrong" in said:
        raise BackendError("error_event", text_in(said, "wrong"))
    text = text_in(said, "say")
    answer = Answer(
        model=text_in(said, "model"),
        parts=(Text(text=text),) if text else (),
        finish=_reason(said),
        usage=usage_in(said) or Usage(),
    )
    return answer, ()


def write(answer: Answer, context: ReplyContext) -> tuple[bytes, Losses]:
    text = "".join(part.text for part in answer.parts if isinstance(part, Text))
    body = dumps({"model": answer.model or context.model, "say": text, **_end(answer.finish, answer.usage)})
    thought = any(isinstance(part, Reasoning) for part in answer.parts)
    return body, (Loss(what="thinking"),) if thought else ()


def _reason(said: Mapping[str, Any]) -> FinishReason:
    return FinishReason.LENGTH if said.get("why") == "limit" else FinishReason.STOP


def _end(reason: FinishReason | None, usage: Usage) -> dict[str, Any]:
    return {"why": "limit" if reason is FinishReason.LENGTH else "end", "tokens": tokens_of(usage)}


class Decoder(EventDecoder):
    """A plain server's stream.  What follows its last line, or an error, is not looked at."""

    framing = Lines

    def take(self, event: bytes) -> None:
        if not event.strip():
            return
        said = object_in(event)
        if said is None:
            self.fail(UNREADABLE, "malformed")
        elif "wrong" in said:
            self.fail(text_in(said, "wrong"))
        else:
            self._say(said)

    def _say(self, said: Mapping[str, Any]) -> None:
        self.begin(model=text_in(said, "model"))
        if text := text_in(said, "say"):
            self.out.append(TextDelta(text=text))
        if said.get("done") is True:
            self.over = True
            self.out.append(Finish(reason=_reason(said)))
            if usage := usage_in(said):
                self.out.append(UsageSeen(usage=usage))


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
