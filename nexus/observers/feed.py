"""Live events, for `/nexus/events`, as server-sent events.  What happened before is the history's.

A subscriber that reads too slowly loses its oldest events and is told how many; the gateway never waits for one.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from nexus.api import Clock, Observer
from nexus.errors import Problem
from nexus.model import Event
from nexus.observers.render import Json, event_json

QUEUE = 256
SUBSCRIBERS = 64
_encode = msgspec.json.Encoder(enc_hook=str).encode


class Feed(Observer):
    """Hands every event to every subscriber, as bytes that are made once.  Without subscribers nothing is made."""

    def __init__(self, clock: Clock, *, queue: int = QUEUE, subscribers: int = SUBSCRIBERS) -> None:
        self._clock = clock
        self._queue = queue
        self._most = subscribers
        self._subscriptions: list[Subscription] = []
        self._closed = False

    def see(self, event: Event) -> None:
        if self._subscriptions:
            frame = frame_of(event_json(event, self._clock))
            for subscription in self._subscriptions:
                subscription.put(frame)

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


def frame_of(told: Json) -> bytes:
    """A server-sent event of its type."""
    try:
        data = _encode(told)
    except UnicodeEncodeError:  # half of a surrogate pair: JSON has an escape for it, UTF-8 has nothing
        data = json.dumps(told).encode()
    return b"event: %b\ndata: %b\n\n" % (told["type"].encode(), data)


class Subscription:
    """The events of one reader.  It is given what is not read yet, at most so many; `dropped` counts those that it was too slow for."""

    def __init__(self, size: int) -> None:
        self.dropped = 0
        self._told = 0
        self._waiting: deque[bytes] = deque(maxlen=size)
        self._news = asyncio.Event()
        self._closed = False

    def put(self, frame: bytes) -> None:
        if len(self._waiting) == self._waiting.maxlen:
            self.dropped += 1
        self._waiting.append(frame)
        self._news.set()

    def close(self) -> None:
        self._closed = True
        self._news.set()

    async def take(self) -> bytes:
        """All that waits, oldest first, as soon as anything does; b"" once it is closed and read.  Where events were lost it begins with
        `{"type": "dropped", "count": n}`."""
        while not self._waiting:
            if self._closed:
                return b""
            self._news.clear()
            await self._news.wait()
        lost, self._told = self.dropped - self._told, self.dropped
        frames = b"".join(self._waiting)
        self._waiting.clear()
        return frame_of({"type": "dropped", "count": lost}) + frames if lost else frames
