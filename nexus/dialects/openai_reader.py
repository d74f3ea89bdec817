"""Reading one OpenAI reply as it passes: usage, errors, a proper end.  Holding back half events is in `watching`.

On the pass-through path this is the only code that sees every chunk: byte searches, and JSON only on a hit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from nexus.dialects.failures import told_in
from nexus.dialects.jsontext import decoded, is_object, loads
from nexus.dialects.sse import ERROR, Splitter, data_of, events, name_of
from nexus.dialects.watching import BodyReader, EventReader
from nexus.errors import BackendError
from nexus.model import Usage
from nexus.model.quick import maker

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_MOST = 10**12  # tokens; more is no count
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"[^"]')
_NOT_YET = b'"finish_reason":null'  # as most servers write it: counting is quicker than a regular expression
_SAYS = re.compile(rb'(?:content|arguments|text|reasoning|refusal)"\s*:\s*"[^"]')
DONE = b"[DONE]"


def _bare(event: bytes) -> bool:
    return event.startswith(b"error:")


class Chunks(Splitter):
    """Server-sent events, and the line `error: {…}` by which older llama.cpp servers end a stream: one with this name and data."""

    __slots__ = ()

    @staticmethod
    def data_of(event: bytes) -> bytes | None:
        return event[6:].strip() if _bare(event) else data_of(event)

    @staticmethod
    def name_of(event: bytes) -> bytes:
        return ERROR if _bare(event) else name_of(event)


_Count = Annotated[int, msgspec.Meta(ge=0, le=_MOST)]


class _Details(msgspec.Struct):
    cached_tokens: _Count | None = None
    reasoning_tokens: _Count | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: _Count | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")  # a union with None would make msgspec decode the value
    choices: list[msgspec.Raw] | None = None


class _Usual(msgspec.Struct):
    """A whole answer as nearly all servers write it."""

    usage: _Usage | None = None
    choices: list[msgspec.Raw] | None = None


_answer = msgspec.json.Decoder(_Answer)
_usual = msgspec.json.Decoder(_Usual)
_usage = msgspec.json.Decoder(_Usage | None)
_reported = maker(Usage)


class StreamReader(EventReader):
    """A stream of chunks.  Where no usage is reported, output tokens are counted as one for each event with content.

    Only up to the first with content, and from the finish reason on, are events looked at for that: those between have some.
    """

    __slots__ = ("_hide", "_midway")

    framing = Chunks
    end_mark = DONE

    def __init__(self, estimate: int, *, hide_usage: bool) -> None:
        super().__init__(estimate)
        self._hide = hide_usage
        self._midway = False

    def watch(self, ready: bytes) -> bytes:
        if b'"usage"' in ready and _USAGE.search(ready):
            ready = self._take_usage(ready)
        if not self.ended and ready.count(b"finish_reason") > ready.count(_NOT_YET):
            self.ended = _FINISHED.search(ready) is not None
        self.pieces += ready.count(b"data:") if self._midway and not self.ended else self._counted(ready)
        return ready

    def _counted(self, ready: bytes) -> int:
        """The events with content in a block; from the first of them until the stream has ended all count."""
        count = at = 0
        for event in events(ready):
            if self._midway and not self.ended:
                return count + ready.count(b"data:", at)
            at += len(event)
            if _SAYS.search(event):
                count += 1
                self._midway = True
        return count

    def error_in(self, data: bytes) -> str | None:
        return error_in(data)

    def is_last(self, data: bytes) -> bool:
        return self.is_over(data) or (_FINISHED.search(data) is not None and is_object(data))

    def is_over(self, data: bytes) -> bool:
        """After the finish reason there may be usage; a server that never says [DONE] ends with its body."""
        return data.strip() == DONE

    def _take_usage(self, ready: bytes) -> bytes:
        kept = []
        for event in events(ready):
            if _USAGE.search(event) and self._is_usage_event(event) and self._hide:
                continue
            kept.append(event)
        return b"".join(kept)

    def _is_usage_event(self, event: bytes) -> bool:
        """Takes note of the event's usage; True where it carries nothing else."""
        try:
            answer = _answer.decode(data_of(event) or b"")
            self.reported = _usage_in(answer.usage) or self.reported
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return answer.choices == []


class WholeReader(BodyReader):
    """A whole JSON body."""

    __slots__ = ()

    def read(self, body: bytes) -> Usage | None:
        try:
            usual = _usual.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._read_patiently(body)
        return self._read_patiently(body) if usual.choices is None else _usage_from(usual.usage)

    def _read_patiently(self, body: bytes) -> Usage | None:
        try:
            answer = decoded(_answer, body)
            if b'"error"' in body and answer.choices is None and (said := error_in(body)):
                raise BackendError("error_event", said, sent=True)
            return _usage_in(answer.usage)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BackendError("malformed", "the answer is not a JSON object") from None

    def usage_of(self, said: Any) -> Usage | None:
        return usage_of(said)


def _usage_in(raw: msgspec.Raw) -> Usage | None:
    """The usage in its JSON: at one go where it is as OpenAI writes it, else with patience."""
    try:
        return _usage_from(_usage.decode(raw))
    except msgspec.ValidationError:
        return usage_of(msgspec.json.decode(raw))


def _usage_from(usage: _Usage | None) -> Usage | None:
    if usage is None:
        return None
    prompt, output = usage.prompt_tokens or 0, usage.completion_tokens
    if output is None:
        output = max((usage.total_tokens or 0) - prompt, 0)
    told, spent = usage.prompt_tokens_details, usage.completion_tokens_details
    return _reported(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=(told.cached_tokens or 0) if told else 0,
        reasoning_tokens=(spent.reasoning_tokens or 0) if spent else 0,
        source="reported",
    )


def usage_of(usage: Any) -> Usage | None:
    """OpenAI's usage object.  Details are optional everywhere; what is no number counts as absent."""
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens"))
    output = usage.get("completion_tokens")
    if output is None:
        output = max(_count(usage.get("total_tokens")) - prompt, 0)
    return Usage(
        input_tokens=prompt,
        output_tokens=_count(output),
        cached_tokens=_count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=_count(_dict(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        source="reported",
    )


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value <= _MOST else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def error_in(data: bytes) -> str | None:
    """The sentence of an event or a body that is an error; None for any other."""
    if b'error"' not in data and b'"code"' not in data:  # a quote inside a text is escaped
        return None
    try:
        value = loads(data)
    except ValueError:
        return None
    return told_in(value) if is_error(value) else None


def is_error(value: Any) -> bool:
    """Whether it is an error, in the shapes of OpenAI's servers: `error` at the top (OpenRouter's, beside the choices), vLLM's object
    of that name, or what older llama.cpp servers put there bare: a message with its code or type."""
    if not isinstance(value, dict):
        return False
    if value.get("error") or "choices" in value:
        return bool(value.get("error"))
    return value.get("object") == "error" or (isinstance(value.get("message"), str) and _complains(value))


def _complains(value: Mapping[str, Any]) -> bool:
    """Whether a code or a type makes a message an error: progress is told in messages too."""
    code = value.get("code")
    if isinstance(code, str) and code.isdecimal():
        code = int(code)
    return (code >= 400 if isinstance(code, int) else bool(code)) or "error" in str(value.get("type"))
