"""One run of the gateway, from the first log line until a signal has ended it.  What is said to people is in `greeting`."""

from __future__ import annotations

import functools
import gc
import linecache
import logging

from nexus.catalog import Catalog
from nexus.cli.greeting import greet, warn_insecure
from nexus.cli.signals import Signals
from nexus.cli.tidying import tidy
from nexus.config import Config
from nexus.gateway import Gateway
from nexus.server import listen
from nexus.tasks import Tasks

LOG = logging.getLogger("nexus")
# Requests and connections leave no cycles behind: looking for them every 700 objects would cost a tenth of the time, a look at
# 50,000 that are not old takes up to 50 ms, and one at all objects, of which 4,000 streams have 300,000, more than 100 ms in which nobody is
# served.  So no more than 25,000 are looked at in one go, and all only after two and a half million new ones that stay, for what plugins
# leave behind, and in quiet moments (`tidying`).
COLLECTED = (5000, 4, 110)


async def run(config: Config, catalog: Catalog, *, greeted: bool) -> None:
    """Serve until SIGTERM or SIGINT.  Raises StartupError; CancelledError where a second signal ended it at once."""
    for package in catalog.broken:
        LOG.warning("the plugin %s is broken: %s", package.distribution or package.name, package.problem)
    for warning in config.warnings:
        LOG.warning("%s", warning)
    warn_insecure(config)
    linecache.clearcache()  # the sources of generated methods, kept for debuggers: most of a megabyte
    gc.collect()
    with Signals() as signals:
        async with listen(config, catalog) as (gateway, url):
            LOG.info("listening on %s", url)
            gc.set_threshold(*COLLECTED)
            gc.freeze()  # what is loaded now stays: looking through it again and again would only cost time
            async with Tasks(LOG, gateway.problems) as tasks:
                tasks.spawn(functools.partial(tidy, gateway), "tidy memory")
                if greeted:
                    tasks.once(functools.partial(greet, gateway, url), "greet")
                await signals.first.wait()
            LOG.info("stopping: %s; another signal stops at once", _left(gateway))
    LOG.info("stopped")


def _left(gateway: Gateway) -> str:
    count = gateway.under_way
    grace = gateway.config.server.shutdown_grace_seconds
    return f"{count} request{'s' * (count != 1)} under way may take {grace:g} s more" if count else "no request is under way"
