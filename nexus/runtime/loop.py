"""The event loop of a process of our own.  Which sockets it takes on in a turn is `selector`'s to say."""

from __future__ import annotations

import asyncio
import select
import socket
from typing import Any


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop that takes on a few things in a turn where there is epoll, and the standard library as it is known; else the usual one."""
    if not hasattr(select, "epoll"):
        return asyncio.new_event_loop()
    from nexus.runtime.selector import Selector

    selector = Selector()
    if not hasattr(selector, "_fd_to_key") or not hasattr(selector, "_selector"):
        selector.close()
        return asyncio.new_event_loop()
    return Loop(selector)


class Loop(asyncio.SelectorEventLoop):
    """The usual loop, with transports that leave no cycle behind, and without a traceback where it is stopped while it has no descriptors."""

    def _start_serving(self, protocol_factory: Any, sock: socket.socket, *args: Any, **more: Any) -> None:
        # asyncio calls it again a second after it ran out of descriptors, also for a socket that has been closed meanwhile
        if sock.fileno() >= 0:
            super()._start_serving(protocol_factory, sock, *args, **more)  # type: ignore[misc]  # known to nobody but asyncio

    def _make_socket_transport(self, *args: Any, **more: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_socket_transport(*args, **more)  # type: ignore[misc]  # see Transport
        if type(transport) is _Usual:
            transport.__class__ = Transport
        return transport


_Usual: Any = getattr(asyncio.selector_events, "_SelectorSocketTransport", asyncio.Transport)


class Transport(_Usual):  # type: ignore[misc]  # known to nobody but asyncio
    """The usual transport, which lets go of its own methods when its connection is over: it would wait for the garbage collector otherwise,
    with all that it holds, and the collector would have to look at everything that lives in the middle of a rush."""

    def _call_connection_lost(self, exc: Exception | None) -> None:
        super()._call_connection_lost(exc)
        self._read_ready_cb = self._write_ready = None
