"""What must not leave the house goes to no address that was not proven, whatever a name comes to mean, and from one moment to the next.

Here 127.0.0.1 is a machine at home, and 127.0.0.9 a stranger on the internet: it passes everything on to the same server, so that
nothing but the address tells them apart, and remembers what it was sent.
"""

import asyncio
import random
import socket
from contextlib import asynccontextmanager

import pytest

from nexus.api import Sighting
from nexus.testing import until, vllm_server

from .asking import a_backend, ask, chats, fleet, settled
from .test_finding import Told

HOME, STRANGER, UNHEARD = "127.0.0.1", "127.0.0.9", "gpubox.test"
SECRET = "for nobody else"
RESTRICTED = {"X-Nexus-Zone": "restricted"}


class Stranger:
    """Relays to the server at home, and keeps what came."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.heard = b""

    async def _relay(self, reader, writer):
        there, back = await asyncio.open_connection(HOME, self.port)

        async def pump(source, sink, keep):
            while data := await source.read(65536):
                self.heard += data if keep else b""
                sink.write(data)
            sink.close()

        try:
            await asyncio.gather(pump(reader, back, True), pump(there, writer, False))
        except OSError:
            pass
        finally:
            back.close()
            writer.close()


@asynccontextmanager
async def a_stranger(port: int):
    stranger = Stranger(port)
    server = await asyncio.start_server(stranger._relay, STRANGER, port)
    try:
        yield stranger
    finally:
        server.close()


class Names:
    """A resolver of which the test says what a name means."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.means = [HOME]
        self.asked = 0
        self._ask = asyncio.get_running_loop().getaddrinfo
        patch.setattr(asyncio.get_running_loop(), "getaddrinfo", self.getaddrinfo)
        patch.setattr("nexus.trust.is_own", lambda address: address == HOME)
        patch.setattr("nexus.trust.is_private", lambda address: address.startswith("192.168."))

    async def getaddrinfo(self, host, port, **kw):
        if host != UNHEARD:
            return await self._ask(host, port, **kw)
        self.asked += 1
        await asyncio.sleep(0)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in self.means]


@pytest.fixture
async def names(monkeypatch):
    return Names(monkeypatch)


@asynccontextmanager
async def home(nexus_gateway, names, type="vllm", **more):
    """A gateway with one server, reached by its name, that is at home, and the stranger."""
    async with vllm_server() as server, a_stranger(server.port) as stranger:
        tables = fleet(a_backend("box", f"http://{UNHEARD}:{server.port}", type, **more))
        gateway = await nexus_gateway(tables)
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny"))
        yield gateway, server, stranger


def zone(gateway) -> str:
    return gateway.gateway.fleet.standings["box"].member.zone


async def forget_connections(gateway) -> None:
    """As half a minute of silence does."""
    for connection in tuple(gateway.gateway.upstream._connections):
        connection.drop()
    await gateway.until(lambda: not gateway.gateway.upstream.open_connections)


async def told(gateway):
    return await ask(gateway, headers=RESTRICTED, messages=[{"role": "user", "content": SECRET}])


@pytest.mark.parametrize("means", [[STRANGER], [HOME, STRANGER], [STRANGER, HOME]])
@pytest.mark.parametrize("type", ["vllm", "auto"])
async def test_a_name_that_has_moved_gets_nothing_private_from_the_first_request_on(nexus_gateway, names, means, type):
    async with home(nexus_gateway, names, type) as (gateway, server, stranger):
        assert (await told(gateway)).status == 200
        assert zone(gateway) == "restricted"
        names.means = means
        for _ in range(3):
            await forget_connections(gateway)
            assert (await told(gateway)).status in (502, 503)
            assert zone(gateway) == "open"
        assert len(chats(server)) == 1
        assert SECRET.encode() not in stranger.heard
        assert (await ask(gateway)).status == 200  # what may leave goes on
        names.means = [HOME]
        await forget_connections(gateway)
        assert (await ask(gateway)).status == 200
        assert zone(gateway) == "restricted"
        assert (await told(gateway)).status == 200
        assert SECRET.encode() not in stranger.heard


async def test_many_that_connect_at_the_same_time_are_all_kept(nexus_gateway, names):
    async with home(nexus_gateway, names) as (gateway, server, stranger):
        await forget_connections(gateway)
        names.means = [STRANGER]
        said = await asyncio.gather(*(told(gateway) for _ in range(20)))
        assert {s.status for s in said} <= {502, 503}
        assert not chats(server)
        assert SECRET.encode() not in stranger.heard


async def test_a_connection_from_before_carries_nothing_private(nexus_gateway, names, monkeypatch):
    """The name led out, somebody who may was sent there, and now it leads home."""
    monkeypatch.setattr("nexus.finding.RESOLVE_SECONDS", 0.02)
    names.means = [STRANGER]
    async with home(nexus_gateway, names) as (gateway, _, stranger):
        assert zone(gateway) == "open"
        assert (await ask(gateway)).status == 200
        assert b"hello" in stranger.heard
        assert gateway.gateway.upstream.idle_connections == 1
        names.means = [HOME]
        await gateway.until(lambda: zone(gateway) == "restricted")
        assert gateway.gateway.upstream.idle_connections == 0
        assert (await told(gateway)).status == 200
        assert SECRET.encode() not in stranger.heard


