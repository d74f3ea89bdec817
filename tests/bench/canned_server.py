"""The server behind every contender of the benchmark: canned answers and streams from a raw asyncio protocol.

It understands just enough HTTP for well-behaved clients; it is no example of how to write a server.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import time

from canned import DONE, LAST, USAGE, answer_json, chunk, event, held_event, models_json

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
USER = re.compile(rb'"(?:user|stop)": ?\[?"([a-z]+)/(\d+)/(\d+)"')
STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n"
HELD_PERIOD = 0.5
LONGEST_HEAD = 16 * 1024
LONGEST_SCRIPT = 64 * 1024


def whole(body: bytes, status: bytes = b"200 OK") -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (status, len(body), body)


ANSWER = whole(answer_json())
MODELS = whole(models_json())
NOT_FOUND = whole(b'{"error":{"message":"no such path","type":"invalid_request_error"}}', b"404 Not Found")


class Counts:
    """What the server tells about itself at /bench/stats, and the streams that wait for /bench/release."""

    def __init__(self) -> None:
        self.connections = 0
        self.streams = 0
        self.requests = 0
        self.parked: list[Connection] = []


class Connection(asyncio.Protocol):
    """One keep-alive connection; at most one exchange at a time."""

    transport: asyncio.Transport

    def __init__(self, counts: Counts) -> None:
        self.counts = counts
        self.buffer = bytearray()
        self.timer: asyncio.Handle | None = None
        self.streaming = False
        self.ready = True
        self.loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.counts.connections += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self.counts.connections -= 1
        if self.timer:
            self.timer.cancel()
        if self.streaming:
            self.streaming = False
            self.counts.streams -= 1
        if self in self.counts.parked:
            self.counts.parked.remove(self)

    def pause_writing(self) -> None:
        self.ready = False

    def resume_writing(self) -> None:
        self.ready = True
        if self.streaming and self.mode == b"burst":
            self._burst()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        end = self.buffer.find(b"\r\n\r\n", 0, LONGEST_HEAD)
        if end < 0:
            return
        found = LENGTH.search(self.buffer, 0, end)
        total = end + 4 + (int(found[1]) if found else 0)
        if len(self.buffer) >= total:
            request = bytes(self.buffer[: min(total, LONGEST_SCRIPT)])  # what is longer asks for nothing but an answer
            del self.buffer[:total]
            self._answer(request, end)

    def _answer(self, request: bytes, end: int) -> None:
        if request.startswith(b"POST /v1/chat/completions "):
            self.counts.requests += 1
            if user := USER.search(request, end):
                self._scripted(user[1], int(user[2]), int(user[3]), b'"include_usage"' in request)
            else:
                self.transport.write(ANSWER)
        elif request.startswith(b"GET /v1/models "):
            self.transport.write(MODELS)
        elif request.startswith(b"GET /bench/"):
            self._control(request)
        else:
            self.transport.write(NOT_FOUND)

    def _control(self, request: bytes) -> None:
        if request.startswith(b"GET /bench/release "):
            parked, self.counts.parked = self.counts.parked, []
            for each in parked:
                each._held()
        counts = {"connections": self.counts.connections - 1, "streams": self.counts.streams, "requests": self.counts.requests}
        self.transport.write(whole(json.dumps(counts).encode()))

    def _scripted(self, mode: bytes, first: int, events: int, usage: bool) -> None:
        if mode == b"delay":
            self.timer = self.loop.call_later(first / 1000, self.transport.write, ANSWER)
            return
        self.mode, self.first, self.events, self.usage, self.sent = mode, first, events, usage, 0
        self.streaming = True
        self.counts.streams += 1
        self.transport.write(STREAM_HEAD)
        if mode == b"burst":
            self.block = chunk(event(" and so on")) * first
            self._burst()
        elif mode == b"paced":
            self.due = self.loop.time()
            self._paced()
        else:
            self._held()

    def _burst(self) -> None:
        """One write, then the other streams' turn."""
        if not self.streaming or not self.ready:
            return
        if self.sent >= self.events:
            return self._end()
        self.sent += self.first
        self.transport.write(self.block)
        self.timer = self.loop.call_soon(self._burst)

    def _paced(self) -> None:
        if self.sent >= self.events:
            return self._end()
        self.sent += 1
        self.transport.write(chunk(event(f"t={time.monotonic_ns()};")))
        self.due += 1 / self.first
        self.timer = self.loop.call_at(self.due, self._paced)

    def _held(self) -> None:
        if self.sent >= self.events:
            return self._end()
        self.transport.write(chunk(held_event(self.first, self.sent)))
        self.sent += 1
        if self.sent == self.events // 2:
            self.counts.parked.append(self)
        else:
            self.timer = self.loop.call_later(HELD_PERIOD, self._held)

    def _end(self) -> None:
        self.streaming = False
        self.counts.streams -= 1
        self.transport.write(chunk(LAST) + (chunk(USAGE) if self.usage else b"") + chunk(DONE) + b"0\r\n\r\n")


async def serve(port: int) -> None:
    counts = Counts()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(counts), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--core", type=int, help="pin the process to this core")
    options = parser.parse_args()
    if options.core is not None:
        os.sched_setaffinity(0, {options.core})
    asyncio.run(serve(options.port))


if __name__ == "__main__":
    main()
