"""One client's connection to a scripted server: its requests in turn, and the act that answers each.

What happens is told to the server's `Tally`; which act it is, is the server's to say.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

from nexus.testing.acts import Act
from nexus.testing.incoming import MAX_HEAD_BYTES, BadRequest, Received, read_request
from nexus.testing.tally import Tally


class Connection(asyncio.StreamReaderProtocol):
    """One client: reads requests in turn and plays the act of each.  Also the `Wire` that acts write to."""

    def __init__(self, tally: Tally, act_for: Callable[[Received], Act]) -> None:
        loop = asyncio.get_running_loop()
        self._incoming = asyncio.StreamReader(limit=MAX_HEAD_BYTES, loop=loop)
        super().__init__(self._incoming, self._serve, loop=loop)
        self.task: asyncio.Task[Any] | None = None
        self.head_only = False
        self._tally = tally
        self._act_for = act_for
        self._number = -1
        self._closing = False
        self._playing = False
        self._gone = False

    # ---- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._made = transport  # a connection may be cut before it is served
        self._number = self._tally.joined(self)
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        self._client_left()
        return super().eof_received()

    def connection_lost(self, error: Exception | None) -> None:
        self._client_left()
        super().connection_lost(error)
        self._tally.left(self)

    def _client_left(self) -> None:
        if self._playing and not self._closing and self.task:
            self._gone = True
            self.task.cancel()

    # ---- the conversation

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.task = asyncio.current_task()
        self._writer = writer
        writer.transport.set_write_buffer_limits(high=0)
        try:
            while not self._closing and (received := await read_request(reader, self._number)):
                await self._answer(received)
        except (asyncio.CancelledError, ConnectionError):
            writer.transport.abort()
        except BadRequest as error:
            self._tally.violated(str(error))
            writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        except Exception as error:
            self._tally.crashed(error)
        finally:
            writer.close()

    async def _answer(self, received: Received) -> None:
        self.head_only = received.method == "HEAD"
        self._playing, finished = True, False
        self._tally.began(received)
        try:
            await self._act_for(received).play(self)
            finished = not self._gone
            self._closing |= (received.header("connection") or "").lower() == "close"
        except ConnectionError:
            self._gone = self._gone or not self._closing
            raise
        finally:
            self._playing = False
            self._tally.ended(finished=finished, client_left=self._gone)

    # ---- the wire

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def close(self) -> None:
        self._closing = True

    def reset(self) -> None:
        self._closing = True
        self.cut(reset=True)

    def cut(self, reset: bool) -> None:
        """End the connection now.  A reset is what the client sees of a process that was killed."""
        self._closing = True
        sock = self._made.get_extra_info("socket")
        if reset and sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        if self._playing and self.task and self.task is not asyncio.current_task():
            self.task.cancel()
        self._made.abort()
