"""What every dialect promises: the same bytes however the reply is cut into pieces, errors in its own shape, and changes
that touch nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs
import pytest

from nexus.api import (
    BackendError,
    Dialect,
    DialectKind,
    Endpoint,
    Facts,
    ModelEntry,
    Payload,
    Problem,
    Reader,
    Splice,
    Usage,
    replace,
)
from nexus.dialects.members import members_of
from nexus.testing.contracts.opening import opened

MALFORMED = (b"", b"{", b"null", b"[]", b'"text"', b"7", b"{}", b'{"model": 7}', b"\xff\xfe", b"[" * 100_000, b'{"model":' * 50_000)

PROBLEM = Problem(503, "no_backend", 'no "backend" is up:\n\tstart one — né?', retry_after=3)


@attrs.frozen(kw_only=True)
class Golden:
    """One exchange as it was recorded, and what must come of it.

    `request` goes to `path`; `wire` is the backend's answer; `out` what the client gets (default: the same bytes).
    `hide_usage` takes out the usage event that Nexus asked for.  `spare` is how many of a stream's last events may be missing
    without the answer being cut.
    """

    path: str
    request: bytes
    wire: bytes
    usage: Usage
    out: bytes | None = None
    hide_usage: bool = False
    spare: int = 0

    @property
    def expected(self) -> bytes:
        return self.wire if self.out is None else self.out


class DialectContract:
    """Subclass it, name `kind` and `goldens`; at least one golden must be a stream.

    `malformed` are further bodies that must be refused.  `frames(wire)` cuts a stream into its events; the default is
    server-sent events.
    """

    kind: DialectKind
    goldens: tuple[Golden, ...]
    malformed: tuple[bytes, ...] = ()
    options: Any = None

    def opened(self) -> AbstractAsyncContextManager[Dialect]:
        return opened(self.kind, self.options)

    def frames(self, wire: bytes) -> list[bytes]:
        """The events of a stream, each with its boundary."""
        return [frame + b"\n\n" for frame in wire.split(b"\n\n") if frame]

    def every(self, dialect: Dialect) -> Iterator[tuple[Golden, Endpoint, Facts]]:
        """Every golden exchange, with its endpoint and the facts of its request."""
        assert self.goldens, "a dialect without a recorded exchange cannot be checked"
        for golden in self.goldens:
            endpoint = endpoint_of(dialect, golden.path)
            yield golden, endpoint, dialect.decode(endpoint, Payload(golden.request))

    # ---- replies

    @pytest.mark.asyncio
    async def test_a_reply_reads_the_same_wherever_it_is_split(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self.every(dialect):
                for border in range(len(golden.wire) + 1):
                    reader = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage)
                    out = reader.feed(golden.wire[:border]) + reader.feed(golden.wire[border:]) + reader.finish()
                    assert (out, reader.usage()) == (golden.expected, golden.usage), f"split after {border} bytes"

    @pytest.mark.asyncio
    async def test_a_reply_reads_the_same_byte_by_byte(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self.every(dialect):
                reader = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage)
                out = b"".join(reader.feed(golden.wire[i : i + 1]) for i in range(len(golden.wire))) + reader.finish()
                assert (out, reader.usage()) == (golden.expected, golden.usage)
                assert reader.begun
                assert reader.error is None

    @pytest.mark.asyncio
    async def test_only_whole_events_are_passed_on(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self._streams(dialect):
                borders = _borders(self.frames(golden.expected))
                for cut in range(len(golden.wire) + 1):
                    out = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage).feed(golden.wire[:cut])
                    assert len(out) in borders, f"part of an event was passed on after {cut} bytes: {out[-80:]!r}"
                    assert golden.expected.startswith(out)

    @pytest.mark.asyncio
    async def test_a_stream_that_is_cut_looks_cut(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self._streams(dialect):
                frames = self.frames(golden.wire)
                needed = len(b"".join(frames[: len(frames) - golden.spare]).rstrip())
                for cut in range(needed):
                    reader = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage)
                    assert finishes(reader, golden.wire[:cut]) is None, f"cut after {cut} bytes, and nobody would know"

    @pytest.mark.asyncio
    async def test_a_cut_behind_the_last_needed_event_passes_on_whole_events(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self._streams(dialect):
                whole = [frame.strip() for frame in self.frames(golden.expected)]
                for cut in range(len(golden.wire)):
                    out = finishes(dialect.reader(endpoint, facts, hide_usage=golden.hide_usage), golden.wire[:cut])
                    frames = [frame.strip() for frame in self.frames(out or b"") if frame.strip()]
                    assert frames == whole[: len(frames)], f"cut after {cut} bytes"

    def _streams(self, dialect: Dialect) -> Iterator[tuple[Golden, Endpoint, Facts]]:
        streams = [each for each in self.every(dialect) if each[2].stream]
        assert streams, "at least one golden must be a stream"
        yield from streams

    # ---- requests

    @pytest.mark.asyncio
    async def test_decode_refuses_what_is_malformed(self) -> None:
        async with self.opened() as dialect:
            for endpoint in dialect.endpoints:
                for body in MALFORMED + self.malformed:
                    with pytest.raises(Problem) as caught:
                        dialect.decode(endpoint, Payload(body))
                    assert caught.value.status == 400, f"{endpoint.path} {body[:40]!r}"
                    assert caught.value.message

    @pytest.mark.asyncio
    async def test_decode_bounds_the_prompt(self) -> None:
        async with self.opened() as dialect:
            for _, endpoint, facts in self.every(dialect):
                assert endpoint.task
                assert facts.model
                assert 0 <= facts.tokens_low <= facts.tokens_high

    @pytest.mark.asyncio
    async def test_splice_changes_nothing_else(self) -> None:
        """Fields at the top are the same, with the same values byte for byte; white space between them may go."""
        async with self.opened() as dialect:
            for golden, endpoint, facts in self.every(dialect):
                renamed = dialect.splice(endpoint, golden.request, Splice(model='other/"model":é'))
                read = dialect.decode(endpoint, Payload(renamed))
                assert read == replace(facts, model='other/"model":é', unambiguous=read.unambiguous)
                assert members_of(dialect.splice(endpoint, renamed, Splice(model=facts.model))) == members_of(golden.request)
                assert members_of(dialect.splice(endpoint, golden.request, Splice())) == members_of(golden.request)

    @pytest.mark.asyncio
    async def test_what_was_judged_is_what_leaves(self) -> None:
        """A field that is there twice, or spelt with escapes, is read by some servers and not by others: none leaves."""
        async with self.opened() as dialect:
            for golden, endpoint, _ in self.every(dialect):
                body = golden.request.rstrip()[:-1]
                for more in (b',"odd":1,"odd":2}', b',"o\\u0064d":1}'):
                    try:
                        facts = dialect.decode(endpoint, Payload(body + more))
                    except Problem:  # a dialect may know all its fields
                        continue
                    assert not facts.unambiguous, "`unambiguous` is for bodies that every server reads in one way"
                    assert dialect.splice(endpoint, body + more, Splice()).count(b'"odd"') == 1

    @pytest.mark.asyncio
    async def test_asking_for_usage_changes_nothing_else(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self._streams(dialect):
                asking = dialect.splice(endpoint, golden.request, Splice(ask_usage=True))
                read, other = dialect.decode(endpoint, Payload(asking)), {"wants_usage": False, "unambiguous": False}
                assert replace(read, **other) == replace(facts, **other)
                before, after = json.loads(golden.request), json.loads(asking)
                assert {name: value for name, value in after.items() if name in before and name != "stream_options"} == {
                    name: value for name, value in before.items() if name != "stream_options"
                }

    # ---- errors and lists

    @pytest.mark.asyncio
    async def test_an_error_is_json_with_the_message(self) -> None:
        async with self.opened() as dialect:
            body = dialect.error(PROBLEM, "req-1")
            assert PROBLEM.message in list(strings(json.loads(body)))
            assert PROBLEM.message in dialect.read_error(body)

    @pytest.mark.asyncio
    async def test_read_error_takes_anything(self) -> None:
        async with self.opened() as dialect:
            for body in (*MALFORMED, b"<html>502 Bad Gateway</html>", b'{"error": 7}', b'{"error": {"message": null}}'):
                assert isinstance(dialect.read_error(body), str)

    @pytest.mark.asyncio
    async def test_an_error_event_is_read_as_an_error(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self._streams(dialect):
                reader = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage)
                event = dialect.error_event(PROBLEM, "req-1")
                assert reader.feed(event) == event
                assert reader.begun
                assert PROBLEM.message in (reader.error or "")

    @pytest.mark.asyncio
    async def test_nothing_is_passed_on_after_an_error_event(self) -> None:
        async with self.opened() as dialect:
            event = dialect.error_event(PROBLEM, "req-1")
            for golden, endpoint, facts in self._streams(dialect):
                frames = self.frames(golden.wire)
                for place in range(1, len(frames) - golden.spare):
                    reader = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage)
                    wire = b"".join([*frames[:place], event, *frames[place:]])
                    out = reader.feed(wire) + reader.feed(golden.wire)
                    assert out.endswith(event), "the error is passed on, and nothing after it"
                    assert reader.over, "nobody waits for more"
                    with pytest.raises(BackendError) as caught:
                        reader.finish()
                    assert caught.value.code == "error_event", "the client has been told: nobody tells it again"

    @pytest.mark.asyncio
    async def test_the_keepalive_begins_nothing(self) -> None:
        async with self.opened() as dialect:
            for golden, endpoint, facts in self._streams(dialect):
                reader = dialect.reader(endpoint, facts, hide_usage=golden.hide_usage)
                reader.feed(dialect.keepalive)
                assert not reader.begun
                assert reader.feed(golden.wire) + reader.finish() == golden.expected

    @pytest.mark.asyncio
    async def test_the_model_list_names_every_model(self) -> None:
        entries = [ModelEntry(name="a/b:c", context=4096, capabilities=("chat",)), ModelEntry(name='"é"')]
        async with self.opened() as dialect:
            listed = set(strings(json.loads(dialect.models(entries, {}))))
            assert {entry.name for entry in entries} <= listed
            assert all(entry.name in strings(json.loads(dialect.model(entry))) for entry in entries)
            assert isinstance(json.loads(dialect.models([], {})), dict | list)


def endpoint_of(dialect: Dialect, path: str) -> Endpoint:
    """The dialect's endpoint for a path."""
    return next(endpoint for endpoint in dialect.endpoints if endpoint.path == path)


def finishes(reader: Reader, wire: bytes) -> bytes | None:
    """All that goes out for a reply that ends here; None where the reader says it was cut."""
    try:
        return reader.feed(wire) + reader.finish()
    except BackendError:
        return None


def strings(value: Any) -> Iterator[str]:
    """Every text in a JSON value, keys included."""
    if isinstance(value, str):
        yield value
    for inner in value.items() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from strings(inner)


def _borders(frames: list[bytes]) -> set[int]:
    borders = {0}
    for frame in frames:
        borders.add(max(borders) + len(frame))
    return borders
