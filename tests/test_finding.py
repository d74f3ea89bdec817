"""How backends come and go: configured, recognised, found on loopback; found thrice, one is one.

The loopback source knocks on the usual ports too, and something of somebody else's may listen there: tests look at their own
doubles only, whose models have names that nobody else uses.
"""

import asyncio
import logging
from contextlib import asynccontextmanager, nullcontext
from urllib.parse import urlsplit

import pytest
from nexus_ollama import KIND

from nexus.api import Backend, BackendKind, Observer, Report, Sighting, Source, SourceKind, hookimpl, opens, replace
from nexus.model import Joined, Model
from nexus.testing import (
    Held,
    Respond,
    ScriptedUpstream,
    llamacpp_server,
    ollama_server,
    openai_server,
    vllm_server,
)
from nexus.testing.gateway import running_gateway

from .asking import a_backend, ask, chats, fleet, page, settled


def names(gateway) -> list[str]:
    return list(gateway.gateway.fleet.standings)


def at(gateway, *servers) -> list[str]:
    """What the backends at these servers are called."""
    ports = {server.port for server in servers}
    return [name for name, s in gateway.gateway.fleet.standings.items() if urlsplit(s.member.url).port in ports]


async def within(seconds: float, predicate) -> None:
    """Fails unless it is true in so many seconds, not counting those in which a busy machine gave this process no turn."""
    now, counted = asyncio.get_running_loop().time, 0.0
    while not predicate():
        before = now()
        await asyncio.sleep(0.01)
        counted += min(now() - before, 0.03)
        assert counted < seconds


def on_loopback(*servers, **tables):
    return {"discovery": {"sources": ["loopback"]}, "loopback": {"ports": [s.port for s in servers]}, **tables}


async def round_of_knocking(server) -> None:
    """Until the source has knocked on this server once more."""
    before = server.connections
    await server.until(lambda: server.connections > before)


# ---------------------------------------------------------------- zero configuration


@pytest.mark.parametrize("first", ["server", "gateway"])
async def test_a_server_appears_and_goes_within_three_seconds_of_either_side(nexus_gateway, first):
    async with ollama_server(["mine:latest"]) as ollama, vllm_server(["mine-too"]) as vllm:
        if first == "gateway":
            ollama.stop_listening()
            vllm.stop_listening()
        gateway = await nexus_gateway(on_loopback(ollama, vllm))
        if first == "gateway":
            assert (await ask(gateway, "mine")).status == 503
            await ollama.start_listening()
            await vllm.start_listening()
        await within(3, lambda: gateway.gateway.fleet.find("mine") and gateway.gateway.fleet.find("mine-too"))
        said = await ask(gateway, "mine", headers={"X-Nexus-Zone": "restricted"})
        assert (said.status, [said.nexus("Backend")]) == (200, at(gateway, ollama))
        ollama.kill()
        await within(3, lambda: not at(gateway, ollama))
        assert not gateway.gateway.fleet.find("mine")
        assert (await ask(gateway, "mine-too")).status == 200
        await ollama.start_listening()
        await within(3, lambda: gateway.gateway.fleet.find("mine"))


async def test_what_is_found_is_told_with_its_evidence(nexus_gateway):
    async with llamacpp_server() as server, openai_server(["other"]) as stranger:
        gateway = await nexus_gateway(on_loopback(server, stranger))
        await gateway.until(lambda: len(at(gateway, server, stranger)) == 2)
        shown = {b["url"]: b for b in (await page(gateway, "/nexus/backends")).json["backends"]}
    llama, other = shown[server.url], shown[stranger.url]
    assert (llama["source"], llama["type"], llama["zone"]) == ("loopback", "llamacpp", "restricted")
    assert "found on loopback" in llama["zone_evidence"]
    assert (other["type"], other["zone"], other["location"]) == ("openai-compatible", "open", "local")


async def test_two_of_a_kind_get_names_of_their_own(nexus_gateway):
    async with openai_server(["a"]) as one, openai_server(["b"]) as two:
        gateway = await nexus_gateway(on_loopback(one, two))
        await gateway.until(lambda: len(at(gateway, one, two)) == 2)
        first, second = at(gateway, one, two)
        assert first != second
        assert first.startswith("openai-compatible")
        assert second.startswith("openai-compatible-")


async def test_what_is_no_inference_server_is_asked_politely_and_never_joins(nexus_gateway):
    async with ScriptedUpstream() as stranger, openai_server() as server:
        gateway = await nexus_gateway(on_loopback(stranger, server))
        await gateway.until(lambda: at(gateway, server))
        await stranger.until(lambda: stranger.finished > 3)
        assert not at(gateway, stranger)
        assert {r.method for r in stranger.requests} == {"GET"}


