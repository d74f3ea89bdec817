"""A scripted HTTP/1.1 server on a real loopback socket, which can misbehave at byte level.

What it does with a request is an `Act`, how a request is read is `incoming`; here are the connections, the script and
what the test may look at.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import struct
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from nexus.testing.acts import Act, Respond
from nexus.testing.incoming import MAX_HEAD_BYTES, BadRequest, Received, read_request
from nexus.testing.waits import Predicate, Watch

Script = Act | Callable[[Received], Act]
Paths = dict[tuple[str | None, str], Script]


class ScriptedUpstream:
    """`async with ScriptedUpstream() as up:` listens on `up.url`.

    A request is answered by the first of: what was queued with `next()` for its path, what was queued for any path, what
    `on()` says of its path, what `by_itself()` says of it, `default`.  A script is an act, or a function from the request
    to one.

    `requests` are those read so far (the last `remember` of them), `in_flight` those being answered, `peak` the most that
    ever were, `finished` the answers played to their end, `disconnected` the clients that went before that,
    `connections` all accepted so far, `open_connections` those open now, `violations` what no HTTP client may send.
    A script that crashes breaks the connection off, and leaving the context raises what it crashed with.
    """

    def __init__(
        self,
        default: Script = Respond(404, json={"error": {"message": "no such path", "type": "not_found_error", "code": 404}}),  # noqa: B008 - frozen
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        ssl: ssl_module.SSLContext | None = None,
        remember: int = 10_000,
    ) -> None:
        self.default = default
        self.host = host
        self.port = port
        self.requests: list[Received] = []
        self.in_flight = 0
        self.peak = 0
        self.finished = 0
        self.disconnected = 0
        self.connections = 0
        self.violations: list[str] = []
        self.crashes: list[Exception] = []
        self._ssl = ssl
        self._remember = remember
        self._paths: Paths = {}
        self._own: Paths = {}
        self._queues: dict[str | None, deque[Script]] = {}
        self._open: set[_Connection] = set()
        self._watch = Watch()
        self._server: asyncio.Server | None = None
        self._holder: socket.socket | None = None

    # ---- the script

    def on(self, path: str, script: Script, *, method: str | None = None) -> Self:
        """Answer this path so, from now on; with `method`, only that method."""
        self._paths[method, path] = script
        return self

    def by_itself(self, path: str, script: Script, *, method: str | None = None) -> Self:
        """Answer this path so where neither `next()` nor `on()` says anything: for doubles, which tests may overrule."""
        self._own[method, path] = script
        return self

    def next(self, *scripts: Script, path: str | None = None) -> Self:
        """Answer the next requests (to `path`, or to any) so, one script each."""
        self._queues.setdefault(path, deque()).extend(scripts)
        return self

    def act_for(self, received: Received) -> Act:
        """What happens to this request now; it uses up what was queued."""
        script = self._pick(received)
        return script if isinstance(script, Act) else script(received)

    def _pick(self, received: Received) -> Script:
        for key in (received.path, None):
            if queue := self._queues.get(key):
                return queue.popleft()
        for paths in (self._paths, self._own):
            for method in (received.method, None):
                if (script := paths.get((method, received.path))) is not None:
                    return script
        return self.default

    # ---- what a test looks at

    @property
    def url(self) -> str:
        return f"{'https' if self._ssl else 'http'}://{self.host}:{self.port}"

    @property
    def open_connections(self) -> int:
        return len(self._open)

    @property
    def listening(self) -> bool:
        return self._server is not None

    def calls(self, path: str) -> list[Received]:
        """The requests to this path."""
        return [received for received in self.requests if received.path == path]

    async def until(self, predicate: Predicate, timeout: float = 5.0) -> None:
        """Return as soon as `predicate()` is true.  Raises TimeoutError, with the counts, after `timeout` seconds."""
        await self._watch.until(predicate, timeout, self.__repr__)

    def __repr__(self) -> str:
        names = ("in_flight", "peak", "finished", "disconnected", "connections", "open_connections", "violations")
        counts = ", ".join(f"{name}={getattr(self, name)}" for name in names)
        return f"<{type(self).__name__} {self.url} requests={len(self.requests)}, {counts}>"

    # ---- opening and closing

    async def __aenter__(self) -> Self:
        await self.start_listening()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_listening()
        tasks = [connection.task for connection in self._open if connection.task]
        self.cut_connections()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.until(lambda: not self._open)
        if self._holder:
            self._holder.close()
            self._holder = None
        if self.crashes and error is None:
            raise self.crashes[0]

    async def start_listening(self) -> None:
        """Listen (again), on the same port as before."""
        if self._server:
            return
        if self._holder is None and sys.platform == "linux":
            self._holder = _bound(self.host, self.port)
            self.port = self._holder.getsockname()[1]
        listener = _bound(self.host, self.port)
        self.port = listener.getsockname()[1]
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), sock=listener, ssl=self._ssl, backlog=4096)

    def stop_listening(self) -> None:
        """Refuse new connections.  Open ones go on, and the port stays ours."""
        if self._server:
            self._server.close()
            self._server = None

    def cut_connections(self, *, reset: bool = True) -> None:
        """End every open connection now, in the middle of whatever it was doing."""
        for connection in tuple(self._open):
            connection.cut(reset)

    def kill(self) -> None:
        """What a killed process looks like from outside: no listener, and every connection reset."""
        self.stop_listening()
        self.cut_connections()

    # ---- called by connections

    def _joined(self, connection: _Connection) -> int:
        self._open.add(connection)
        self.connections += 1
        self._watch.changed()
        return self.connections - 1

    def _left(self, connection: _Connection) -> None:
        self._open.discard(connection)
        self._watch.changed()

    def _began(self, received: Received) -> None:
        self.requests.append(received)
        if len(self.requests) > self._remember:
            del self.requests[0]
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        self._watch.changed()

    def _ended(self, *, finished: bool, client_left: bool) -> None:
        self.in_flight -= 1
        self.finished += finished
        self.disconnected += client_left
        self._watch.changed()

    def _crashed(self, error: Exception) -> None:
        self.crashes.append(error)
        self._watch.changed()

    def _violated(self, what: str) -> None:
        self.violations.append(what)
        self._watch.changed()


def _bound(host: str, port: int) -> socket.socket:
    """A bound socket.  One that does not listen keeps the port from everybody else while the server is "down" (Linux)."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio turns Nagle off only where it says TCP
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


