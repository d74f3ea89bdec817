"""Live events, for `/nexus/events`.  How they travel (SSE) is the route's business; what happened before is the history's.

A subscriber that reads too slowly loses its oldest events and is told how many; the gateway never waits for one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from nexus.api import Clock, Observer
from nexus.errors import Problem
from nexus.model import Event
from nexus.observers.render import Json, event_json

QUEUE = 256
SUBSCRIBERS = 64


class Feed(Observer):
    """Hands every event to every subscriber, as a dictionary made once.  Without subscribers nothing is made."""

    def __init__(self, clock: Clock, *, queue: int = QUEUE, subscribers: int = SUBSCRIBERS) -> None:
        self._clock = clock
        self._queue = queue
        self._most = subscribers
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def see(self, event: Event) -> None:
        if self._subscriptions:
            entry = event_json(event, self._clock)
            for subscription in self._subscriptions:
                subscription.put(entry)

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """What happens from now on, until the block is left.  Raises Problem (503) where too many subscribe already."""
        if len(self._subscriptions) >= self._most:
            raise Problem(503, "too_many_subscribers", f"{self._most} clients read the events already; close one of them")
        subscription = Subscription(self._queue)
        if self._closed:
            subscription.close()
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    def close(self) -> None:
        """End every subscription, present and future, once what it holds is read."""
        self._closed = True
        for subscription in self._subscriptions:
            subscription.close()

    def __len__(self) -> int:
        return len(self._subscriptions)


class Subscription:
    """An async iterator of events, for one reader.

    Where events were lost, the next thing it yields is `{"type": "dropped", "count": n}`; `dropped` counts all of them.
    """

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._told = 0
        self._waiting: deque[Json] = deque(maxlen=size)
        self._news = asyncio.Event()
        self._closed = False

    def put(self, entry: Json) -> None:
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(entry)
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    def __aiter__(self) -> AsyncIterator[Json]:
        return self

    async def __anext__(self) -> Json:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        if self._told < self.dropped:
            lost, self._told = self.dropped - self._told, self.dropped
            return {"type": "dropped", "count": lost}
        return self._waiting.popleft()
