"""The load: requests per second with wrk (or, without it, in Python), saturated and paced streams.  It starts no server.

Readers parse as little as they can: a saturated stream is counted by the one `[` each event holds, a paced one by the
time of sending it carries.
"""

from __future__ import annotations

import asyncio
import gc
import json
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs
from canned import KEY, chat_body, chat_request, messages_body, picture_body

WRK = """
wrk.method = "POST"
wrk.body = [==[{body}]==]
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["Authorization"] = "Bearer {key}"
wrk.headers["User-Agent"] = "bench/1.0"
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\nBENCH {{"requests": %d, "us": %d, "bad": %d, "p50": %.1f, "p99": %.1f}}\\n', summary.requests,
    summary.duration, e.connect + e.read + e.write + e.status + e.timeout, latency:percentile(50), latency:percentile(99)))
end
"""
STAMP = re.compile(rb"t=(\d+);")


PATIENCE = 10.0  # seconds beyond the measured stretch for the first answer of all, on a machine that has other things to do


class LoadError(Exception):
    """An answer was wrong, so the figure would be too."""


@attrs.frozen
class Rate:
    """Whole answers: per second, and the latency's percentiles in microseconds."""

    rps: float
    p50: float
    p99: float


def requests(port: int, connections: int, seconds: float) -> Rate:
    """Whole chat completions on keep-alive connections, one in flight on each."""
    if shutil.which("wrk"):
        return _wrk(port, connections, seconds)
    return asyncio.run(_python(port, connections, seconds, chat_body()))


def _wrk(port: int, connections: int, seconds: float) -> Rate:
    with tempfile.TemporaryDirectory() as directory:
        script = Path(directory) / "chat.lua"
        script.write_text(WRK.format(body=chat_body().decode(), key=KEY))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s", "-s", str(script)]
        out = subprocess.run([*command, f"http://127.0.0.1:{port}/v1/chat/completions"], capture_output=True, check=True).stdout
    found = json.loads(out.partition(b"BENCH ")[2])
    if found["bad"] or not found["requests"]:
        raise LoadError(f"{found['bad']} of {found['requests']} requests failed at port {port}")
    return Rate(found["requests"] / found["us"] * 1e6, found["p50"], found["p99"])


async def _stretch(seconds: float, came: Callable[[], int]) -> None:
    """As long as is to be measured, and until anything came at all."""
    await asyncio.sleep(seconds)
    latest = time.monotonic() + PATIENCE
    while not came() and time.monotonic() < latest:
        await asyncio.sleep(0.01)


class Asker(asyncio.Protocol):
    """Sends the same request again and again and keeps each latency, in nanoseconds."""

    transport: asyncio.Transport

    def __init__(self, port: int, body: bytes) -> None:
        self.request = chat_request(port, body)
        self.latencies: list[int] = []
        self.bad: str | None = None
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.sent = time.monotonic_ns()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if self.buffer.endswith((b"}", b"}\r\n0\r\n\r\n")):
            self.latencies.append(time.monotonic_ns() - self.sent)
            if not self.buffer.startswith(b"HTTP/1.1 200"):
                self.bad = self.buffer[:100].decode(errors="replace")
            self.buffer = b""
            self._ask()


def pictures(port: int, size: int, connections: int, seconds: float) -> Rate:
    """As `requests`, each with a picture: bodies of `size` bytes."""
    return asyncio.run(_python(port, connections, seconds, picture_body(size)))


