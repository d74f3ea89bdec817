"""How a dialect says the scenarios: one table for each dialect.  Running them is `cells`'; no dialect's words live here."""

from __future__ import annotations

import abc
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import attrs

from nexus.dialects.canonical import Answer, Part, Reasoning, Text, ToolCall
from nexus.testing.conformance.scenarios import SCENARIOS, Scenario

JSON = Mapping[str, Any]
COMMENT = b": a comment\n\n"
_SMILE = re.compile(rb'"([^"\\]*)%b([^"\\]*)"' % "😀".encode())


def _words(words: Iterable[str]) -> frozenset[str]:
    return frozenset(words)


@attrs.frozen(kw_only=True)
class Exchange:
    """One scenario in a dialect's words.

    `request` is what a client sends, without what makes it a stream; None where the dialect's clients cannot say it.  `omits` is
    what of the scenario it leaves out, in the words in which that would be lost.

    `arrives` is what the dialect's servers get from clients of another dialect, where that is another body.  `lost` are the words
    that `X-Nexus-Translation-Loss` names then; with `refused` they change the meaning, and the client gets a 400 that names them.
    With `poorer` both hold only for clients that omit something.

    `reply` is the server's whole answer, `frames` are the events of its stream, each with its boundary.  `drops` is what of the
    answer the dialect has no place for, in the words in which that is lost.
    """

    request: JSON | None = None
    omits: frozenset[str] = attrs.field(default=(), converter=_words)
    arrives: JSON | None = None
    lost: frozenset[str] = attrs.field(default=(), converter=_words)
    refused: bool = False
    poorer: bool = False
    reply: JSON = attrs.field(factory=dict)
    frames: Sequence[bytes] = ()
    drops: frozenset[str] = attrs.field(default=(), converter=_words)

    def arriving(self, omits: frozenset[str]) -> JSON | None:
        """The body that the dialect's server gets from a client of another dialect that leaves `omits` out."""
        return self.request if self.arrives is None or (self.poorer and not omits) else self.arrives

    def losing(self, omits: frozenset[str]) -> frozenset[str]:
        """What is named as lost to such a client: nothing that it has not said."""
        return frozenset() if self.poorer and not omits else self.lost - omits


class GoldenTable(abc.ABC):
    """All that the suite knows of one dialect.

    `dialect` is its registered name, `path` where a chat is asked for.  `headers` and `query` are what its clients send beside, and what
    its servers get from them: a server of another dialect gets nothing of it.  `credentials` are headers that no server gets, `wants`
    are names of headers that every request to its servers must have.

    `home` says whether the servers that the table describes run models themselves.  `stream_type` is the content type of its streams,
    `spare` how many of a stream's last events may be missing without the answer being cut, `keeps_alive` whether its clients can be
    told to wait.

    The readers are the suite's own eyes: they are written from the dialect's documentation and do not use its code.  They raise
    ValueError, which says what a strict client would not take: a missing field, events out of order.
    """

    dialect: str
    path: str
    headers: Mapping[str, str] = {}
    query: str = ""
    credentials: Mapping[str, str] = {}
    wants: frozenset[str] = frozenset()
    keeps_alive: bool = True
    stream_type: str = "text/event-stream"
    spare: int = 0
    home: bool = True

    @abc.abstractmethod
    def exchange(self, scenario: Scenario) -> Exchange:
        """The scenario in this dialect's words: the request under `scenario.request`, the stream in `scenario.manner`."""

    @abc.abstractmethod
    def streaming(self, request: JSON) -> JSON:
        """The request as one for a stream with its usage."""

    @abc.abstractmethod
    def begun(self, text: str) -> tuple[bytes, ...]:
        """The events of a stream up to this text, which is not the last of it."""

    @abc.abstractmethod
    def whole(self, body: bytes) -> Answer:
        """What a whole reply says, its `model` left out."""

    @abc.abstractmethod
    def streamed(self, body: bytes) -> Answer:
        """What a complete stream says."""

    @abc.abstractmethod
    def broken(self, body: bytes) -> tuple[str, str]:
        """The text that a stream said before its error event, and the error's sentence.  Raises ValueError where the stream looks
        like one that ended properly."""

    @abc.abstractmethod
    def error(self, status: int, body: bytes) -> str:
        """The sentence of an error with this status.  Raises ValueError for a type that does not go with it."""

    @abc.abstractmethod
    def error_body(self, status: int, message: str) -> bytes:
        """What a server of the dialect answers with this status."""

    @abc.abstractmethod
    def error_event(self, message: str) -> bytes:
        """How a server of the dialect breaks a stream off."""

    def named_error(self, message: str) -> bytes | None:
        """An error that only its name tells from other events; None for streams whose events have no names."""
        if self.stream_type != "text/event-stream":
            return None
        return b"event: error\ndata: " + json.dumps({"message": message}).encode() + b"\n\n"

    def sayable(self, answer: Answer) -> Answer:
        """The part of an answer that this dialect has a place for."""
        return answer

    @property
    def simplest(self) -> JSON:
        """A request that every server takes."""
        request = self.exchange(SCENARIOS[0]).request
        assert request is not None, "every client can say the first scenario"
        return request

    def bytes_of(self, request: JSON, *, stream: bool) -> bytes:
        """The request as it leaves a client."""
        body = self.streaming(request) if stream else request
        return json.dumps(body, ensure_ascii=False, indent=1).encode()

    def reply_bytes(self, exchange: Exchange) -> bytes:
        """The whole reply as it leaves a server."""
        return json.dumps(exchange.reply, ensure_ascii=False, indent=1).encode()


