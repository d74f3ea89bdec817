"""Puts a gateway together: opens everything in order, closes it in reverse.  No HTTP comes in here, no request is judged."""

from __future__ import annotations

import functools
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec

from nexus import decision, waiting
from nexus.api import Clock, Dialect, Routes
from nexus.attempt import Attempts, Turn
from nexus.catalog import Catalog
from nexus.clock import LoopClock
from nexus.components import Components, Ground, Sessions
from nexus.config import Config, PolicyConfig, active_stages
from nexus.decision import Decider
from nexus.dialects.userids import Pseudonyms
from nexus.dialects.ways import Ways
from nexus.dispatch import Dispatcher
from nexus.errors import CRASHES_OF_A_CALL
from nexus.finding import Finder
from nexus.fleet import Fleet
from nexus.health import Limits as HealthLimits
from nexus.keys import Keyring
from nexus.model import Demand, Event, Zone
from nexus.names import Names
from nexus.outcome import FailureTable
from nexus.patience import Patience
from nexus.policies import Policies, Policy
from nexus.probing import Pace, Prober
from nexus.routing import Pipeline
from nexus.state import Store
from nexus.tasks import Tasks
from nexus.upstream import Pool
from nexus.waiting import Waiting
from nexus.witnesses import Witnesses

LOG = logging.getLogger("nexus")


class Runtime(msgspec.Struct, frozen=True, kw_only=True):
    """What a request reads of the configuration: one value, read once, so that a request sees one configuration only.

    `enforced` are the policy words that the active stages keep.
    """

    config: Config
    pipeline: Pipeline
    names: Names
    dispatcher: Dispatcher
    keyring: Keyring
    dialects: Mapping[str, Dialect]
    enforced: frozenset[str]


class Gateway:
    """A running gateway.  `components` are the opened stages, dialects, sources, observers and routes by name, `problems` what is
    wrong with what runs in the background, by its name."""

    def __init__(self, config: Config, catalog: Catalog) -> None:
        self.config = config
        self.catalog = catalog
        self.clock: Clock = LoopClock()
        self.started = self.clock.now()
        self.witnesses = Witnesses()
        self.pipeline = Pipeline(())
        self.fleet = Fleet(self.clock.now, self.tell, _health(config))
        self.waiting: Waiting[Turn] = Waiting(_bounds(config), self.clock.now, self.tell, self.fleet)
        self.fleet.freed = self.waiting.freed
        self.fleet.changed = self.waiting.changed
        self.components: dict[str, Any] = {}
        self.problems: dict[str, str] = {}
        self.routes: tuple[Routes, ...] = ()
        self.upstream = Pool(clock=self.clock.now, connect_timeout=config.upstream.connect_timeout_seconds)
        self.runtime: Runtime
        self.store: Store
        self.prober: Prober
        self.draining = False

    def tell(self, event: Event) -> None:
        """Every event goes to every stage that learns, at once, and to every observer as soon as this turn of the loop is over."""
        for name, learn in self.pipeline.learners(type(event)):
            try:
                learn(event)
            except CRASHES_OF_A_CALL as error:
                self.pipeline.failed_to_learn(name, event)
                LOG.error("the stage %s failed to learn of %s", name, type(event).__name__, exc_info=error)
        self.witnesses.tell(event)

    @property
    def under_way(self) -> int:
        """How many requests hold a slot or wait for one."""
        return sum(standing.in_flight for standing in self.fleet.standings.values()) + len(self.waiting)

    @property
    def ready(self) -> bool:
        """Whether every backend has been asked once and one of them can serve."""
        return not self.draining and self.fleet.settled and any(s.pulse.health == "healthy" for s in self.fleet.standings.values())


@asynccontextmanager
async def open_gateway(config: Config, catalog: Catalog, state_dir: Path | None) -> AsyncIterator[Gateway]:
    """A running gateway; leaving the context closes all of it.  Raises StartupError with one clear sentence.

    `state_dir` None keeps nothing beyond this process.
    """
    async with AsyncExitStack() as stack:
        gateway = Gateway(config, catalog)
        store = gateway.store = Store(state_dir, gateway.problems, LOG)
        stack.callback(store.close)
        tasks = Tasks(LOG, gateway.problems)
        sessions = Sessions()
        stack.push_async_callback(sessions.close)
        stack.push_async_callback(gateway.upstream.close)
        ground = Ground(
            clock=gateway.clock,
            upstream=gateway.upstream,
            guard=gateway.upstream.guard,
            session=sessions,
            changed=gateway.waiting.pump,
            state_dir=lambda: store.directory,
            problems=gateway.problems,
            fingerprints=tuple(print_ for kind in catalog.backends.values() for print_ in kind.fingerprints),
        )
        await _open_components(gateway, Components(ground, config.options, stack))
        stack.callback(gateway.witnesses.show)
        gateway.runtime = await _runtime(gateway, store)
        gateway.fleet.named = gateway.runtime.names.policies.same
        _remember(gateway.runtime.names.policies, config, store)
        prober = gateway.prober = Prober(gateway.fleet, _pace(config), gateway.clock, store, LOG)
        gateway.fleet.doubted = prober.doubt
        gateway.runtime.dispatcher.learn = prober.learn
        finder = Finder(config, catalog, ground, gateway.fleet, prober, store, tasks)
        await finder.open(stack)
        stack.push_async_callback(finder.close)
        await stack.enter_async_context(tasks)
        tasks.spawn(gateway.upstream.run, "sweep upstream connections")
        tasks.spawn(store.run, "keep state")
        for name in _sources(config, catalog):
            tasks.spawn(functools.partial(finder.follow, name, gateway.components[name]), f"source {name}")
        yield gateway