async def _python(port: int, connections: int, seconds: float, body: bytes) -> Rate:
    loop = asyncio.get_running_loop()
    began = time.monotonic()
    askers = [(await loop.create_connection(lambda: Asker(port, body), "127.0.0.1", port))[1] for _ in range(connections)]
    await _stretch(seconds, lambda: any(asker.latencies for asker in askers))
    elapsed = time.monotonic() - began
    for asker in askers:
        asker.transport.abort()
    if bad := next((asker.bad for asker in askers if asker.bad), None):
        raise LoadError(f"port {port} answered {bad}")
    times = sorted(ns / 1000 for asker in askers for ns in asker.latencies)
    if not times:
        raise LoadError(f"port {port} answered nothing within {seconds + PATIENCE:g} s")
    return Rate(len(times) / elapsed, times[len(times) // 2], times[len(times) * 99 // 100])


# ---------------------------------------------------------------- what is streamed


@attrs.frozen
class Form:
    """How streams are asked for, by the port and what the server is to do, and how their events are counted without being parsed:
    by a byte, `marks` of which stand in each event; `beyond` of them stand elsewhere in a stream."""

    request: Callable[[int, str], bytes]
    mark: bytes
    marks: int
    beyond: int


PASSED = Form(lambda port, user: chat_request(port, chat_body(stream=True, user=user)), b"[", 1, 2)
# Anthropic's client, OpenAI's server.  The braces are those of the events at the beginning and the end.
TRANSLATED = Form(lambda port, user: chat_request(port, messages_body(user=user), "/v1/messages"), b"{", 2, 10)


# ---------------------------------------------------------------- saturated


class Tap(asyncio.BufferedProtocol):
    """Asks for one stream after the other and counts events."""

    SPACE = bytearray(256 * 1024)
    transport: asyncio.Transport

    def __init__(self, request: bytes, mark: bytes, expected: int | None) -> None:
        self.request = request
        self.mark = mark
        self.expected = expected
        self.marks = 0
        self.streams = 0
        self.bad: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self._ask()

    def _ask(self) -> None:
        self.began, self.head, self.tail = self.marks, True, b""
        self.transport.write(self.request)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.SPACE

    def buffer_updated(self, count: int) -> None:
        if self.head:
            self.head = False
            if not self.SPACE.startswith(b"HTTP/1.1 200"):
                self.bad = bytes(self.SPACE[: min(count, 100)]).decode(errors="replace")
        self.marks += self.SPACE.count(self.mark, 0, count)
        self.tail = (self.tail + self.SPACE[max(0, count - 5) : count])[-5:]
        if self.tail == b"0\r\n\r\n":
            self._ended()

    def _ended(self) -> None:
        got = self.marks - self.began
        if self.expected is not None and got != self.expected:
            self.bad = f"a stream with {got} times {self.mark!r} instead of {self.expected}"
        self.streams += 1
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.bad:
            self.bad = f"the connection was lost after {self.streams} streams: {exc}"


async def _saturated(
    port: int, streams: int, batch: int, events: int, seconds: float, exact: bool, mark: Mark, form: Form
) -> float:
    request = form.request(port, f"burst/{batch}/{events}")
    loop = asyncio.get_running_loop()
    expected = events * form.marks + form.beyond if exact else None
    made = [loop.create_connection(lambda: Tap(request, form.mark, expected), "127.0.0.1", port) for _ in range(streams)]
    taps = [(await each)[1] for each in made]
    total = lambda: sum(tap.marks for tap in taps)  # noqa: E731 - asked four times
    await _stretch(min(0.5, seconds / 4), total)
    mark()
    began, before = time.monotonic(), total()
    await _stretch(seconds, lambda: total() > before)
    elapsed, counted = time.monotonic() - began, total() - before
    mark()
    bad = next((tap.bad for tap in taps if tap.bad), None)
    for tap in taps:
        tap.transport.abort()
    await asyncio.sleep(0)
    if bad or not counted:
        raise LoadError(f"port {port}: {bad or 'no events came'}")
    return counted / form.marks / elapsed


Mark = Callable[[], None]


def saturated(
    port: int,
    *,
    batch: int,
    seconds: float,
    mark: Mark,
    form: Form = PASSED,
    streams: int = 64,
    events: int = 4096,
    exact: bool = True,
) -> float:
    """Events per second over all streams, `batch` events in each write of the upstream.

    `mark` is called when the measured stretch begins and when it ends.  `exact` asserts that no event is missing or added.
    """
    return asyncio.run(_saturated(port, streams, batch, events, seconds, exact, mark, form))


# ---------------------------------------------------------------- paced


class Listener(asyncio.Protocol):
    """Hears one paced stream and keeps, for each event, its delay in milliseconds.

    An event is held when it comes no earlier than the next one of its stream was sent.
    """

    transport: asyncio.Transport

    def __init__(self, request: bytes) -> None:
        self.request = request
        self.delays: list[float] = []
        self.held = 0
        self.last = 0
        self.text = b""
        self.head: bytes | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        now = time.monotonic_ns()
        self.head = self.head or data[:100]
        self.text += data
        end = 0
        for found in STAMP.finditer(self.text):
            sent, end = int(found[1]), found.end()
            self.delays.append((now - sent) / 1e6)
            self.held += bool(self.last and self.last >= sent)
            self.last = now
        self.text = self.text[max(end, len(self.text) - 40) :]
        if self.text.endswith(b"0\r\n\r\n") and not self.ended.done():
            self.ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


@attrs.frozen
class Pace:
    """Delays from the upstream's write to the reader's read in milliseconds; events held for a later one; events missing."""

    p50: float
    p99: float
    most: float
    held: int
    missing: int


async def _paced(port: int, streams: int, rate: int, seconds: float, form: Form) -> Pace:
    events = max(2, round(rate * seconds))
    request = form.request(port, f"paced/{rate}/{events}")
    loop = asyncio.get_running_loop()
    listeners = []
    for _ in range(streams):  # opened over a second, so that their ticks are spread evenly
        listeners.append((await loop.create_connection(lambda: Listener(request), "127.0.0.1", port))[1])
        await asyncio.sleep(1 / streams)
    await asyncio.wait([each.ended for each in listeners], timeout=seconds + 10)
    for each in listeners:
        each.transport.abort()
    if bad := next((each.head for each in listeners if each.head and not each.head.startswith(b"HTTP/1.1 200")), None):
        raise LoadError(f"port {port} answered {bad!r}")
    delays = [delay for each in listeners for delay in each.delays]
    if len(delays) < 100:
        raise LoadError(f"port {port}: only {len(delays)} events came")
    cuts = statistics.quantiles(delays, n=100)
    return Pace(cuts[49], cuts[98], max(delays), sum(each.held for each in listeners), streams * events - len(delays))


def paced(port: int, *, seconds: float, form: Form = PASSED, streams: int = 200, rate: int = 30) -> Pace:
    """Streams of `rate` events a second each, and how late their events are."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        return asyncio.run(_paced(port, streams, rate, seconds, form))
    finally:
        gc.enable()
        gc.unfreeze()