async def test_a_server_that_still_loads_joins_when_it_says_who_it_is(nexus_gateway):
    async with llamacpp_server(loading=True) as server:
        gateway = await nexus_gateway(on_loopback(server))
        await server.until(lambda: server.finished > 1)
        assert not at(gateway, server)
        server.loading = False
        await gateway.until(lambda: at(gateway, server), timeout=6)


# ---------------------------------------------------------------- one server is one backend


async def test_configured_twice_and_found_once_more_is_one(nexus_gateway, caplog):
    async with openai_server(["mine"]) as server:
        tables = on_loopback(server)
        twins = [a_backend("by-name", f"http://localhost:{server.port}/v1"), a_backend("by-address", server)]
        with caplog.at_level(logging.WARNING, "nexus.discovery"):
            gateway = await settled(await nexus_gateway(fleet(*twins, **tables)))
        await round_of_knocking(server)
        assert at(gateway, server) == ["by-name"]
        assert "by-name and by-address are one server" in caplog.text
        assert (await ask(gateway, "mine")).nexus("Backend") == "by-name"


async def test_one_address_may_be_several_by_path_by_key_or_by_models(nexus_gateway, monkeypatch):
    monkeypatch.setenv("KEY_A", "a")
    async with openai_server(["x", "y"]) as server:
        tables = [
            a_backend("plain", server, models=["x"]),
            a_backend("other-models", server, models=["y"]),
            a_backend("other-key", server, models=["x"], api_key_env="KEY_A"),
            a_backend("other-path", server.url + "/proxied", models=["x"]),
        ]
        gateway = await settled(await nexus_gateway(fleet(*tables)))
        assert names(gateway) == ["plain", "other-models", "other-key", "other-path"]


async def test_a_backend_whose_key_is_not_there_is_unhealthy_asked_nothing_and_keeps_nobody_from_serving(nexus_gateway, caplog):
    async with openai_server(["mine"]) as server, openai_server(["far"]) as cloud:
        tables = [a_backend("home", server), a_backend("cloud", cloud, api_key_env="NOWHERE_KEY")]
        gateway = await settled(await nexus_gateway({"backends": tables}))
        standing = gateway.gateway.fleet.standings["cloud"]
        assert standing.pulse.health == "unhealthy"
        assert "NOWHERE_KEY is not set" in standing.problem
        assert "cloud is unhealthy: the variable NOWHERE_KEY is not set" in caplog.text
        assert cloud.requests == []
        assert (await ask(gateway, "mine")).nexus("Backend") == "home"


async def test_an_auto_backend_is_recognised_and_a_later_one_too(nexus_gateway):
    async with vllm_server() as server, ollama_server(["llama3:latest"]) as late:
        late.stop_listening()
        tables = [{"name": "one", "url": server.url + "/v1"}, {"name": "late", "url": late.url, "tier": 3}]
        gateway = await nexus_gateway({"backends": tables})
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny") and gateway.gateway.fleet.settled)
        await late.start_listening()
        await gateway.until(lambda: gateway.gateway.fleet.find("llama3"))
        kinds = {name: (s.member.kind, s.member.zone, s.member.tier) for name, s in gateway.gateway.fleet.standings.items()}
    assert kinds == {"one": ("vllm", "restricted", 1), "late": ("ollama", "restricted", 3)}


async def test_an_auto_backend_that_is_off_is_shown_like_any_other(nexus_gateway, monkeypatch):
    monkeypatch.setattr("nexus.probing.UNWELL_SECONDS", 0.1)
    async with ollama_server(["llama3:latest"]) as server, ScriptedUpstream() as stranger:
        server.stop_listening()
        tables = [{"name": "off", "url": server.url + "/v1"}, {"name": "strange", "url": stranger.url}]
        gateway = await settled(await nexus_gateway({"backends": tables}))
        shown = {b["name"]: b for b in (await page(gateway, "/nexus/backends")).json["backends"]}
        assert {(b["type"], b["health"], len(b["models"])) for b in shown.values()} == {("auto", "unhealthy", 0)}
        assert shown["off"]["problem"] == f"refused the connection at {server.url}"
        assert shown["strange"]["problem"].startswith(f"answers at {stranger.url}, but as no installed type")
        health = (await page(gateway, "/health")).json
        assert health["status"] == "unhealthy"
        assert health["backends"] == {"total": 2, "healthy": 0, "unhealthy": 2, "unknown": 0, "suspended": 0}
        said = await ask(gateway, "llama3")
        assert (said.status, said.error["code"]) == (503, "backends_unavailable")
        assert "off" in said.error["message"]
        await server.start_listening()
        await gateway.until(lambda: gateway.gateway.fleet.find("llama3"))
        assert sorted(names(gateway)) == ["off", "strange"]
        assert gateway.gateway.fleet.standings["off"].member.kind == "ollama"
        assert (await ask(gateway, "llama3")).status == 200


