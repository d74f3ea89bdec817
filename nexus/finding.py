"""Servers become members of the fleet: those of the configuration, and those that sources find.  Found thrice, one is one.

How a server is recognised is in `discovery`, which zone it gets in `trust`, how it is probed in `probing`.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Hashable
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit

import attrs

from nexus import advice
from nexus.api import Backend, BackendKind, Check, Fingerprint, Report, Server, Sighting, Source, Zone
from nexus.catalog import Catalog
from nexus.components import Ground, open_backend
from nexus.config import BackendConfig, Config, ModelConfig
from nexus.crossing import sighting_of, without_secrets
from nexus.discovery import Recognised, addresses_of, folded, identity, is_address, is_private, recognise
from nexus.errors import StartupError
from nexus.fleet import Fleet, Member
from nexus.listing import Override, declared
from nexus.patience import Timeouts
from nexus.probing import Prober, Turns
from nexus.state import Store
from nexus.tasks import Tasks
from nexus.trust import Proof, Trusted, Watched
from nexus.unrecognised import AUTO, Keyless, Unrecognised
from nexus.upstream.guards import Guarded

AGAIN_SECONDS = 2.0  # until something that listens but was not recognised is asked again
SELDOM_SECONDS = 30.0  # the same, once it has been asked often
OFTEN = 10
QUICK_SECONDS, SLOW_SECONDS = 2.0, 10.0
NEXUS = "nexus"
# A Nexus found on the way, this one included, is no backend: requests would go round in circles.
_NEXUS = Fingerprint(ports=(), checks=(Check(path="/health", json="backends.unknown"),), rank=0)
RESOLVE_SECONDS = 10.0  # until a name is resolved again: it may resolve now, or mean another machine

Identity = tuple[str, int]


class Found:
    """A server that a source saw: recognised or not, its own stack and tasks."""

    def __init__(self, tasks: Tasks) -> None:
        self.stack = AsyncExitStack()
        self.tasks = tasks
        self.name: str | None = None
        self.told = False


class Finder:
    """Brings backends in and lets them go.  `open` those configured, then `follow` every source."""

    def __init__(
        self, config: Config, catalog: Catalog, ground: Ground, fleet: Fleet, prober: Prober, store: Store, tasks: Tasks
    ) -> None:
        self._config = config
        self._catalog = catalog
        self._ground = ground
        self._fleet = fleet
        self._prober = prober
        self._store = store
        self._tasks = tasks
        self._log = logging.getLogger("nexus.discovery")
        self._trusted = Trusted(config.discovery.trusted)
        self._configured: dict[Identity, str] = {}
        self._found: dict[Identity, Found] = {}
        self._fingerprints = tuple((kind.name, print_) for kind in catalog.backends.values() for print_ in kind.fingerprints)
        self._strangers = ((NEXUS, _NEXUS), *self._fingerprints)

    # ------------------------------------------------------------ configured

    async def open(self, stack: AsyncExitStack) -> None:
        """Every configured backend joins; one of type `auto` as soon as it is recognised."""
        places = await asyncio.gather(*(self._place(b) for b in self._config.backends))
        servers: dict[Hashable, str] = {}
        for backend, place in zip(self._config.backends, places, strict=True):
            self._configured.setdefault(place, backend.name)
            first = servers.setdefault(_server(backend, place), backend.name)
            if first != backend.name:
                self._log.warning("%s and %s are one server, %s:%s: %s is left out", first, backend.name, *place, backend.name)
            elif backend.type == "auto":
                self._tasks.spawn(partial(self._recognised_later, backend, place, stack), f"recognise {backend.name}")
            else:
                await self._admit(backend, self._catalog.backends[backend.type], place, stack)

    async def _place(self, backend: BackendConfig) -> Identity:
        url = backend.url or self._catalog.backends[backend.type].default_url or ""
        return await _identity(url)

    async def _recognised_later(self, backend: BackendConfig, place: Identity, stack: AsyncExitStack) -> None:
        """Until it says what it is, it is a member like any other: of type `auto`, without models, unhealthy."""
        server = self._server_of(backend, backend.url, None, await _addresses(backend.url or ""))
        unknown = Unrecognised(server, self._ground.scope(server.name, self._tasks.spawn))
        zone, why = _written(backend.zone) or (Zone.OPEN, "it has not said yet what it is")
        self._fleet.leave(server.name)  # where this begins again after a crash
        member = Member(
            name=server.name,
            kind=AUTO,
            url=server.url,
            backend=unknown,
            zone=zone,
            zone_evidence=why,
            models=backend.models,
            overrides=tuple(_override(m) for m in backend.overrides),
        )
        self._fleet.join(member)
        with self._prober.turns(server.name) as turns:
            while (seen := await self._recognised(server, unknown, turns)) is None:
                await turns.rest(turns.pause())
        self._log.info("%s is of type %s: %s", server.name, seen.kind, seen.evidence)
        try:
            await self._admit(backend, self._catalog.backends[seen.kind], place, stack)
        except StartupError as error:
            self._fleet.report(server.name, Report(ok=False, code="unrecognised", problem=str(error)), 0.0)

    async def _recognised(self, server: Server, unknown: Unrecognised, turns: Turns) -> Recognised | None:
        began = self._ground.clock.now()
        with turns.question():
            seen = await recognise(
                server.url, self._fingerprints, self._ground.session(), key=server.key, timeout=_patience(turns.misses)
            )
            if seen is None:
                report = without_secrets(await unknown.probe(), unknown.secrets())
                self._fleet.report(server.name, report, self._ground.clock.now() - began)
        return seen

    async def _admit(self, backend: BackendConfig, kind: BackendKind, place: Identity, stack: AsyncExitStack) -> None:
        url = backend.url or kind.default_url or ""
        addresses = await _addresses(url)
        server = self._server_of(backend, url, kind.name, addresses)
        if backend.without_key:
            component: Backend = Keyless(f"{backend.without_key} (api_key_env): start Nexus again with it")
        else:
            component = await open_backend(self._ground, kind, server, backend.options, stack)
        proof = self._proof(server.url, kind, "the configuration names it")
        zone, evidence = _written(backend.zone) or proof.zone(addresses)
        member = Member(
            name=backend.name,
            kind=kind.name,
            url=server.url,
            backend=component,
            zone=zone,
            zone_evidence=evidence,
            cloud=kind.cloud,
            tier=backend.tier or 1,
            priority=backend.priority,
            capacity=backend.max_concurrent,
            default_capacity=kind.capacity,
            slots=kind.slots,
            any_spelling=kind.any_spelling,
            forwards=kind.forwards,
            timeouts=_timeouts(backend, connect=backend.connect_timeout_seconds),
            models=backend.models,
            overrides=tuple(_override(m) for m in backend.overrides),
            speaks=kind.speaks,
        )
        await self._join(member, self._tasks)
        if backend.zone is None:
            self._watch(member, proof, self._tasks, stack)

    def _server_of(self, backend: BackendConfig, url: str | None, kind: str | None, addresses: tuple[str, ...]) -> Server:
        return Server(
            name=backend.name,
            url=(url or "").rstrip("/"),
            key=backend.key,
            declared=declared(backend.models, (model.id for model in backend.overrides)),
            refused=advice.refused(self._catalog.backends, kind, url or "", addresses),
        )

    def _proof(self, url: str, kind: BackendKind, vouched: str | None) -> Proof:
        host = urlsplit(url).hostname or ""
        return Proof(
            host=host, kind=kind.name, runs_models=kind.runs_models, cloud=kind.cloud, vouched=vouched, trusted=self._trusted
        )

    def _watch(self, member: Member, proof: Proof, tasks: Tasks, stack: AsyncExitStack) -> None:
        """A zone that was proven by the server's address is proven anew before each connection, and now and then."""
        if not proof.runs_models:
            return
        guarded = self._ground.guard(member.url, Watched(proof, member.zone, partial(self._moved, member.name)))
        stack.callback(guarded.close)
        if not is_address(proof.host):
            tasks.spawn(partial(self._resolve_again, member.name, member.url, guarded), f"resolve {member.name}")

    def _moved(self, name: str, zone: Zone, evidence: str) -> None:
        standing = self._fleet.standings.get(name)
        if standing is not None and standing.member.zone is not zone:
            self._log.warning("%s is %s from now on: %s", name, zone.value, evidence)
        self._fleet.place(name, zone, evidence)

    async def _resolve_again(self, name: str, url: str, guarded: Guarded) -> None:
        """So that the zone is right before somebody wants to be sent there: a name may come to mean another machine."""
        while True:
            await asyncio.sleep(RESOLVE_SECONDS)
            found = await _addresses(url)
            if found:  # unknown for a moment: nothing can be sent there either
                self._configured.setdefault((folded(found), _origin(url)[1]), name)
                guarded.resolved(found)

    async def _join(self, member: Member, tasks: Tasks) -> None:
        self._fleet.leave(member.name)  # where it was there already, unrecognised
        self._fleet.join(member)
        await self._fleet.remember(member.name, self._store.models(member.url))
        tasks.spawn(partial(self._prober.run, member), f"probe {member.name}")

    # ------------------------------------------------------------ found

    async def follow(self, name: str, source: Source) -> None:
        """Act on a source's sightings until it ends.  What it has found stays where it crashes."""
        async for sighting in source.watch():
            try:
                seen = sighting_of(attrs.evolve(sighting, source=sighting.source or name))
                if seen is not None:
                    await self._seen(seen)
                else:
                    self._log.warning("the source %s saw a server at what is no URL: %.100r", name, sighting.url)
            except Exception:  # one that makes no sense costs the source none of the others
                self._log.exception("what the source %s has seen could not be followed", name)

    async def _seen(self, sighting: Sighting) -> None:
        place = await _identity(sighting.url)
        if place in self._configured:
            self._prober.doubt(self._configured[place])
        elif sighting.found and place not in self._found:
            found = self._found[place] = Found(Tasks(self._log, self._ground.problems))
            self._tasks.spawn(partial(self._welcome, found, sighting, place), f"recognise {sighting.url}")
        elif not sighting.found and place in self._found:
            await self._lost(place)

    async def _welcome(self, found: Found, sighting: Sighting, place: Identity) -> None:
        """Ask until the server says what it is, or is lost."""
        for tries in itertools.count(1):
            kind, evidence = sighting.kind, sighting.evidence
            if kind is None:
                session, tell = self._ground.session(), partial(self._keyed, found, sighting.url)
                seen = await recognise(sighting.url, self._strangers, session, timeout=_patience(tries - 1), keyed=tell)
                kind, evidence = (seen.kind, seen.evidence) if seen else (None, "")
            if self._found.get(place) is not found or kind == NEXUS:
                return
            if kind is not None and kind in self._catalog.backends:
                await self._welcomed(found, sighting, place, self._catalog.backends[kind], evidence)
                return
            await asyncio.sleep(AGAIN_SECONDS if tries < OFTEN else SELDOM_SECONDS)

    def _keyed(self, found: Found, url: str) -> None:
        """Said once: it is found on the way, and nobody may have asked for it."""
        if not found.told:
            found.told = True
            self._log.info("%s", advice.keyed(url))

    async def _welcomed(self, found: Found, sighting: Sighting, place: Identity, kind: BackendKind, evidence: str) -> None:
        by_loopback = sighting.source == "loopback" and is_private(place[0])
        proof = self._proof(sighting.url, kind, "found on loopback" if by_loopback else None)
        # taken before anything is awaited: another of the kind may be welcomed at the same time
        name = found.name = self._free_name(sighting.name or kind.name, place)
        server = Server(name=name, url=sighting.url.rstrip("/"))
        try:
            component = await open_backend(self._ground, kind, server, None, found.stack)
        except StartupError as error:
            found.name = None
            self._log.warning("found %s at %s, but: %s", kind.name, sighting.url, error)
            return
        addresses = await _addresses(sighting.url)
        if self._found.get(place) is not found:  # lost while it was opened
            await found.stack.aclose()
            return
        self._log.info("found %s at %s: %s", kind.name, sighting.url, evidence)
        zone, why = proof.zone(addresses)
        member = Member(
            name=name,
            kind=kind.name,
            url=server.url,
            backend=component,
            source=sighting.source,
            zone=zone,
            zone_evidence=why,
            cloud=kind.cloud,
            default_capacity=kind.capacity,
            slots=kind.slots,
            any_spelling=kind.any_spelling,
            forwards=kind.forwards,
        )
        await self._join(member, found.tasks)
        self._watch(member, proof, found.tasks, found.stack)

    def _free_name(self, wanted: str, place: Identity) -> str:
        found = {f.name for f in self._found.values()}
        taken = {b.name for b in self._config.backends} | set(self._fleet.standings) | found
        for name in (wanted, f"{wanted}-{place[1]}", f"{wanted}-{place[0]}-{place[1]}"):
            if name not in taken:
                return name
        return f"{wanted}-{len(taken)}"

    async def _lost(self, place: Identity) -> None:
        found = self._found.pop(place)
        if found.name is not None:
            self._log.info("%s is gone", found.name)
        await self._let_go(found)

    async def _let_go(self, found: Found) -> None:
        if found.name is not None:
            self._fleet.leave(found.name)
        await found.tasks.close()
        try:
            await found.stack.aclose()
        except Exception:
            self._log.exception("%s could not be closed", found.name)

    async def close(self) -> None:
        """Let go of all that was found.  It is the gateway that goes, so nothing is said of them."""
        while self._found:
            await self._let_go(self._found.popitem()[1])


