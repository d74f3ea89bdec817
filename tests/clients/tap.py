"""A listener before a server that passes every byte on, and notes which paths were asked for and what was answered.

Before a backend it is how a run knows in which dialect that was spoken to; before the gateway, what a client heard while it waited.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable

import attrs

REQUEST = re.compile(rb"\A(?:GET|POST|HEAD) (\S+) HTTP/1\.1\r\n")
EVENT = re.compile(rb"\n(?:event|data):")
SIGN = b"\n: keep-alive\n\n"
PENDING = b"\r\nx-nexus-pending: true\r\n"


@attrs.define
class Heard:
    """The answer to one request: `path` without the query, and every byte so far."""

    path: str
    bytes: bytes = b""

    @property
    def began(self) -> bool:
        """Whether a first event has come."""
        return EVENT.search(self._body) is not None

    @property
    def signs(self) -> int:
        """How many keep-alives came before the first event, in a stream whose head said that it is pending."""
        return EVENT.split(self._body, 1)[0].count(SIGN) if PENDING in self.bytes.lower() else 0

    @property
    def _body(self) -> bytes:
        return self.bytes.partition(b"\r\n\r\n")[2]


class Tap:
    """Forwards to 127.0.0.1:`port`.  `heard` are the answers to all requests so far."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.heard: list[Heard] = []
        self._threads: list[threading.Thread] = []
        self._start(self._accept)

    @property
    def posted(self) -> list[str]:
        """The paths of all requests so far."""
        return [heard.path for heard in self.heard]

    def close(self) -> None:
        """Take no more connections, and wait for the end of those that there are: one of their ends has gone."""
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
            conversation = Conversation(self.heard)
            there = threading.Thread(target=_pump, args=(client, server, conversation.asked), daemon=True)
            there.start()
            _pump(server, client, conversation.answered)
            there.join()


class Conversation:
    """The requests of one connection, each with its answer.  Two threads write to it: nobody asks again before he has heard."""

    def __init__(self, heard: list[Heard]) -> None:
        self._heard = heard
        self._last: Heard | None = None

    def asked(self, data: bytes) -> None:
        if found := REQUEST.match(data):
            self._last = Heard(found[1].decode().partition("?")[0])
            self._heard.append(self._last)

    def answered(self, data: bytes) -> None:
        if self._last is not None:
            self._last.bytes += data


def _pump(source: socket.socket, sink: socket.socket, note: Callable[[bytes], None]) -> None:
    """Until either side ends: then both are shut, so that a client that leaves is seen to leave."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            note(data)
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