async def test_a_name_that_comes_to_mean_a_public_address_loses_its_proven_zone(nexus_gateway, monkeypatch):
    monkeypatch.setattr("nexus.finding.RESOLVE_SECONDS", 0.05)
    async with openai_server() as server, vllm_server() as proven:
        tables = [a_backend("box", f"http://localhost:{proven.port}", "vllm"), a_backend("number", server)]
        gateway = await settled(await nexus_gateway(fleet(*tables)))
        standing = gateway.gateway.fleet.standings["box"]
        assert standing.member.zone == "restricted"

        async def moved(host, port):
            return ("203.0.113.7",)

        monkeypatch.setattr("nexus.finding.addresses_of", moved)
        await gateway.until(lambda: standing.member.zone == "open")
        assert "203.0.113.7" in standing.member.zone_evidence


async def test_a_gateway_that_stops_does_not_say_that_its_finds_are_gone(tmp_path, caplog):
    caplog.set_level(logging.INFO, "nexus.discovery")
    async with openai_server() as server:
        async with running_gateway(on_loopback(server), state_dir=tmp_path) as gateway:
            await gateway.until(lambda: at(gateway, server))
        assert "found openai-compatible" in caplog.text
        assert "is gone" not in caplog.text


async def test_a_configured_backend_that_is_seen_to_come_or_go_is_asked_at_once(nexus_gateway):
    async with openai_server() as server:
        tables = on_loopback(server, health={"interval_seconds": 3600, "failure_threshold": 1})
        gateway = await settled(await nexus_gateway(fleet(a_backend("one", server), **tables)))
        await round_of_knocking(server)
        server.kill()
        standing = gateway.gateway.fleet.standings["one"]
        await gateway.until(lambda: standing.pulse.health == "unhealthy", timeout=6)
        assert at(gateway, server) == ["one"]


# ---------------------------------------------------------------- sources from plugins


