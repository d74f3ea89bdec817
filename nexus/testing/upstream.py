"""A scripted HTTP/1.1 server on a real loopback socket, which can misbehave at byte level.

What it does with a request is an `Act`, how a request is read is `incoming`, one client is a `connection` and what has happened a
`tally`; here are the script, opening and closing, and what the test may look at.
"""

from __future__ import annotations

import asyncio
import socket
import ssl as ssl_module
import sys
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Self

from nexus.testing.acts import Act, Respond
from nexus.testing.connection import Connection
from nexus.testing.incoming import Received
from nexus.testing.tally import Tally
from nexus.testing.waits import Predicate

Script = Act | Callable[[Received], Act]
Paths = dict[tuple[str | None, str], Script]


class ScriptedUpstream(Tally):
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
        super().__init__(remember)
        self.default = default
        self.host = host
        self.port = port
        self._ssl = ssl
        self._paths: Paths = {}
        self._own: Paths = {}
        self._queues: dict[str | None, deque[Script]] = {}
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
        return len(self.open)

    @property
    def listening(self) -> bool:
        return self._server is not None

    def calls(self, path: str) -> list[Received]:
        """The requests to this path."""
        return [received for received in self.requests if received.path == path]

    async def until(self, predicate: Predicate, timeout: float = 5.0) -> None:
        """Return as soon as `predicate()` is true.  Raises TimeoutError, with the counts, after `timeout` seconds."""
        await self.watch.until(predicate, timeout, self.__repr__)

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
        tasks = [connection.task for connection in self.open if connection.task]
        self.cut_connections()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.until(lambda: not self.open)
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
        self._server = await loop.create_server(lambda: Connection(self, self.act_for), sock=listener, ssl=self._ssl, backlog=4096)

    def stop_listening(self) -> None:
        """Refuse new connections.  Open ones go on, and the port stays ours."""
        if self._server:
            self._server.close()
            self._server = None

    def cut_connections(self, *, reset: bool = True) -> None:
        """End every open connection now, in the middle of whatever it was doing."""
        for connection in tuple(self.open):
            connection.cut(reset)

    def kill(self) -> None:
        """What a killed process looks like from outside: no listener, and every connection reset."""
        self.stop_listening()
        self.cut_connections()


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
