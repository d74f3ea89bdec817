"""What clients and servers send costs time in proportion to its size, however it is made up: the event loop waits for all of this."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import msgspec
import pytest
from nexus_anthropic import mending as anthropic_mending
from nexus_prefix.header import without

from nexus.api import Splice
from nexus.dialects.canonical import Message, Role, Text, joined
from nexus.dialects.fields import fields_of
from nexus.dialects.lines import Lines
from nexus.dialects.members import times_at_top
from nexus.dialects.openai import OpenAI
from nexus.dialects.openai_mending import folded
from nexus.dialects.openai_reader import WholeReader
from nexus.dialects.sse import Splitter, events
from nexus.errors import Problem
from nexus.model import Accepts

from .growing import LIMIT, growth

HEADER = b'{"system":"x-anthropic-billing-header: a=b;zz"}'
Work = Callable[[int], object]


def repeated(piece: bytes, count: int, around: bytes = b'{"model":"m","extra":[%s]}') -> bytes:
    """A body with a field that repeats a piece."""
    return around % b",".join([piece] * count)


def asked(body: bytes) -> bytes:
    """A body that asks for usage."""
    openai = OpenAI()
    return openai.splice(openai.endpoints[0], body, Splice(ask_usage=True))


def refused(body: bytes) -> None:
    """Read the top of a body, which may be too much."""
    with contextlib.suppress(Problem):
        fields_of(body)


def pieces(feed: Callable[[bytes], object], data: bytes, size: int) -> None:
    for at in range(0, len(data), size):
        feed(data[at : at + size])


BODIES: dict[str, Work] = {
    "headers in another field": lambda n: without(repeated(HEADER, n)),
    "headers in a message": lambda n: without(repeated(HEADER, n, b'{"messages":[%s],"extra":1}')),
    "the first field again and again": lambda n: without(repeated(HEADER[1:-1], n, b'{"system":"",%s}')),
    "members again and again": lambda n: asked(repeated(b'"b":1', n, b'{"stream_options":{%s}}')),
    "objects again and again": lambda n: asked(repeated(b'"stream_options":{}', n, b"{%s}")),
    "blanks": lambda n: asked(b'{"a":1' + b" " * n + b"}"),
    "twins that are none": lambda n: times_at_top(repeated(b'{"model":"x"}', n), "model"),
    "many fields": lambda n: refused(b'{"model":"x",' + b",".join(b'"x%d":{}' % i for i in range(n * 8)) + b"}"),
    "half a string": lambda n: times_at_top(b'{"model":"' + b'\\"' * n, "model"),
}

STREAMS: dict[str, Work] = {
    "one event in pieces": lambda n: pieces(Splitter().feed, b"data: " + b"x" * (n * 64) + b"\n\n", 64),
    "one event byte by byte": lambda n: pieces(Splitter().feed, b"data: " + b"x" * n + b"\n\n", 1),
    "lines of one event": lambda n: pieces(Splitter().feed, b"data: x\r\n" * n + b"\r\n", 9),
    "one line in pieces": lambda n: pieces(Lines().feed, b"x" * (n * 64) + b"\n", 64),
    "events of one block": lambda n: list(events(b"data: x\n\n" * n)),
    "a body in pieces": lambda n: pieces(WholeReader(1, "chat").feed, b"x" * (n * 512), 512),
}

TEXTS = [{"type": "text", "text": "a"}]
TURNS: dict[str, Work] = {
    "turns of one role": lambda n: joined([Message(role=Role.USER, parts=(Text(text="a"),))] * n * 4),
    "words of the user's again and again": lambda n: folded([{"role": "user", "content": "a" * 64}] * n * 4),
    "parts of the user's again and again": lambda n: folded([{"role": "user", "content": TEXTS}] * n * 4),
    "system messages on top": lambda n: folded([{"role": "system", "content": TEXTS}] * n * 4),
    "system messages below": lambda n: folded([{"role": "user", "content": "a"}, *[{"role": "system", "content": "a"}] * n * 4]),
    "turns of Anthropic's": lambda n: anthropic_mending.mended(
        msgspec.json.encode({"messages": [{"role": r, "content": "a"} for r in ["user", "system"] * n * 2]}),
        Accepts(late_system=False),
    ),
}
ALL = BODIES | STREAMS | TURNS


@pytest.mark.parametrize("work", ALL.values(), ids=ALL)
def test_work_grows_with_the_size_and_not_with_its_square(work: Work) -> None:
    assert growth(work, 500) < LIMIT


def test_a_square_would_be_seen() -> None:
    """The measure itself: what holds back in the simplest way copies all of it for every piece."""

    def simplest(size: int) -> None:
        held = b""
        for _ in range(size):
            held = held + b"x" * 512
            held.rfind(b"\n\n")

    assert growth(simplest, 50) > LIMIT
