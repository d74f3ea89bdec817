"""The loop of `nexus serve`: it does what asyncio's own does, and takes on only so much in one turn."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import selectors
import socket
import subprocess
import sys
from selectors import EVENT_READ, EVENT_WRITE

import pytest
from click.testing import CliRunner

import nexus.runtime.selector
from nexus.cli import serve
from nexus.runtime.loop import new_loop
from nexus.runtime.selector import BOTH, Selector


@pytest.fixture
def selector():
    with contextlib.closing(Selector()) as made:
        yield made


@pytest.fixture
def pair():
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def ready(selector, timeout=0.0):
    return {key.fd: events for key, events in selector.select(timeout)}


def test_what_is_ready_is_told_as_far_as_it_was_asked_for(selector, pair):
    a, b = pair
    key = selector.register(a.fileno(), EVENT_READ, "data")
    assert (key.fd, key.events, key.data) == (a.fileno(), EVENT_READ, "data")
    assert ready(selector) == ready(selector, -1) == {}
    b.send(b"x")
    assert ready(selector) == {a.fileno(): EVENT_READ}
    selector.modify(a.fileno(), BOTH, "both")
    assert ready(selector) == {a.fileno(): BOTH}
    selector.modify(a.fileno(), EVENT_WRITE, "other")
    assert ready(selector) == {a.fileno(): EVENT_WRITE}
    assert selector.get_key(a.fileno()).data == "other"
    assert selector.unregister(a.fileno()).data == "other"
    assert ready(selector) == {}


def test_data_changes_without_the_events(selector, pair):
    selector.register(pair[0], EVENT_WRITE, 1)
    selector.modify(pair[0], EVENT_WRITE, 2)
    ((key, _),) = selector.select(None)
    assert key.data == 2
    assert dict(selector.get_map()) == {pair[0].fileno(): key}


@pytest.mark.parametrize("asked", [EVENT_READ, EVENT_WRITE, BOTH])
def test_who_was_hung_up_on_is_ready_for_all_that_was_asked(selector, pair, asked):
    a, b = pair
    selector.register(a.fileno(), asked)
    b.close()
    assert ready(selector) == {a.fileno(): asked}


def test_so_many_at_once_and_nobody_is_left_out(selector, monkeypatch):
    monkeypatch.setattr(nexus.runtime.selector, "MOST_READY", 8)
    with contextlib.ExitStack() as stack:
        waiting = set()
        for _ in range(30):
            a, b = (stack.enter_context(each) for each in socket.socketpair())
            selector.register(a.fileno(), EVENT_READ, a)
            b.send(b"x")
            waiting.add(a.fileno())
        while waiting:
            found = selector.select(0)
            assert 0 < len(found) <= 8
            for key, _ in found:
                key.data.recv(1)
                waiting.remove(key.fd)


def test_the_loop_waits_and_wakes_and_closes():
    async def run():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        with a, b:
            a.setblocking(False)
            send = loop.run_in_executor(None, b.send, b"hello")  # from a thread
            assert await loop.sock_recv(a, 10) == b"hello"
            await send
        process = await asyncio.create_subprocess_exec("true")
        return await process.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == 0
        assert isinstance(runner.get_loop()._selector, Selector)


def test_who_reads_from_a_socket_by_hand_can_stop_and_start_again():
    async def run():
        loop = asyncio.get_running_loop()
        a, b = socket.socketpair()
        with a, b:
            for _ in range(2):
                came = loop.create_future()
                loop.add_reader(a, came.set_result, None)
                b.send(b"x")
                await came
                assert loop.remove_reader(a)
                a.recv(1)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def test_serve_runs_on_it(monkeypatch, tmp_path):
    seen = []

    async def run(config, catalog, *, greeted):
        seen.append(asyncio.get_running_loop()._selector)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nexus.cli.running.run", run)
    monkeypatch.setattr("nexus.observers.format.setup_logging", lambda *how: logging.NullHandler())
    result = CliRunner().invoke(serve.command, ["--state-dir", str(tmp_path), "--log-format", "none"])
    assert (result.exit_code, [type(each) for each in seen]) == (0, [Selector])


ELSEWHERE = """
import asyncio, select, selectors, sys
del select.epoll, selectors.EpollSelector
from nexus.runtime.loop import new_loop
with asyncio.Runner(loop_factory=new_loop) as runner:
    runner.run(asyncio.sleep(0))
assert "nexus.runtime.selector" not in sys.modules
"""


def test_where_there_is_no_epoll_it_is_the_usual_loop():
    subprocess.run([sys.executable, "-c", ELSEWHERE], check=True, timeout=60)


def test_nor_where_the_standard_library_is_another(monkeypatch):
    monkeypatch.setattr("nexus.runtime.selector.Selector", selectors.SelectSelector)
    with contextlib.closing(new_loop()) as loop:
        assert type(loop._selector) is not selectors.SelectSelector


def test_a_socket_that_is_closed_before_it_is_listened_to_again_is_let_be():
    """asyncio begins again a second after it ran out of descriptors, also where the server has been closed meanwhile."""
    with contextlib.closing(new_loop()) as loop:
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        server = loop.run_until_complete(loop.create_server(asyncio.Protocol, sock=sock))
        again = loop._start_serving
        server.close()
        loop.run_until_complete(asyncio.sleep(0))
        assert sock.fileno() == -1
        again(asyncio.Protocol, sock)
