"""A listener between the gateway and a server that passes every byte on and notes which paths were asked for.

It is how a run knows that a server was spoken to in its own dialect, or in translation.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable

REQUEST = re.compile(rb"\A(?:GET|POST) (\S+) HTTP/1\.1\r\n")


class Tap:
    """Forwards to 127.0.0.1:`port`.  `posted` are the paths of all requests so far, without their queries."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.posted: list[str] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    def close(self) -> None:
        """Take no more connections, and wait for the end of those that there are: their gateway and their server have gone."""
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._start(self._join, client)

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _join(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._to)) as server:
            there = threading.Thread(target=self._pump, args=(client, server, True), daemon=True)
            there.start()
            self._pump(server, client, False)
            there.join()

    def _pump(self, source: socket.socket, sink: socket.socket, note: bool) -> None:
        """Until either side ends: then both are shut, so that a client that leaves is seen to leave."""
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if note and (found := REQUEST.match(data)):
                    self.posted.append(found[1].decode().partition("?")[0])
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
