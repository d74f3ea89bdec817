"""Since when a client has taken nothing of what waits for it.  Who looks, and what follows, is decided elsewhere."""

from __future__ import annotations

import asyncio
import struct
import sys

_INT = struct.Struct("i")


class Stall:
    """Since when (seconds) what a client has not taken yet has not become less."""

    __slots__ = ("_since", "_unsent")

    def __init__(self, transport: asyncio.WriteTransport, now: float) -> None:
        self._unsent = untaken(transport)
        self._since = now

    def lasts(self, transport: asyncio.WriteTransport, now: float) -> float:
        """For how many seconds the client has taken nothing."""
        unsent = untaken(transport)
        if unsent < self._unsent:
            self._since = now
        self._unsent = unsent
        return now - self._since


def untaken(transport: asyncio.WriteTransport) -> int:
    """Bytes that were written and that the client's side has not taken.  Where the system tells (Linux), with what it holds itself: it
    takes more from us only once it has got rid of much, and a slow client is no deaf one."""
    size = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if sys.platform != "linux" or sock is None or sock.fileno() < 0:
        return size
    import fcntl
    import termios

    try:
        return size + int(_INT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0" * _INT.size))[0])
    except OSError:
        return size
