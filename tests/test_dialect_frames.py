"""Where the events of a stream end: every line ending of the standard, and every way to cut them."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nexus.dialects import sse
from nexus.dialects.lines import Lines
from nexus.dialects.sse import Splitter, data_of, events
from nexus.errors import BackendError

ENDS = (b"\n", b"\r\n", b"\r")
SAID = [b"a", b"b\nc", b"d"]


def wire(end: bytes, *, empty: int = 1) -> bytes:
    """A comment and three events, the second with a type and with data of two lines."""
    made = [b": hello" + end * (1 + empty)]
    for said in SAID:
        lines = [b"data: " + line for line in said.split(b"\n")]
        made.append(end.join([b"event: x", *lines]) + end * (1 + empty))
    return b"".join(made)


def read(pieces: Iterable[bytes], splitter: Splitter | None = None) -> tuple[list[bytes], bytes, bytes]:
    """The data of all events, all that was let through, and what was left."""
    splitter = splitter or Splitter()
    ready = [splitter.feed(piece) for piece in pieces]
    data = [splitter.data_of(event) for block in ready for event in splitter.events(block)]
    return [each for each in data if each is not None], b"".join(ready), splitter.rest()


@pytest.mark.parametrize("empty", [1, 2, 3])
@pytest.mark.parametrize("end", ENDS, ids=["LF", "CR LF", "CR"])
def test_every_line_ending_ends_events_wherever_they_are_cut(end: bytes, empty: int) -> None:
    whole = wire(end, empty=empty)
    assert read([whole])[0] == SAID
    for first in range(len(whole)):
        for second in range(first, len(whole)):
            data, ready, rest = read([whole[:first], whole[first:second], whole[second:]])
            assert (data, ready + rest) == (SAID, whole)
            assert not rest.strip()


@pytest.mark.parametrize("end", ENDS, ids=["LF", "CR LF", "CR"])
def test_byte_by_byte_is_the_same(end: bytes) -> None:
    assert read(bytes([byte]) for byte in wire(end))[0] == SAID


@pytest.mark.parametrize("one", ENDS)
@pytest.mark.parametrize("other", ENDS)
def test_an_event_leaves_with_its_last_byte(one: bytes, other: bytes) -> None:
    """None waits for the next: a CR ends it though an LF may follow.  CR and LF after each other are one end of a line."""
    splitter = Splitter()
    event = b"data: x" + one + other
    ready = b"".join(splitter.feed(bytes([byte])) for byte in event)
    assert ready + splitter.rest() == event
    if one + other != b"\r\n":
        assert data_of(next(events(ready))) == b"x"
        assert ready in (event, event.removesuffix(b"\n"))


def test_one_end_of_a_line_is_no_boundary() -> None:
    for end in ENDS:
        assert read([b"data: x" + end])[1:] == (b"", b"data: x" + end)


@given(st.lists(st.binary(max_size=6), max_size=12), st.sampled_from([Splitter, Lines]))
def test_no_byte_is_lost_and_no_cut_matters(pieces: list[bytes], kind: type[Splitter]) -> None:
    whole = b"".join(pieces)
    data, ready, rest = read(pieces, kind())
    assert ready + rest == whole
    assert data == read([whole], kind())[0]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"data:x", b":"]), max_size=14))
def test_no_cut_matters_among_line_endings(pieces: list[bytes]) -> None:
    assert read(pieces)[0] == read([b"".join(pieces)])[0]


@pytest.mark.parametrize("size", [1 << 10, 1 << 16])
def test_an_event_may_not_outgrow_its_bound(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_EVENT_BYTES", 1 << 17)
    splitter = Splitter()
    assert {splitter.feed(b"x" * size) for _ in range((1 << 17) // size)} == {b""}
    with pytest.raises(BackendError) as caught:
        splitter.feed(b"x")
    assert caught.value.code == "too_large"