class Told(Source):
    """Says what a test tells it."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Sighting | Exception] = asyncio.Queue()

    async def watch(self):
        while True:
            item = await self.queue.get()
            if isinstance(item, Exception):
                raise item
            yield item

    @hookimpl
    def nexus_sources(self):
        yield SourceKind(name="told", open=opens(lambda options, scope: self))


async def told_gateway(nexus_gateway, **discovery):
    source = Told()
    config = {"discovery": {"sources": ["told"], **discovery}, "balance": {"strategy": "priority"}}
    return source, await nexus_gateway(config, plugins=[source])


async def test_what_a_source_finds_is_not_trusted_unless_the_operator_says_so(nexus_gateway):
    async with ollama_server(["llama3:latest"]) as server:
        for trusted, zone in (((), "open"), (("127.0.0.0/8",), "restricted"), (("LOCALHOST",), "restricted")):
            source, gateway = await told_gateway(nexus_gateway, trusted=list(trusted))
            source.queue.put_nowait(Sighting(url=f"http://localhost:{server.port}", kind="ollama", name="box"))
            await gateway.until(lambda gateway=gateway: gateway.gateway.fleet.find("llama3"))
            (candidate,) = gateway.gateway.fleet.standings["box"].candidates()
            assert candidate.zone == zone, trusted
            said = await ask(gateway, "llama3", headers={"X-Nexus-Zone": "restricted"})
            assert said.status == (200 if zone == "restricted" else 503)
        assert len(chats(server)) == 2


async def test_a_source_may_repeat_itself_and_crash(nexus_gateway, caplog):
    async with openai_server() as server:
        source, gateway = await told_gateway(nexus_gateway)
        events = []
        gateway.gateway.witnesses.call([("test", type("See", (Observer,), {"see": lambda self, event: events.append(event)})())])
        for url in (server.url, server.url + "/", f"http://localhost:{server.port}", f"http://127.0.0.2:{server.port}/v1"):
            source.queue.put_nowait(Sighting(url=url, kind="openai-compatible"))
        source.queue.put_nowait(Sighting(url="http://127.0.0.1:9", found=False))
        source.queue.put_nowait(RuntimeError("the network is gone"))
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny") and "crashed" in caplog.text)
        assert [e.backend for e in events if isinstance(e, Joined)] == ["openai-compatible"]
        assert (await ask(gateway)).status == 200


async def test_a_source_that_crashed_is_asked_anew(nexus_gateway, monkeypatch):
    monkeypatch.setattr("nexus.tasks.FIRST_PAUSE_SECONDS", 0.01)
    async with openai_server() as server:
        source, gateway = await told_gateway(nexus_gateway)
        source.queue.put_nowait(RuntimeError("the network is gone"))
        source.queue.put_nowait("no sighting at all")
        source.queue.put_nowait(Sighting(url=None))
        source.queue.put_nowait(Sighting(url=server.url, kind="openai-compatible"))
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny"))
        health = (await page(gateway, "/health")).json
        assert health["status"] == "degraded"
        assert "RuntimeError" in health["problems"]["source told"]
        assert "network" not in str(health)  # anybody may read it
        assert (await ask(gateway)).status == 200


class Muddled(Backend):
    """Reports what no fleet can read, once it is told to."""

    def __init__(self) -> None:
        self.report = Report(ok=True, models=(Model(id="tiny"),))

    async def probe(self):
        return self.report

    async def send(self, call):
        raise AssertionError("nobody asks")

    @hookimpl
    def nexus_backends(self):
        yield BackendKind(name="muddled", open=lambda server, options, scope: nullcontext(self), default_url="http://127.0.0.1:9")


@pytest.mark.parametrize("models", [("no model",), (None,), 7, (Model(id=["tiny"]),)])
async def test_a_report_that_cannot_be_read_is_an_ill_backend_that_is_asked_again(nexus_gateway, monkeypatch, models):
    monkeypatch.setattr("nexus.tasks.FIRST_PAUSE_SECONDS", 0.01)
    plugin = Muddled()
    tables = fleet({"name": "one", "type": "muddled"}, health={"failure_threshold": 1, "recovery_threshold": 1})
    gateway = await settled(await nexus_gateway(tables, plugins=[plugin]))
    standing = gateway.gateway.fleet.standings["one"]
    plugin.report = Report(ok=True, models=models)
    gateway.gateway.fleet.doubted("one")
    await gateway.until(lambda: standing.pulse.health == "unhealthy")
    assert "probe one" in (await page(gateway, "/health")).json["problems"]
    plugin.report = Report(ok=True, models=(Model(id="tiny"),))
    await gateway.until(lambda: standing.pulse.health == "healthy" and gateway.gateway.fleet.find("tiny"))


async def test_one_that_is_lost_while_it_answers_finishes_its_answer(nexus_gateway):
    async with openai_server() as server:
        source, gateway = await told_gateway(nexus_gateway)
        source.queue.put_nowait(Sighting(url=server.url, kind="openai-compatible"))
        await gateway.until(lambda: gateway.gateway.fleet.find("tiny"))
        gate = asyncio.Event()
        server.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path="/v1/chat/completions")
        asking = asyncio.get_running_loop().create_task(ask(gateway))
        await server.until(lambda: server.in_flight == 1)
        source.queue.put_nowait(Sighting(url=server.url, found=False))
        await gateway.until(lambda: names(gateway) == [])
        gate.set()
        assert (await asking).status == 200
        assert (await ask(gateway)).error["code"] == "backends_unavailable"


class Gated(Told):
    """A kind that takes its time to open, beside the source."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()

    @hookimpl
    def nexus_backends(self):
        @asynccontextmanager
        async def open_(server, options, scope):
            await self.gate.wait()
            async with KIND.open(server, options, scope) as backend:
                yield backend

        yield replace(KIND, name="gated", open=open_, fingerprints=())


async def test_two_that_are_welcomed_at_the_same_time_are_two(nexus_gateway):
    source = Gated()
    async with ollama_server(["a"]) as one, ollama_server(["b"]) as two:
        gateway = await nexus_gateway({"discovery": {"sources": ["told"]}}, plugins=[source])
        for server in (one, two):
            source.queue.put_nowait(Sighting(url=server.url, kind="gated", name="box"))
        await gateway.until(source.queue.empty)
        source.gate.set()
        await gateway.until(lambda: len(at(gateway, one, two)) == 2)
        assert "box" in names(gateway)


async def test_one_that_is_lost_while_it_is_welcomed_does_not_stay(nexus_gateway):
    source = Gated()
    async with ollama_server() as gone, ollama_server() as stays:
        gateway = await nexus_gateway({"discovery": {"sources": ["told"]}}, plugins=[source])
        source.queue.put_nowait(Sighting(url=gone.url, kind="gated"))
        source.queue.put_nowait(Sighting(url=gone.url, kind="gated", found=False))
        source.queue.put_nowait(Sighting(url=stays.url, kind="gated"))
        await gateway.until(source.queue.empty)
        source.gate.set()
        await gateway.until(lambda: at(gateway, stays))
        assert not at(gateway, gone)
        assert names(gateway) == ["gated"]