def sse_events(body: bytes) -> list[tuple[str | None, str]]:
    """The name and the data of every server-sent event; comments are left out.  Raises ValueError where the stream ends within an
    event or holds a line that is none, or a comment that a client is known to take for the end."""
    text = body.decode()
    if text and not text.endswith("\n\n"):
        raise ValueError(f"the stream ends within an event: {text[-60:]!r}")
    return [event for block in text.split("\n\n")[:-1] if (event := _event(block)) is not None]


def with_marks(frames: Iterable[bytes], *marks: bytes) -> Iterator[bytes]:
    """The events of a stream with marks that clients pass over before and between them; before the first only the first mark."""
    before: tuple[bytes, ...] = marks[:1]
    for frame in frames:
        yield from before
        yield frame
        before = marks


def with_halves(frames: Iterable[bytes]) -> Iterator[bytes]:
    """The events of a stream, each that says 😀 in two: the first ends with one half of it, the second begins with the other."""
    for frame in frames:
        found = _SMILE.search(frame)
        if found is None:
            yield frame
            continue
        yield frame[: found.start()] + b'"%b\\ud83d"' % found[1] + frame[found.end() :]
        yield frame[: found.start()] + b'"\\ude00%b"' % found[2] + frame[found.end() :]


def with_strangers(frames: Sequence[bytes], strangers: Sequence[bytes]) -> Iterator[bytes]:
    """The events of a stream with others in its middle."""
    middle = len(frames) // 2
    yield from (*frames[:middle], *strangers, *frames[middle:])


def _event(block: str) -> tuple[str | None, str] | None:
    name, data = None, []
    for line in block.split("\n"):
        need(not line.startswith(": ping"), "a comment that Continue's reader takes for the end of the stream: ': ping'")
        field, colon, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "data":
            data.append(value)
        elif field or not colon:
            raise ValueError(f"a line that is no part of an event: {line[:80]!r}")
    return (name, "\n".join(data)) if data or name else None


def need(holds: object, what: str) -> None:
    """Raise ValueError that says `what` is not as a client needs it."""
    if not holds:
        raise ValueError(what)


def merged(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbouring pieces of text made one; nothing that is empty; arguments as compact JSON."""
    made: list[Part] = []
    for part in parts:
        if isinstance(part, Text) and made and isinstance(made[-1], Text):
            made[-1] = Text(text=made[-1].text + part.text)
        elif isinstance(part, ToolCall):
            made.append(attrs.evolve(part, arguments=compact(part.arguments)))
        elif (
            not isinstance(part, Text | Reasoning)
            or part.text
            or (isinstance(part, Reasoning) and (part.signature or part.redacted))
        ):
            made.append(part)
    return tuple(made)


def compact(arguments: str) -> str:
    """The same JSON without blanks.  Raises ValueError for what is no JSON object."""
    value = json.loads(arguments)
    need(isinstance(value, dict), f"arguments that are no JSON object: {arguments!r}")
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
