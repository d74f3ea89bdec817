"""One connection: bytes out, bytes in to the current answer, its deadlines.  Which connection serves whom is the pool's."""

from __future__ import annotations

import asyncio
import math
import ssl
from typing import NamedTuple, Protocol, cast

from nexus.errors import BackendError
from nexus.outbox import Outbox
from nexus.plain import rounded
from nexus.upstream.answer import Answer, Limits, Malformed
from nexus.upstream.request import Address

NEVER = math.inf
LOOK_SECONDS = 1.0  # between two looks at all connections, where nothing is due sooner
_JOIN_BELOW = 65536
_PIECE_BYTES = 256 * 1024
_PIECES_IN_A_TURN = 8
_NOTHING = memoryview(b"")


class Deadlines(NamedTuple):
    """`first_byte_by` and `answer_by` are moments of the clock, `idle_timeout` is seconds between two pieces of the body,
    `connect_timeout` until a connection stands (None: as usual)."""

    first_byte_by: float | None
    answer_by: float | None
    idle_timeout: float | None
    connect_timeout: float | None = None


class Keeper(Protocol):
    """What a connection needs of its pool.  `scratch` is where all connections receive: it is parsed before the next one does.  `due`
    is when they are looked at next, which `hurry` makes sooner."""

    scratch: memoryview
    limits: Limits
    outbox: Outbox
    due: float

    def hurry(self, by: float) -> None: ...
    def clock(self) -> float: ...
    def opened(self, connection: Connection) -> None: ...
    def released(self, connection: Connection) -> None: ...
    def stale(self, connection: Connection) -> None: ...
    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.BufferedProtocol):
    """At most one answer at a time; without one it is idle, and anything that arrives then ends it.

    asyncio itself sets TCP_NODELAY.
    """

    __slots__ = (
        "_keeper", "_last", "_transport", "_unsent", "address", "answer", "deadlines", "idle_since", "paused", "reused", "spent",
    )  # fmt: skip

    def __init__(self, keeper: Keeper, address: Address) -> None:
        self._keeper = keeper
        self._last = 0.0
        self.paused = False
        self._transport: asyncio.Transport | None = None
        self._unsent = _NOTHING
        self.address = address
        self.answer: Answer | None = None
        self.deadlines: Deadlines | None = None
        self.idle_since = 0.0
        self.reused = False
        self.spent = False  # it must not be used again

    @property
    def closing(self) -> bool:
        return self._transport is None or self._transport.is_closing()

    # ---- what the pool and the exchange call

    def send(self, answer: Answer, head: bytes, body: bytes, deadlines: Deadlines) -> None:
        """Write the request; from now on what arrives belongs to `answer`.

        A small body leaves with the head in one packet.  A large one is written as the peer takes it, for whatever the transport has to
        keep is a copy; an early answer is seen while it still drains.
        """
        assert self._transport is not None
        answer.begin()
        self.answer = answer
        self.deadlines = deadlines
        by = deadlines.first_byte_by if deadlines.first_byte_by is not None else deadlines.answer_by
        if by is not None and by < self._keeper.due:
            self._keeper.hurry(by)
        if deadlines.idle_timeout is not None and deadlines.idle_timeout < LOOK_SECONDS:
            self._keeper.hurry(self._keeper.clock() + deadlines.idle_timeout)
        if len(body) < _JOIN_BELOW:
            self._keeper.outbox.write(self._transport, head + body)
        else:
            self._keeper.outbox.flush()
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._write_more()

    def _write_more(self) -> None:
        """The next pieces of a large body, until the peer must be waited for or others are due."""
        transport = self._transport
        if transport is None or transport.is_closing():
            self._unsent = _NOTHING
            return
        for _ in range(_PIECES_IN_A_TURN):
            if not self._unsent or transport.get_write_buffer_size():
                return  # of what is written more is asked for once it has drained
            piece, self._unsent = self._unsent[:_PIECE_BYTES], self._unsent[_PIECE_BYTES:]
            transport.write(piece)
        asyncio.get_running_loop().call_soon(self._write_more)

    def resume(self) -> None:
        """What lay unread was taken."""
        self.paused = False
        self._last = self._keeper.clock()
        if not self.closing:
            cast(asyncio.Transport, self._transport).resume_reading()

    def drop(self) -> None:
        """Close at once; whatever was not yet sent is thrown away."""
        answer, self.answer = self.answer, None
        self._unsent = _NOTHING
        if answer is not None:
            answer.finish()
        if self._transport is not None:
            self._transport.abort()

    def fail(self, code: str, what: str) -> None:
        """End the current answer with an error, and the connection with it.  `what` completes a sentence about the peer."""
        answer = self.answer
        if answer is not None:
            reused = self.reused and code == "reset"
            answer.fail(BackendError(code, f"{self.address} {what}", reused=reused, sent=True))
        self.drop()

    def check(self, now: float) -> float:
        """Fail the current answer if it is overdue.  Returns when it will be, as far as that is known now."""
        answer, deadlines = self.answer, self.deadlines
        if answer is None or deadlines is None:
            return NEVER
        due = NEVER if deadlines.answer_by is None else deadlines.answer_by
        if now >= due:
            self.fail("answer_timeout", "did not finish its answer in time")
        elif not answer.received and deadlines.first_byte_by is not None:
            due = min(due, deadlines.first_byte_by)
            if now >= due:
                self.fail("first_byte_timeout", "did not begin to answer in time")
        elif answer.head_done and deadlines.idle_timeout is not None:
            due = min(due, self._check_idle(answer, deadlines.idle_timeout, now))
        return due if self.answer is answer else NEVER

    def _check_idle(self, answer: Answer, timeout: float, now: float) -> float:
        """A slow reader is not an idle peer: time counts only while nothing lies unread."""
        if answer.buffered:
            self._last = now
        elif now - self._last >= timeout:
            self.fail("idle_timeout", f"sent nothing for {rounded(now - self._last)} s in the middle of its answer")
        return self._last + timeout

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=0)  # whatever it has to keep is told, and that it has gone
        self._keeper.opened(self)

    def resume_writing(self) -> None:
        if self._unsent:
            self._write_more()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._keeper.scratch

    def buffer_updated(self, nbytes: int) -> None:
        answer = self.answer
        if answer is None:
            self.drop()
            return
        try:
            answer.feed(self._keeper.scratch[:nbytes])
        except Malformed as problem:
            self.fail("malformed", str(problem))
            return
        if answer.done:
            self._completed(answer)
        elif answer.head_done:
            self._progressed(answer)

    def _progressed(self, answer: Answer) -> None:
        if self.deadlines is not None and self.deadlines.idle_timeout is not None:
            self._last = self._keeper.clock()
        if answer.buffered > self._keeper.limits.read_ahead_bytes and not self.paused:
            self.paused = True
            cast(asyncio.Transport, self._transport).pause_reading()
        answer.wake()

    def _completed(self, answer: Answer) -> None:
        """The answer is whole: the connection is free even before the body is read, if nothing speaks against using it again."""
        transport = self._transport
        assert transport is not None
        self.answer = None
        answer.finish()
        if not answer.keep_alive or answer.surplus or self._unsent or transport.get_write_buffer_size():
            self._unsent = _NOTHING
            transport.abort()
        else:
            self._keeper.released(self)
        answer.wake()

    def eof_received(self) -> None:
        answer = self.answer
        if answer is not None and self._said_goodbye() and answer.close():
            answer.keep_alive = False
            self._completed(answer)
        else:
            self._broken("closed the connection")

    def _said_goodbye(self) -> bool:
        """Over TLS anybody on the line can close it; only a close_notify comes from the peer.  asyncio does not tell them apart."""
        tls = cast(asyncio.Transport, self._transport).get_extra_info("ssl_object")
        try:
            return tls is None or tls.read(1) == b""
        except ssl.SSLError:
            return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken("broke the connection")
        self._transport = None
        self._unsent = _NOTHING
        self._keeper.lost(self)

    def _broken(self, what: str) -> None:
        answer = self.answer
        if answer is not None and not answer.started and self.reused:
            self._keeper.stale(self)
        if answer is not None and answer.started:
            self.fail("cut", f"{what} in the middle of its answer")
        else:
            self.fail("reset", f"{what} before it answered")