async def _open_components(gateway: Gateway, components: Components) -> None:
    config, catalog, opened = gateway.config, gateway.catalog, gateway.components
    stages = [(name, await components.open(catalog.stages[name])) for name in active_stages(config.routing.stages, catalog)]
    gateway.pipeline = Pipeline(stages)
    opened.update(stages)
    for name in (*catalog.dialects, *_sources(config, catalog)):
        opened[name] = await components.open(catalog.dialects.get(name) or catalog.sources[name])
    witnesses = [(name, await components.open(kind)) for name, kind in catalog.observers.items()]
    routes = [(name, await components.open(kind)) for name, kind in catalog.routes.items()]
    opened.update(witnesses)
    opened.update(routes)
    gateway.witnesses.call(witnesses)
    gateway.routes = tuple(component for _, component in routes)


async def _runtime(gateway: Gateway, store: Store) -> Runtime:
    config = gateway.config
    names = Names(config.routing.aliases, config.routing.fallbacks, [_policy(p) for p in config.policies])
    dialects = {name: gateway.components[name] for name in gateway.catalog.dialects}
    ways = Ways(
        dialects,
        {name: kind.accepts for name, kind in gateway.catalog.backends.items()},
        Pseudonyms(config.translation.user_ids, store.secret("user-ids")),
    )
    failures = FailureTable({name: kind.failures for name, kind in gateway.catalog.backends.items()})
    attempts = Attempts(gateway.fleet, gateway.pipeline, ways, gateway.clock, _patience(config), failures)
    decider = Decider(gateway.fleet, gateway.pipeline, names, ways, gateway.waiting, gateway.clock, _limits(config))
    return Runtime(
        config=config,
        pipeline=gateway.pipeline,
        names=names,
        dispatcher=Dispatcher(decider, attempts),
        keyring=Keyring(config.keys),
        dialects=dialects,
        enforced=frozenset(word for name in gateway.pipeline.names for word in gateway.catalog.stages[name].policy_words),
    )


def _remember(policies: Policies, config: Config, store: Store) -> None:
    """All names of each model that are known before any server is asked: those that the operator gives, and those of earlier runs."""
    overrides = [model for backend in config.backends for model in backend.overrides]
    for model in overrides:
        if model.name is not None:
            policies.same((model.id, model.name))
    for names in store.names() if policies else ():
        policies.same(names)


def _sources(config: Config, catalog: Catalog) -> tuple[str, ...]:
    return tuple(catalog.sources) if config.discovery.sources is None else config.discovery.sources


def _policy(policy: PolicyConfig) -> Policy:
    return Policy(models=policy.models, demand=Demand(zone=policy.zone or Zone.OPEN, min_tier=policy.min_tier or 0))


def _pace(config: Config) -> Pace:
    return Pace(interval=config.health.interval_seconds, timeout=config.health.timeout_seconds)


def _health(config: Config) -> HealthLimits:
    health = config.health
    return HealthLimits(
        failure_threshold=health.failure_threshold,
        recovery_threshold=health.recovery_threshold,
        timeout_threshold=health.timeout_threshold,
        min_samples=health.min_samples,
        failure_ratio=health.failure_ratio,
        window_seconds=health.window_seconds,
        eject_seconds=health.eject_seconds,
    )


def _bounds(config: Config) -> waiting.Bounds:
    queue = config.queue
    return waiting.Bounds(max_requests=queue.max_requests, max_bytes=queue.max_bytes, max_wait_seconds=queue.max_wait_seconds)


def _limits(config: Config) -> decision.Limits:
    queue = config.queue
    return decision.Limits(
        max_attempts=config.routing.max_attempts,
        overflow_after=queue.overflow_after_seconds,
        max_wait=queue.max_wait_seconds,
    )


def _patience(config: Config) -> Patience:
    upstream = config.upstream
    return Patience(
        connect=upstream.connect_timeout_seconds,
        first_byte=upstream.first_byte_timeout_seconds,
        answer=upstream.answer_timeout_seconds,
        idle=upstream.idle_timeout_seconds,
    )
