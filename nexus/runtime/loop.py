"""The event loop of a process of our own.  Which sockets it takes on in a turn is `selector`'s to say."""

from __future__ import annotations

import asyncio
import functools
import select
import selectors
from collections import deque
from collections.abc import Callable
from contextvars import Context, copy_context
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
    """The usual loop, with a quicker `call_soon`, and transports that leave no cycle behind.

    Somebody is called so four times a request, and the standard library makes six calls of each, to ask again and again whether it
    debugs: that was a thirtieth of what a request costs.  The private names are the same in Python 3.11 to 3.14; where they are others
    it is the usual `call_soon`.
    """

    _ready: deque[asyncio.Handle]
    _debug: bool

    def __init__(self, selector: selectors.BaseSelector) -> None:
        super().__init__(selector)
        self._plain = _slots_of(asyncio.Handle) == _HELD and hasattr(self, "_ready") and hasattr(self, "_debug")

    def call_soon(self, callback: Callable[..., object], *args: object, context: Context | None = None) -> asyncio.Handle:
        if not self._plain or self._debug:
            return super().call_soon(callback, *args, context=context)
        handle: Any = _new_handle()
        handle._context = copy_context() if context is None else context
        handle._loop = self
        handle._callback = callback
        handle._args = args
        handle._cancelled = False
        handle._repr = handle._source_traceback = None
        self._ready.append(handle)
        return handle  # type: ignore[no-any-return]  # its private names are known to nobody else

    def _make_socket_transport(self, *args: Any, **more: Any) -> asyncio.Transport:
        transport: asyncio.Transport = super()._make_socket_transport(*args, **more)  # type: ignore[misc]  # see Transport
        if type(transport) is _Usual:
            transport.__class__ = Transport
        return transport

    def close(self) -> None:
        super().close()
        self._plain = False  # who is called too late is told so


_Usual: Any = getattr(asyncio.selector_events, "_SelectorSocketTransport", asyncio.Transport)


class Transport(_Usual):  # type: ignore[misc]  # known to nobody but asyncio
    """The usual transport, which lets go of its own methods when its connection is over: it would wait for the garbage collector otherwise,
    with all that it holds, and the collector would have to look at everything that lives in the middle of a rush."""

    def _call_connection_lost(self, exc: Exception | None) -> None:
        super()._call_connection_lost(exc)
        self._read_ready_cb = self._write_ready = None


def _slots_of(kind: type) -> set[str]:
    return {name for each in kind.__mro__ for name in getattr(each, "__slots__", ())} - {"__weakref__"}


_new_handle = functools.partial(asyncio.Handle.__new__, asyncio.Handle)
_HELD = {"_context", "_loop", "_callback", "_args", "_cancelled", "_repr", "_source_traceback"}
