"""The event loop of a process of our own, which takes on no more in one turn than it can soon be done with.

asyncio reads whatever is ready before it goes on with any of it.  With thousands of streams that would be thousands of events read and
held before the first of them is written: each waits for all others, and the memory for them is never given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import selectors
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey
from typing import Any

MOST_READY = 128  # connections that are ready, in one turn; the kernel gives the others first the next time
BOTH = EVENT_READ | EVENT_WRITE


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop as described where there is epoll, else the platform's usual one."""
    return asyncio.SelectorEventLoop(Selector()) if hasattr(select, "epoll") else asyncio.new_event_loop()


class Selector(selectors.BaseSelector):
    """epoll, MOST_READY connections at a time.  Each is known by the number of its file descriptor, as asyncio has it.

    Like `selectors.EpollSelector` it calls what has failed or been hung up on ready for both, reading and writing.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[int, SelectorKey] = {}
        self._masks = {EVENT_READ: select.EPOLLIN, EVENT_WRITE: select.EPOLLOUT, BOTH: select.EPOLLIN | select.EPOLLOUT}
        self._ready = {select.EPOLLIN: EVENT_READ, select.EPOLLOUT: EVENT_WRITE}

    def register(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        fd = _number(fileobj)
        if fd in self._keys:
            raise KeyError(f"{fd} is registered already")
        self._epoll.register(fd, self._mask(events))
        return self._keep(fd, events, data)

    def unregister(self, fileobj: Any) -> SelectorKey:
        key = self._keys.pop(_number(fileobj))
        with contextlib.suppress(OSError):  # closed meanwhile: epoll has forgotten it by itself
            self._epoll.unregister(key.fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> SelectorKey:
        fd = _number(fileobj)
        if events != self._keys[fd].events:
            self._epoll.modify(fd, self._mask(events))
        return self._keep(fd, events, data)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        keys, ready = self._keys, self._ready
        wait = None if timeout is None else max(timeout, 0)
        found = self._epoll.poll(wait, MOST_READY)
        return [(key, ready.get(event, BOTH) & key.events) for fd, event in found if (key := keys.get(fd)) is not None]

    def get_key(self, fileobj: Any) -> SelectorKey:
        return self._keys[_number(fileobj)]

    def get_map(self) -> Mapping[Any, SelectorKey]:
        return self._keys

    def close(self) -> None:
        self._epoll.close()
        self._keys.clear()

    def _mask(self, events: int) -> int:
        mask = self._masks.get(events)
        if mask is None:
            raise ValueError(f"{events!r} is neither EVENT_READ nor EVENT_WRITE nor both")
        return mask

    def _keep(self, fd: int, events: int, data: Any) -> SelectorKey:
        key = self._keys[fd] = SelectorKey(fd, fd, events, data)
        return key


def _number(fileobj: Any) -> int:
    return fileobj if isinstance(fileobj, int) else int(fileobj.fileno())
