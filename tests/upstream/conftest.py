"""A server that sends exactly the bytes it is told to, and a pool that must leave no socket behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from nexus.api import BackendError, Exchange
from nexus.upstream import Pool


class Peer:
    """One accepted connection, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.sent = 0

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """One whole request, or b"" where the client has closed."""
        try:
            head = await self.head()
        except asyncio.IncompleteReadError:
            return b""
        lengths = [line.partition(b":")[2] for line in head.split(b"\r\n") if line.startswith(b"content-length:")]
        return head + await self.reader.readexactly(int(lengths[0]) if lengths else 0)

    async def send(self, *pieces: bytes) -> None:
        """Each piece arrives by itself: between two of them the client's loop has read."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            self.sent += len(piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    async def gone(self) -> None:
        """Wait until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()


Handler = Callable[[Peer], Awaitable[None]]


class RawServer:
    """Runs a handler for each connection and closes it when the handler ends."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.accepted = 0
        self.url = ""
        self.problems: list[BaseException] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, host: str = "127.0.0.1", ssl: object = None) -> RawServer:
        self.server = await asyncio.start_server(self._accept, host, 0, ssl=ssl, backlog=2048)  # type: ignore[arg-type] # a context
        port = self.server.sockets[0].getsockname()[1]
        name = f"[{host}]" if ":" in host else "localhost" if ssl else host
        self.url = f"{'https' if ssl else 'http'}://{name}:{port}"
        return self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self.handler(Peer(reader, writer))
        except (ConnectionError, asyncio.CancelledError):
            pass
        except BaseException as problem:
            self.problems.append(problem)
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

    async def stop(self) -> None:
        self.server.close()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.server.wait_closed()
        assert not self.problems


@pytest.fixture
async def serve() -> AsyncIterator[Callable[..., Awaitable[RawServer]]]:
    """`await serve(handler)` starts a server that the test's end stops."""
    servers: list[RawServer] = []

    async def start(handler: Handler, host: str = "127.0.0.1", ssl: object = None) -> RawServer:
        servers.append(await RawServer(handler).start(host, ssl))
        return servers[-1]

    yield start
    for server in servers:
        await server.stop()


@pytest.fixture
async def replies(serve) -> Callable[..., Awaitable[RawServer]]:
    """`await replies(piece, …)` answers every request with these pieces and keeps the connection."""

    async def start(*pieces: bytes) -> RawServer:
        async def handler(peer: Peer) -> None:
            while await peer.request():
                await peer.send(*pieces)

        return await serve(handler)

    return start


class Hands:
    """The moments of a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
async def make_pool(hands: Hands) -> AsyncIterator[Callable[..., Pool]]:
    """Pools on the test's clock; at the end they are closed and hold no socket."""
    pools: list[Pool] = []

    def make(**options: object) -> Pool:
        pools.append(Pool(**{"clock": hands, **options}))  # type: ignore[arg-type] # the test's own options
        return pools[-1]

    yield make
    for pool in pools:
        await pool.close()
        assert pool.open_connections == 0
    gc.collect()  # a socket left open speaks up now, and fails the test


@pytest.fixture
def pool(make_pool: Callable[..., Pool]) -> Pool:
    return make_pool()


@pytest.fixture
def fetch() -> Callable[..., Awaitable[tuple[int, bytes, str]]]:
    """`await fetch(pool, url)`: status, the body as far as it came, and the code of the error that ended it (or "")."""

    async def fetch(pool: Pool, url: str, method: str = "GET", **options: object) -> tuple[int, bytes, str]:
        body, status = b"", 0
        try:
            async with asyncio.timeout(20), await pool.exchange(method, url, **options) as answer:  # type: ignore[arg-type] # the test's own
                status = answer.status
                while piece := await answer.read():
                    body += piece
                assert await answer.read() == b""
        except BackendError as error:
            return status, body, error.code
        return status, body, ""

    return fetch


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """`await until(lambda: …)` turns the loop until it holds."""

    async def until(holds: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not holds():
                await asyncio.sleep(0.001)

    return until


@pytest.fixture
def gather() -> Callable[[Exchange], Awaitable[bytes]]:
    """`await gather(answer)`: the rest of the body."""

    async def gather(answer: Exchange) -> bytes:
        pieces: list[bytes] = []
        while piece := await answer.read():
            pieces.append(piece)
        return b"".join(pieces)

    return gather
