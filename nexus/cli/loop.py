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
    from nexus.cli.selector import Selector

    selector = Selector()
    if not hasattr(selector, "_fd_to_key") or not hasattr(selector, "_selector"):
        selector.close()
        return asyncio.new_event_loop()
    return Loop(selector)


class Loop(asyncio.SelectorEventLoop):
    """The usual loop, with a quicker `call_soon`.

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

    def close(self) -> None:
        super().close()
        self._plain = False  # who is called too late is told so


def _slots_of(kind: type) -> set[str]:
    return {name for each in kind.__mro__ for name in getattr(each, "__slots__", ())} - {"__weakref__"}


_new_handle = functools.partial(asyncio.Handle.__new__, asyncio.Handle)
_HELD = {"_context", "_loop", "_callback", "_args", "_cancelled", "_repr", "_source_traceback"}
