"""The loopback source, with real listeners on free ports."""

import asyncio
import contextlib
import socket

import pytest

from nexus.api import Check, Fingerprint, Sighting, SourceKind, opens
from nexus.loopback import Loopback, LoopbackOptions
from nexus.testing import ScriptedUpstream
from nexus.testing.contracts import SourceContract
from nexus.testing.scope import a_scope


def prints(*ports: int) -> tuple[Fingerprint, ...]:
    return tuple(Fingerprint(ports=(port,), checks=(Check(path="/"),)) for port in ports)


@contextlib.asynccontextmanager
async def watching(*ports: int, fingerprints=(), interval: float = 0.05):
    """The next sighting of a source that knocks on these ports, as a function."""
    async with a_scope(upstream=object(), fingerprints=fingerprints) as scope:
        source = Loopback(LoopbackOptions(interval_seconds=interval, ports=ports), scope).watch()

        async def sighting() -> Sighting:
            return await asyncio.wait_for(anext(source), 5)

        try:
            yield sighting
        finally:
            await source.aclose()


@contextlib.contextmanager
def listening(host: str = "127.0.0.1", backlog: int = 5):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))
        sock.listen(backlog)
        yield sock.getsockname()[1]


async def test_found_lost_and_found_again():
    async with ScriptedUpstream() as server, watching(server.port) as sighting:
        place = f"127.0.0.1:{server.port}"
        assert await sighting() == Sighting(url=server.url, source="loopback", evidence=f"something listens on {place}")
        server.stop_listening()
        assert await sighting() == Sighting(
            url=server.url, found=False, source="loopback", evidence=f"nothing listens on {place} any more"
        )
        await server.start_listening()
        assert (await sighting()).found
    assert not server.requests


async def test_only_changes_are_told():
    async with ScriptedUpstream() as server, watching(server.port) as sighting:
        assert (await sighting()).found
        async with asyncio.TaskGroup() as tasks:
            second = tasks.create_task(sighting())
            await server.until(lambda: server.connections >= 4)
            assert not second.done()
            server.stop_listening()
        assert not second.result().found


async def test_the_ports_of_fingerprints_are_knocked_on():
    with listening() as first, listening() as second:
        async with watching(second, fingerprints=prints(first, second)) as sighting:
            assert {(await sighting()).url, (await sighting()).url} == {f"http://127.0.0.1:{p}" for p in (first, second)}


async def test_a_server_on_ipv6_only():
    try:
        listener = listening("::1")
        with listener as port:
            async with watching(port) as sighting:
                assert (await sighting()).url == f"http://[::1]:{port}"
    except OSError:
        pytest.skip("no IPv6 here")


async def test_a_full_backlog_is_not_the_end():
    """A busy server that does not accept is neither found nor lost: only a refusal says that it has gone."""
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(listening(backlog=0))
        async with watching(port) as sighting:
            assert (await sighting()).found
            clients = [stack.enter_context(socket.socket()) for _ in range(8)]
            for client in clients:
                client.setblocking(False)
                client.connect_ex(("127.0.0.1", port))
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sighting(), 1.5)


async def test_a_port_that_is_taken_but_not_listening_is_nobody():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        async with watching(held.getsockname()[1], interval=0.05) as sighting:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(sighting(), 0.5)


@pytest.mark.parametrize("options", [{"interval_seconds": 0}, {"interval_seconds": -1}, {"ports": (0,)}, {"ports": (65536,)}])
def test_options_that_make_no_sense(options):
    with pytest.raises(ValueError, match="must be between"):
        LoopbackOptions(**options)


def test_defaults():
    assert LoopbackOptions() == LoopbackOptions(interval_seconds=2.0, ports=())


class TestContract(SourceContract):
    kind = SourceKind(name="loopback", open=opens(Loopback), options=LoopbackOptions)

    @contextlib.asynccontextmanager
    async def world(self):
        async with ScriptedUpstream() as server:
            self.options = LoopbackOptions(interval_seconds=0.05, ports=(server.port,))
            yield {server.url}