def _patience(tries: int) -> float:
    """Seconds for all questions of one round: some servers take long for their first list."""
    return QUICK_SECONDS if tries < 2 else SLOW_SECONDS


def _written(zone: Zone | None) -> tuple[Zone, str] | None:
    return None if zone is None else (zone, "the configuration says so")


def _server(backend: BackendConfig, place: Identity) -> Hashable:
    """What two tables of one server share.  One address may serve several: by path, by TLS name, or by key.  Two tables that
    name different models of one server are meant as two."""
    parts = urlsplit(backend.url or backend.type)
    host = parts.hostname if parts.scheme == "https" else None
    return place, host, parts.path.rstrip("/").removesuffix("/v1"), backend.key, backend.models


async def _identity(url: str) -> Identity:
    return await identity(*_origin(url))


async def _addresses(url: str) -> tuple[str, ...]:
    return await addresses_of(*_origin(url))


def _origin(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _override(model: ModelConfig) -> Override:
    offers = None if model.capabilities is None else dict.fromkeys(model.capabilities, True)
    return Override(
        id=model.id,
        name=model.name,
        offers=offers,
        context=model.context,
        max_output_tokens=model.max_output_tokens,
        tier=model.tier,
        zone=model.zone,
        price=model.price,
        capacity=model.max_concurrent,
        timeouts=_timeouts(model),
    )


def _timeouts(table: BackendConfig | ModelConfig, connect: float | None = None) -> Timeouts | None:
    """What a table says of how long things may take; None where it says nothing."""
    written = Timeouts(
        connect=connect,
        first_byte=table.first_byte_timeout_seconds,
        answer=table.answer_timeout_seconds,
        idle=table.idle_timeout_seconds,
    )
    return None if written == Timeouts() else written
