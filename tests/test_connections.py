"""More connections than there may be: the oldest idle ones go, busy ones stay, and what we lack ourselves is no backend's fault."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import signal
import subprocess
import sys
from unittest import mock
from urllib.parse import urlsplit

import aiohttp
import pytest

from nexus.descriptors import is_shortage, most_clients
from nexus.model import Health
from nexus.testing import Held, Respond, until

from .wire import WAYS, Ledger, open_house, standalone, tables_for, tiny
from .wire_client import CHAT, GOOD, STREAMED, Line, post

MESSAGES = "/v1/messages"
SPOKEN = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "a"}, "finish_reason": "stop"}]}
FEW = {"max_connections": 4}


@pytest.mark.parametrize("limit", [20, 64, 256, 1024, 65536])
def test_every_client_may_need_a_backend(limit):
    assert most_clients(limit) >= 1
    assert 2 * most_clients(limit) + 24 <= max(limit, 26)
    assert most_clients(1024) == 480


async def test_the_oldest_idle_connections_make_room(tmp_path):
    async with tiny() as up, open_house(tmp_path, up, server=FEW) as house, contextlib.AsyncExitStack() as stack:
        lines = [await stack.enter_async_context(house.line()) for _ in range(3)]
        await lines[0].ask()
        assert (await lines[0].hear()).status == 200  # idle since now: the youngest
        for _ in range(20):
            lines.append(await stack.enter_async_context(house.line()))
            await asyncio.sleep(0.01)
        (listener,) = house.listeners
        await until(lambda: len(listener) <= FEW["max_connections"])
        assert not await lines[1].closed()
        await lines[-1].ask()
        assert (await lines[-1].hear()).status == 200
        await lines[-2].ask(b"{}", "/v1/chat/completions", "Transfer-Encoding: chunked")  # aiohttp's
        await lines[-2].say(b"0\r\n\r\n")
        for _ in range(20):
            line = await stack.enter_async_context(house.line())
            await line.ask()
            assert (await line.hear()).status == 200
        await until(lambda: len(listener) <= FEW["max_connections"])


async def test_where_all_are_busy_newcomers_are_told_to_try_again(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "nexus")
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, server=FEW) as house, contextlib.AsyncExitStack() as stack:
        up.on(CHAT, Held(gate, Respond(json=SPOKEN)), method="POST")
        busy = [await stack.enter_async_context(house.line()) for _ in range(4)]
        for line in busy:
            await line.ask()
        await up.until(lambda: up.in_flight == 4)
        for body, path in ((GOOD, CHAT), (STREAMED, CHAT), (GOOD, MESSAGES)):
            async with house.line() as line:
                await line.ask(body, path)
                got = await line.hear()
                assert (got.status, got.headers["retry-after"], got.headers["content-type"]) == (503, "1", "application/json")
                assert "max_connections" in got.json["error"]["message"]
                assert got.headers["x-nexus-request-id"]
                gate_open = house.in_flight
        assert gate_open == 4
        async with house.line() as line:  # health is for whoever asks
            await line.say(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert (await line.hear()).status == 200
        assert len([r for r in caplog.records if "connections are busy" in r.getMessage()]) == 1
        crowd = [await stack.enter_async_context(house.line()) for _ in range(60)]
        (listener,) = house.listeners
        await until(lambda: len(listener) <= 4 + 16)
        for line in crowd:
            line.writer.transport.abort()
        gate.set()
        for line in busy:
            assert (await line.hear()).status == 200
        async with house.line() as line:
            await line.ask()
            assert (await line.hear()).status == 200


HALVES = {
    "a head": (f"POST {CHAT} HTTP/1.1\r\nHost: localhost\r\n".encode(), True),
    "a body": (post(b"{", CHAT, "Content-Length: 100"), True),
    "a body for Anthropic's API": (post(b"{", MESSAGES, "Content-Length: 100"), True),
    "a chunked body": (post(b"1\r\n{\r\n", CHAT, "Transfer-Encoding: chunked"), True),
    "no byte of a body": (post(b"", CHAT, "Content-Length: 100"), True),
    "a body for a page": (post(b"{", "/nexus/explain", "Content-Length: 100"), True),
    "a head for a page": (b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\n", True),
    "a head of aiohttp's": (b"HEAD /v1/models HTTP/1.1\r\nHost: localhost\r\n", False),
}


@pytest.mark.parametrize(("half", "told"), HALVES.values(), ids=HALVES)
async def test_who_is_silent_in_the_middle_of_a_request_makes_room(tmp_path, half, told):
    """The longest silent one first, and nobody whose request is being answered."""
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, server=FEW) as house, contextlib.AsyncExitStack() as stack:
        up.next(Held(gate, Respond(json=SPOKEN)), path=CHAT)
        served = await stack.enter_async_context(house.line())
        await served.ask()
        await up.until(lambda: up.in_flight == 1)
        silent = []
        for _ in range(3):
            silent.append(await stack.enter_async_context(house.line()))
            await silent[-1].say(half)
            await asyncio.sleep(0.02)  # so that their silences differ
        for line in silent:
            newcomer = await stack.enter_async_context(house.line())
            await newcomer.ask()
            assert (await newcomer.hear()).status == 200
            got = await line.hear_or_closed()
            assert (got is not None) == told
            if got is not None:
                assert (got.status, got.json["error"]["message"].split(" (")[0]) == (503, "all connections are busy")
                assert got.headers["retry-after"] == "1"
            assert not await line.closed()
        gate.set()
        assert (await served.hear()).status == 200


async def test_who_sends_slowly_is_not_the_one_who_is_silent(tmp_path):
    async with tiny() as up, open_house(tmp_path, up, server=FEW) as house, contextlib.AsyncExitStack() as stack:
        (listener,) = house.listeners
        lines = [await stack.enter_async_context(house.line()) for _ in range(4)]
        for line in lines:
            await line.say(post(GOOD[:1], CHAT, f"Content-Length: {len(GOOD)}"))
            await asyncio.sleep(0.01)
        for at in range(1, len(GOOD)):
            await lines[0].say(GOOD[at : at + 1])
            if at % 5 == 0:
                async with house.line() as newcomer:
                    await newcomer.ask()
                    assert (await newcomer.hear()).status == 200
        assert (await lines[0].hear()).status == 200
        assert (await lines[1].hear()).status == 503
        assert len(listener) <= FEW["max_connections"] + 1


@pytest.mark.parametrize("framing", ["Content-Length: 100", "Transfer-Encoding: chunked"])
async def test_a_stop_does_not_wait_for_what_does_not_come(tmp_path, framing):
    async with tiny() as up, contextlib.AsyncExitStack() as stack:
        ledger, server = Ledger(), {"shutdown_grace_seconds": 60}
        async with standalone(tables_for([up], tmp_path / "state", {"server": server}), ledger) as (gateway, url):
            line = await stack.enter_async_context(Line.to(url))
            await line.say(post(b"1\r\n{\r\n", CHAT, framing))
            await until(lambda: gateway.fleet.settled)
            stopping = asyncio.get_running_loop().time()
        assert asyncio.get_running_loop().time() - stopping < 10
        got = await line.hear()
        assert (got.status, got.error["code"]) == (503, "stopping")
        assert [answered.code for answered in ledger.answered] == ["stopping"]


async def test_a_stop_waits_for_what_still_comes(tmp_path):
    async with tiny() as up, contextlib.AsyncExitStack() as stack:
        ledger, server = Ledger(), {"shutdown_grace_seconds": 60}
        async with standalone(tables_for([up], tmp_path / "state", {"server": server}), ledger) as (gateway, url):
            line = await stack.enter_async_context(Line.to(url))
            await line.say(post(GOOD[:1], CHAT, f"Content-Length: {len(GOOD)}"))
            await until(lambda: gateway.fleet.settled)
            asyncio.get_running_loop().call_later(0.3, line.writer.write, GOOD[1:])
        assert (await line.hear()).status == 200


async def test_where_all_are_busy_no_more_are_served(tmp_path):
    """Whoever has been told so keeps no place that the next one gets."""
    gate = asyncio.Event()
    async with tiny() as up, open_house(tmp_path, up, server=FEW) as house, contextlib.AsyncExitStack() as stack:
        up.on(CHAT, Held(gate, Respond(json=SPOKEN)), method="POST")
        busy = [await stack.enter_async_context(house.line()) for _ in range(4)]
        for line in busy:
            await line.ask()
        await up.until(lambda: up.in_flight == 4)
        for _ in range(40):
            line = await stack.enter_async_context(house.line())
            await line.ask()
            assert (await line.hear()).status == 503
        assert up.in_flight == 4
        (listener,) = house.listeners
        await until(lambda: len(listener) <= 4 + 16)
        gate.set()
        for served in busy:
            assert (await served.hear()).status == 200
        busy[0].writer.transport.abort()
        await until(lambda: len(listener) < 4 + 16)
        await line.ask()  # there is room, so it is as any other
        assert (await line.hear()).status == 200


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("body", [GOOD, STREAMED])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.EADDRNOTAVAIL])
async def test_what_we_lack_ourselves_is_no_failure_of_the_backend(tmp_path, way, body, number):
    assert is_shortage(OSError(number, "x"))
    async with tiny() as up, open_house(tmp_path, up, way=way) as house:
        assert (await house.post(body)).status == 200
        with mock.patch("nexus.upstream.dial._first", side_effect=OSError(number, "Too many")):
            up.cut_connections()
            await until(lambda: not house.gateway.upstream.idle_connections)
            for _ in range(12):
                got = await house.post(body)
                assert (got.status, got.error["code"], got.headers["retry-after"]) == (503, "overloaded", "1")
        standing = house.gateway.fleet.standings["a"]
        assert standing.pulse.health is Health.HEALTHY
        assert standing.pairs["tiny"].failures == 0
        assert house.ledger.outcomes == ["ok"] + ["refused"] * 12
        assert (await house.post(body)).status == 200


async def test_a_probe_that_we_cannot_make_says_nothing(tmp_path):
    failed = aiohttp.ClientConnectorError(mock.Mock(), OSError(errno.EMFILE, "Too many open files"))
    async with tiny() as up, open_house(tmp_path, up, health={"failure_threshold": 1, "interval_seconds": 0.5}) as house:
        standing = house.gateway.fleet.standings["a"]
        asked = mock.AsyncMock(side_effect=failed)
        with mock.patch.object(aiohttp.TCPConnector, "_wrap_create_connection", asked):
            up.cut_connections()
            await until(lambda: asked.await_count >= 3, timeout=10)
            assert (await standing.member.backend.probe()).code == "shortage"
            assert standing.pulse.health is Health.HEALTHY
        before = standing.last_probe
        await until(lambda: standing.last_probe != before, timeout=10)
        assert standing.report.ok


@pytest.mark.parametrize("most", [0, 1000])
@pytest.mark.parametrize("half", [b"", post(b"{", CHAT, "Content-Length: 100")], ids=["idle", "half a body"])
async def test_a_crowd_of_silent_clients_and_few_descriptors(tmp_path, half, most):
    """The process has 80 descriptors; its clients, who are in another one, want 300 connections, and its configuration perhaps more."""
    async with tiny() as up:
        file = tmp_path / "nexus.toml"
        bound = f"max_connections = {most}\n" if most else ""
        file.write_text(
            f'[server]\nport = 0\n{bound}state_dir = "{tmp_path / "state"}"\n[discovery]\nsources = []\n'
            f'[[backends]]\nname = "a"\ntype = "openai-compatible"\nurl = "{up.url}"\n'
        )
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "nexus", "serve", "--config", str(file), "--log-format", "json",
            stderr=subprocess.PIPE,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (80, 80)),
        )  # fmt: skip
        assert process.stderr is not None
        said = []
        try:
            async with asyncio.timeout(30):
                while b"listening on" not in (line := await process.stderr.readline()):
                    said.append(line)
            url = line.decode().split("listening on ")[1].split('"')[0]
            reading = asyncio.get_running_loop().create_task(process.stderr.read())
            async with contextlib.AsyncExitStack() as stack:
                process.send_signal(signal.SIGSTOP)  # as on a machine that is busy: all of them come at once
                for _ in range(300):
                    with contextlib.suppress(OSError):
                        await (await stack.enter_async_context(Line.to(url))).say(half)
                process.send_signal(signal.SIGCONT)
                for _ in range(5):
                    async with Line.to(url) as line:
                        await line.ask()
                        assert (await line.hear(15)).status == 200
            assert urlsplit(url).port
        finally:
            process.terminate()
            async with asyncio.timeout(10):
                assert await process.wait() == 0
        log = await reading
        assert len([entry for entry in log.splitlines() if b"nexus.request" not in entry]) < 50, log[-2000:]
        # a bound that is beyond the limit leaves no descriptor for the rest of Nexus, which says so
        assert most or b"Traceback" not in log, next(entry for entry in log.splitlines() if b"Traceback" in entry)
