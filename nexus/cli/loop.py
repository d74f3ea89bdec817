"""The event loop of a process of our own.  Which sockets it takes on in a turn is `selector`'s to say."""

from __future__ import annotations

import asyncio
import select


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop that takes on a few things in a turn where there is epoll, and the standard library as it is known; else the usual one."""
    if not hasattr(select, "epoll"):
        return asyncio.new_event_loop()
    from nexus.cli.selector import Selector

    selector = Selector()
    if not hasattr(selector, "_fd_to_key") or not hasattr(selector, "_selector"):
        selector.close()
        return asyncio.new_event_loop()
    return asyncio.SelectorEventLoop(selector)