async def test_a_connection_that_is_in_use_while_the_name_moves_serves_nobody_after(nexus_gateway, names, monkeypatch):
    monkeypatch.setattr("nexus.finding.RESOLVE_SECONDS", 0.02)
    names.means = [STRANGER]
    async with home(nexus_gateway, names) as (gateway, server, stranger):
        server.pace = type(server.pace)(first_token=0.5)
        asked = asyncio.get_running_loop().create_task(ask(gateway))
        await until(lambda: b"hello" in stranger.heard)
        names.means = [HOME]
        await gateway.until(lambda: zone(gateway) == "restricted")
        assert (await asked).status == 200
        server.pace = type(server.pace)()
        assert (await told(gateway)).status == 200
        assert SECRET.encode() not in stranger.heard


async def test_what_the_operator_wrote_is_about_the_name(nexus_gateway, names):
    async with home(nexus_gateway, names, zone="restricted") as (gateway, _, stranger):
        names.means = [STRANGER]
        await forget_connections(gateway)
        assert (await told(gateway)).status == 200
        assert SECRET.encode() in stranger.heard


async def test_another_at_home_takes_it(nexus_gateway, names):
    async with vllm_server() as server, vllm_server() as other, a_stranger(server.port) as stranger:
        tables = fleet(a_backend("box", f"http://{UNHEARD}:{server.port}", "vllm"), a_backend("other", other, "vllm"))
        gateway = await settled(await nexus_gateway(tables))
        names.means = [STRANGER]
        said = await told(gateway)
        assert (said.status, said.nexus("Backend")) == (200, "other")
        standing = gateway.gateway.fleet.standings["box"]
        assert (standing.pulse.health, standing.candidates()[0].failures) == ("healthy", 0)  # it is not unwell
        assert SECRET.encode() not in stranger.heard


@pytest.mark.parametrize("trusted", [["192.168.0.0/16", HOME], [UNHEARD], [UNHEARD.upper() + "."]])
async def test_one_that_was_found_by_its_name_is_watched_as_well(nexus_gateway, names, trusted):
    source = Told()
    async with vllm_server() as server, a_stranger(server.port) as stranger:
        gateway = await nexus_gateway({"discovery": {"sources": ["told"], "trusted": trusted}}, plugins=[source])
        source.queue.put_nowait(Sighting(url=f"http://{UNHEARD}:{server.port}", kind="vllm", name="box"))
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny"))
        assert (await told(gateway)).status == 200
        names.means = [STRANGER]
        await forget_connections(gateway)
        assert (await told(gateway)).status in (502, 503)
        assert SECRET.encode() not in stranger.heard
        source.queue.put_nowait(Sighting(url=f"http://{UNHEARD}:{server.port}", found=False))


async def test_an_own_address_that_becomes_somebody_elses_is_no_longer_home(nexus_gateway, names, monkeypatch):
    """The address was written as a number; it was this machine's, and its lease ran out."""
    monkeypatch.setattr("nexus.trust.is_own", lambda address: address in (HOME, STRANGER))
    async with vllm_server() as server, a_stranger(server.port) as stranger:
        gateway = await settled(await nexus_gateway(fleet(a_backend("box", f"http://{STRANGER}:{server.port}", "vllm"))))
        assert (await told(gateway)).status == 200
        stranger.heard = b""
        await forget_connections(gateway)
        monkeypatch.setattr("nexus.trust.is_own", lambda address: address == HOME)
        assert (await told(gateway)).status in (502, 503)
        assert SECRET.encode() not in stranger.heard


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_a_name_means_when_nothing_private_ever_goes_out(nexus_gateway, names, monkeypatch, seed):
    monkeypatch.setattr("nexus.finding.RESOLVE_SECONDS", 0.01)
    chance = random.Random(seed)
    async with home(nexus_gateway, names) as (gateway, server, stranger):
        server.any_model = True

        async def one() -> None:
            await asyncio.sleep(chance.random() * 0.5)
            await (told if chance.random() < 0.7 else ask)(gateway)

        async def moving() -> None:
            while True:
                names.means = chance.choice([[HOME], [STRANGER], [HOME, STRANGER]])
                await asyncio.sleep(chance.random() * 0.03)
                if chance.random() < 0.3:
                    for connection in tuple(gateway.gateway.upstream._connections):
                        if connection.answer is None:
                            connection.drop()

        mover = asyncio.get_running_loop().create_task(moving())
        await asyncio.gather(*(one() for _ in range(60)))
        mover.cancel()
        names.means = [STRANGER]  # whatever chance had brought: what may leave is sent there
        await forget_connections(gateway)
        stranger_before = len(stranger.heard)
        said = await ask(gateway)
        assert said.status == 200
        assert len(stranger.heard) > stranger_before
        assert SECRET.encode() not in stranger.heard
        assert chats(server)
