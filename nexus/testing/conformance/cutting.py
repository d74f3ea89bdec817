"""A stream says the same wherever the network cuts it: every pair's reader, fed in pieces.  No socket is opened here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from nexus.api import BackendError, Dialect, Payload, Reader
from nexus.catalog import Catalog
from nexus.dialects.ways import Ways
from nexus.model import CHAT
from nexus.testing.builders import a_candidate
from nexus.testing.conformance.cells import Nonconforming
from nexus.testing.conformance.golden import GoldenTable
from nexus.testing.conformance.scenarios import EVERYTHING, MODEL
from nexus.testing.scope import a_scope


@asynccontextmanager
async def spoken(plugins: Sequence[Any] = ()) -> AsyncIterator[Mapping[str, Dialect]]:
    """Every dialect that is installed, and those of `plugins`, by name."""
    kinds = Catalog.load(extra=tuple(plugins)).dialects
    async with AsyncExitStack() as stack:
        scope = await stack.enter_async_context(a_scope("conformance"))
        yield {name: await stack.enter_async_context(kind.open(kind.options(), scope)) for name, kind in kinds.items()}


def readers(client: GoldenTable, server: GoldenTable, dialects: Mapping[str, Dialect]) -> Callable[[], Reader]:
    """Makes what reads the server's streams for the client, as the gateway does."""
    dialect = dialects[client.dialect]
    payload = Payload(client.bytes_of(client.simplest, stream=True))
    endpoint = dialect.endpoint_for(CHAT)
    assert endpoint is not None, "the dialect of a table has chats"
    candidate = a_candidate(
        model=MODEL, name=MODEL, cloud=not server.home, speaks=frozenset({(server.dialect, CHAT)}), takes_usage=True
    )
    way = Ways(dialects).to(candidate, dialect, endpoint, payload, dialect.decode(endpoint, payload), MODEL)
    return lambda: way.reader("golden-request", MODEL, 1_760_000_000)


def fed(reader: Reader, pieces: Iterable[bytes]) -> tuple[bytes, str]:
    """All that goes out, and the code of the BackendError that ended it; "" for a proper end."""
    out = []
    try:
        for piece in pieces:
            out.append(reader.feed(piece))
        out.append(reader.finish())
    except BackendError as error:
        return b"".join(out), error.code
    return b"".join(out), ""


def cut_everywhere(client: GoldenTable, server: GoldenTable, dialects: Mapping[str, Dialect]) -> None:
    """Cuts a stream of the server's at every byte, and into single bytes.  Raises Nonconforming where that changes what the client
    gets."""
    wire = b"".join(server.exchange(EVERYTHING).frames)
    reader = readers(client, server, dialects)
    whole = fed(reader(), [wire])
    for pieces in _cuts(wire):
        if fed(reader(), pieces) != whole:
            raise Nonconforming(
                f"{client.dialect} to {server.dialect}: cut after {len(pieces[0])} bytes, the stream says something else"
            )


def ends_early(client: GoldenTable, server: GoldenTable, dialects: Mapping[str, Dialect]) -> None:
    """Ends a stream of the server's within, before and after each of its events.  Raises Nonconforming where anything goes
    unnoticed but the lack of the last boundary, or of the events that the table says may be missing."""
    frames = server.exchange(EVERYTHING).frames
    wire = b"".join(frames)
    needed = len(b"".join(frames[: len(frames) - server.spare]).rstrip())
    reader = readers(client, server, dialects)
    for end in sorted({end for end in _ends(frames) if 0 <= end < needed}):
        _, code = fed(reader(), [wire[:end]])
        if not code:
            raise Nonconforming(f"{client.dialect} to {server.dialect}: ended after {end} bytes, and nobody would know")


def _cuts(wire: bytes) -> Iterator[Sequence[bytes]]:
    yield [wire[at : at + 1] for at in range(len(wire))]
    for border in range(1, len(wire)):
        yield wire[:border], wire[border:]


def _ends(frames: Sequence[bytes]) -> Iterator[int]:
    at = 0
    for frame in frames:
        yield from (at, at + 1, at + len(frame) // 2, at + len(frame.rstrip()) - 1, at + len(frame) - 1)
        at += len(frame)
