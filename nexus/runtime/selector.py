"""How much one turn of the loop takes on: no more than it can soon be done with.  For systems with epoll only.

asyncio reads whatever is ready before it goes on with any of it.  With thousands of streams that would be thousands of events read and
held before the first of them is written: each waits for all others, and the memory for them is never given back.
"""

from __future__ import annotations

import select
import selectors
from selectors import EVENT_READ, EVENT_WRITE, SelectorKey

MOST_READY = 64  # connections that are ready, in one turn; the kernel gives the others first the next time.  As many new requests take 10 to 30 ms
BOTH = EVENT_READ | EVENT_WRITE
# what has failed or was hung up on is neither of these: it is ready for both, as in the standard library
ONE = {select.EPOLLIN: EVENT_READ, select.EPOLLOUT: EVENT_WRITE}


class Selector(selectors.EpollSelector):
    """MOST_READY connections at a time.

    The standard library asks for all that are ready, and has no parameter for less, so its private names are used here: they are the
    same in Python 3.11 to 3.14.
    """

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        keys: dict[int, SelectorKey] = self._fd_to_key  # type: ignore[attr-defined]  # see above
        poll = self._selector.poll  # type: ignore[attr-defined]
        found = poll(None if timeout is None else max(timeout, 0), MOST_READY)
        return [(key, ONE.get(event, BOTH) & key.events) for fd, event in found if (key := keys.get(fd)) is not None]
