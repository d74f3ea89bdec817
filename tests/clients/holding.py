"""A server that takes requests, says nothing, and dies when it is told to: what a client waits behind.

It is a double in a thread of its own, so that a run may look at its client meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from nexus.testing import Act, CutAfter, FakeModel, Held, Received, Respond, llamacpp_server

from .world import CONTEXT, DOOMED, MODEL, SAYS

DEATH = CutAfter(0, Respond(503), reset=True)
SLOTS = 8
PATIENCE_SECONDS = 10


class Holding:
    """It lists MODEL and DOOMED, and speaks both dialects.  Every generation is held until `die()`, which cuts its connection off;
    so is every later one at once, until `recover()`."""

    def __init__(self) -> None:
        self._server = llamacpp_server([FakeModel(name, context=CONTEXT) for name in (MODEL, DOOMED)], capacity=SLOTS, text=SAYS)
        self._server.on("/v1/messages", self._held, method="POST")
        self._server.on("/v1/chat/completions", self._held, method="POST")
        # What a build says that has the path: whoever wants a count asks the next server.
        self._server.on("/v1/messages/count_tokens", Respond(500), method="POST")
        self._well = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._gate = asyncio.Event()
        asyncio.run_coroutine_threadsafe(self._server.start_listening(), self._loop).result(PATIENCE_SECONDS)

    @property
    def url(self) -> str:
        return self._server.url

    def hold(self) -> None:
        """Hold what comes from now on."""
        self._do(self._hold)

    def die(self) -> None:
        """Break off everything that is held, and all that comes."""
        self._do(lambda: self._gate.set())

    def recover(self) -> None:
        """Answer from now on, as OpenAI's API has it."""
        self._do(self._recover)

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._server.__aexit__(None, None, None), self._loop).result(PATIENCE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_SECONDS)
        self._loop.close()

    def _hold(self) -> None:
        self._gate, self._well = asyncio.Event(), False

    def _recover(self) -> None:
        self._well = True

    def _held(self, received: Received) -> Act:
        return self._server.chat(received) if self._well else Held(self._gate, DEATH)

    def _do(self, act: Callable[[], None]) -> None:
        async def done() -> None:
            act()

        asyncio.run_coroutine_threadsafe(done(), self._loop).result(PATIENCE_SECONDS)