class _Connection(asyncio.StreamReaderProtocol):
    """One client: reads requests in turn and plays the act of each.  Also the `Wire` that acts write to."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        loop = asyncio.get_running_loop()
        self._incoming = asyncio.StreamReader(limit=MAX_HEAD_BYTES, loop=loop)
        super().__init__(self._incoming, self._serve, loop=loop)
        self.task: asyncio.Task[Any] | None = None
        self.head_only = False
        self._upstream = upstream
        self._number = -1
        self._closing = False
        self._playing = False
        self._gone = False

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._made = transport  # a connection may be cut before it is served
        self._number = self._upstream._joined(self)
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        self._client_left()
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._client_left()
        super().connection_lost(error)
        self._upstream._left(self)

    def _client_left(self) -> None:
        if self._playing and not self._closing and self.task:
            self._gone = True
            self.task.cancel()

    # ---- the conversation

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.task = asyncio.current_task()
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while not self._closing and (received := await read_request(reader, self._number)):
                await self._answer(received)
        except (asyncio.CancelledError, ConnectionError):
            writer.transport.abort()
        except BadRequest as error:
            self._upstream._violated(str(error))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except Exception as error:
            self._upstream._crashed(error)
        finally:
            writer.close()

    async def _answer(self, received: Received) -> None:
        self.head_only = received.method == "HEAD"
        self._playing, finished = True, False
        self._upstream._began(received)
        try:
            await self._upstream.act_for(received).play(self)
            finished = not self._gone
            self._closing |= (received.header("connection") or "").lower() == "close"
        except ConnectionError:
            self._gone = self._gone or not self._closing
            raise
        finally:
            self._playing = False
            self._upstream._ended(finished=finished, client_left=self._gone)

    # ---- the wire

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        self._closing = True

    def reset(self) -> None:
        self._closing = True
        self.cut(reset=True)

    def cut(self, reset: bool) -> None:
        """End the connection now.  A reset is what the client sees of a process that was killed."""
        self._closing = True
        sock = self._made.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._playing and self.task and self.task is not asyncio.current_task():
            self.task.cancel()
        self._made.abort()
