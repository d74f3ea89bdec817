"""One run of the gateway, from the first log line until a signal has ended it.  What is said to people is in `greeting`."""

from __future__ import annotations

import functools
import logging

from nexus.catalog import Catalog
from nexus.cli.greeting import greet, warn_insecure
from nexus.cli.signals import Signals
from nexus.config import Config
from nexus.gateway import Gateway
from nexus.observers.history import History
from nexus.runtime.memory import drop_loaded, keep_loaded, tidy
from nexus.server import listen
from nexus.tasks import Tasks

LOG = logging.getLogger("nexus")


async def run(config: Config, catalog: Catalog, *, greeted: bool) -> None:
    """Serve until SIGTERM or SIGINT.  Raises StartupError; CancelledError where a second signal ended it at once."""
    for package in catalog.broken:
        LOG.warning("the plugin %s is broken: %s", package.distribution or package.name, package.problem)
    for warning in config.warnings:
        LOG.warning("%s", warning)
    warn_insecure(config)
    drop_loaded()
    with Signals() as signals:
        async with listen(config, catalog) as (gateway, url):
            LOG.info("listening on %s", url)
            keep_loaded()
            async with Tasks(LOG, gateway.problems) as tasks:
                tasks.spawn(functools.partial(tidied, gateway), "tidy memory")
                if greeted:
                    tasks.once(functools.partial(greet, gateway, url), "greet")
                await signals.first.wait()
            LOG.info("stopping: %s; another signal stops at once", _left(gateway))
    LOG.info("stopped")


async def tidied(gateway: Gateway) -> None:
    """Keep the memory of a running gateway tidy.  Never returns."""
    history = gateway.components.get("history")
    await tidy(
        lambda: gateway.under_way + gateway.upstream.under_way,
        lambda: gateway.fleet.claims,
        history.pack if isinstance(history, History) else lambda: None,
    )


def _left(gateway: Gateway) -> str:
    count = gateway.under_way
    grace = gateway.config.server.shutdown_grace_seconds
    return f"{count} request{'s' * (count != 1)} under way may take {grace:g} s more" if count else "no request is under way"
