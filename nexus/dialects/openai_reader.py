"""Reading one OpenAI reply as it passes: boundaries, usage, a first event that is an error, a proper end.

On the pass-through path this is the only code that sees every chunk: byte searches, and JSON only on a hit.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from nexus.api import Reader
from nexus.dialects.sse import Splitter, data_of, events
from nexus.errors import BackendError
from nexus.model import Usage

_USAGE = re.compile(rb'"usage"\s*:\s*\{')
_FINISHED = re.compile(rb'"finish_reason"\s*:\s*"')
_WHOLE_KEPT = 1024 * 1024
_TAIL = 8192  # enough for an event that is an error
_decoder = json.JSONDecoder()


class _Details(msgspec.Struct):
    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None


class _Answer(msgspec.Struct):
    usage: msgspec.Raw = msgspec.Raw(b"null")  # a union with None would make msgspec decode the value
    choices: list[msgspec.Raw] | None = None


_answer = msgspec.json.Decoder(_Answer)
_usage = msgspec.json.Decoder(_Usage | None)


class StreamReader(Reader):
    """A stream of chunks.  Where no usage is reported, output tokens are counted as one for each event with content."""

    __slots__ = ("_ended", "_estimate", "_events", "_hide", "_last", "_split", "_usage", "begun", "error")

    def __init__(self, estimate: int, *, hide_usage: bool) -> None:
        self.begun = False
        self.error: str | None = None
        self._split = Splitter()
        self._estimate = estimate
        self._hide = hide_usage
        self._usage: Usage | None = None
        self._events = 0
        self._last = b""
        self._ended = False

    def feed(self, data: bytes) -> bytes:
        ready = self._split.feed(data)
        if not ready:
            return ready
        if not self.begun:
            self._first(ready)
        if b'"usage"' in ready and _USAGE.search(ready):
            ready = self._take_usage(ready)
        self._events += ready.count(b"data:")
        self._ended = self._ended or b"[DONE]" in ready or (b"finish_reason" in ready and _FINISHED.search(ready) is not None)
        self._last = (
            ready[-_TAIL:] if b'"error"' in ready else b""
        )  # thousands of streams may be open: keep only what may be asked for
        return ready

    def finish(self) -> bytes:
        rest, self._split.held = self._split.held, b""
        if rest.strip():
            if not _is_last(rest):
                raise BackendError("cut", "the stream ended in the middle of an event")
            return rest + b"\n\n"
        if self._ended:
            return b""
        for event in events(self._last):
            if error_in(data_of(event)):
                raise BackendError("error_event", "the backend ended the stream with an error")
        raise BackendError("cut", "the stream ended without its last event")

    def usage(self) -> Usage:
        if self._usage is not None:
            return self._usage
        if not self.begun:
            return Usage()
        return Usage(input_tokens=self._estimate, output_tokens=max(self._events - 2, 0), source="counted")

    def _first(self, ready: bytes) -> None:
        for event in events(ready):
            data = data_of(event)
            if data is None and event.startswith(b"error:"):  # older llama.cpp
                data = event[6:]
            if data is not None:
                self.begun = True
                self.error = error_in(data)
                return

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
            self._usage = _usage_in(answer.usage) or self._usage
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return False
        return answer.choices == []


class WholeReader(Reader):
    """A whole JSON body."""

    __slots__ = ("_estimate", "_kept", "_size", "_usage", "begun", "error")

    def __init__(self, estimate: int) -> None:
        self.begun = False
        self.error: str | None = None
        self._estimate = estimate
        self._kept = b""
        self._size = 0
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> bytes:
        self.begun = True
        self._size += len(data)
        self._kept = (self._kept + data)[-_WHOLE_KEPT:] if self._kept else data
        return data

    def finish(self) -> bytes:
        self._usage = self._reported()
        return b""

    def usage(self) -> Usage:
        if self._usage is not None:
            return self._usage
        if not self.begun:
            return Usage()
        return Usage(input_tokens=self._estimate, output_tokens=self._size // 8, source="counted")

    def _reported(self) -> Usage | None:
        if len(self._kept) < self._size:
            return self._in_tail()
        try:
            answer = _answer.decode(self._kept)
            if b'"error"' in self._kept and answer.choices is None and (said := error_in(self._kept)):
                raise BackendError("error_event", said, sent=True)
            return _usage_in(answer.usage)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise BackendError("malformed", "the answer is not a JSON object") from None

    def _in_tail(self) -> Usage | None:
        found = list(_USAGE.finditer(self._kept))
        if not found:
            return None
        try:
            usage, _ = _decoder.raw_decode(self._kept[found[-1].end() - 1 :].decode("utf-8", "replace"))
        except (ValueError, RecursionError):
            return None
        return usage_of(usage)


def _is_last(rest: bytes) -> bool:
    """Whether these bytes are a whole last event that only lacks its boundary."""
    data = data_of(rest)
    if data is None or not (data.strip() == b"[DONE]" or _FINISHED.search(data)):
        return False
    try:
        return data.strip() == b"[DONE]" or isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _usage_in(raw: msgspec.Raw) -> Usage | None:
    """The usage in its JSON: at one go where it is as OpenAI writes it, else with patience."""
    try:
        usage = _usage.decode(raw)
    except msgspec.ValidationError:
        return usage_of(msgspec.json.decode(raw))
    if usage is None:
        return None
    prompt, output = usage.prompt_tokens or 0, usage.completion_tokens
    if output is None:
        output = max((usage.total_tokens or 0) - prompt, 0)
    if prompt < 0 or output < 0:
        return usage_of(msgspec.json.decode(raw))
    told, spent = usage.prompt_tokens_details, usage.completion_tokens_details
    return Usage(
        input_tokens=prompt,
        output_tokens=output,
        cached_tokens=max(told.cached_tokens or 0, 0) if told else 0,
        reasoning_tokens=max(spent.reasoning_tokens or 0, 0) if spent else 0,
        source="reported",
    )


def usage_of(usage: Any) -> Usage | None:
    """OpenAI's usage object.  Details are optional everywhere; what is no number counts as absent."""
    if not isinstance(usage, dict):
        return None
    prompt = _count(usage.get("prompt_tokens"))
    output = usage.get("completion_tokens")
    if output is None and isinstance(usage.get("total_tokens"), int):
        output = max(usage["total_tokens"] - prompt, 0)
    return Usage(
        input_tokens=prompt,
        output_tokens=_count(output),
        cached_tokens=_count(_dict(usage.get("prompt_tokens_details")).get("cached_tokens")),
        reasoning_tokens=_count(_dict(usage.get("completion_tokens_details")).get("reasoning_tokens")),
        source="reported",
    )


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and value > 0 else 0


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def error_in(data: bytes | None) -> str | None:
    """The sentence of an event that is an error; None for any other event."""
    if data is None or b'"error"' not in data:
        return None if data is None or not data.lstrip().startswith(b'{"code"') else data[:300].decode("utf-8", "replace")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict) or value.get("choices"):
        return None
    error = value.get("error") or (value if value.get("object") == "error" else None)
    if not error:
        return None
    message = error.get("message") if isinstance(error, dict) else error
    return str(message or "the backend answered with an error event")[:500]
