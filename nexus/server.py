"""aiohttp in, aiohttp out: an application, a part of somebody's application, or a server of our own.

app = create_app()                     # Nexus alone
attach(app, "/llm", config)            # Nexus under a prefix, beside an app's own routes
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web

from nexus.catalog import Catalog
from nexus.config import Config, load, read
from nexus.descriptors import is_shortage, most_clients, raise_limit
from nexus.downstream import Listener
from nexus.errors import StartupError
from nexus.front import Front
from nexus.gateway import Gateway, open_gateway
from nexus.holder import holder_of
from nexus.state import default_dir, pid_at
from nexus.tasks import Tasks
from nexus.watch import LOOK_SECONDS, Watch
from nexus.webserver import WebServer

LOG = logging.getLogger("nexus")
GATEWAY: web.AppKey[Gateway] = web.AppKey("nexus.gateway", Gateway)
CUT_SECONDS = 0.2  # for handlers to end once they are cut; aiohttp takes 0 for "for ever"
ACCEPT_TOLD_SECONDS = 60.0

NAME_OF_FILE = re.compile(r"[^\n=\[\]]+\.toml")  # no TOML text looks so
Source = Config | Path | str | Mapping[str, Any] | None
_SOURCES = (Config, Path, str, Mapping, type(None))


def create_app(config: Source = None, *, plugins: Sequence[object] = ()) -> web.Application:
    """An aiohttp application that is nothing but Nexus.  See `attach`."""
    app = web.Application()
    _attach(app, "", *_loaded(config, plugins), hosts=True)
    return app


def attach(
    app: web.Application, prefix: str = "", config: Source = None, *, plugins: Sequence[object] = (), hosts: bool | None = None
) -> web.AppKey[Gateway]:
    """Serve Nexus under `prefix` of an existing application; it opens and closes with the application.

    `config` is a Config, TOML text, a file (also by its name, where that ends in `.toml`), a mapping of tables, or None for the defaults.
    An application that gives one has nothing discovered but by the sources that it lists.  `plugins` are modules or objects
    with hookimpls beside those installed.  `hosts` says whether requests by names that may be somebody else's are refused, as on a
    server of Nexus' own; by default they are where `[server] hosts` lists some, for the application knows its names.  The running gateway is `app[GATEWAY]`; of several in one application that is the
    first, and each is under the key that `attach` returns.  What it learns is kept beyond this process only where `[server] state_dir`
    is set; several may share one.  Raises ConfigError, or TypeError for what is none of these, at once; a gateway that cannot start raises StartupError when the application starts.
    """
    _check_prefix(app, prefix)
    loaded, catalog = _loaded(config, plugins, discover=config is None)
    return _attach(app, prefix, loaded, catalog, hosts=bool(loaded.server.hosts) if hosts is None else hosts)


def _attach(app: web.Application, prefix: str, loaded: Config, catalog: Catalog, *, hosts: bool) -> web.AppKey[Gateway]:
    front = Front(prefix.rstrip("/"), hosts=hosts)
    key = web.AppKey(f"nexus.gateway {prefix}", Gateway)

    async def running(app: web.Application) -> AsyncIterator[None]:
        assert route.resource is not None
        front.prefix = route.resource.canonical.removesuffix("/{tail}")  # longer where the application is a part of another
        async with _open(front, loaded, catalog, loaded.server.state_dir) as gateway:
            app[key] = gateway
            if GATEWAY not in app:
                app[GATEWAY] = gateway
            yield

    async def drain(app: web.Application) -> None:
        front.close()

    app.cleanup_ctx.append(running)
    app.on_shutdown.append(drain)
    app.router.add_route("*", front.prefix, front.handle, expect_handler=_later)  # the prefix by itself, without a slash
    route = app.router.add_route("*", front.prefix + "/{tail:.*}", front.handle, expect_handler=_later)
    return key


@asynccontextmanager
async def listen(config: Config, catalog: Catalog) -> AsyncIterator[tuple[Gateway, str]]:
    """Nexus on a server of its own: the running gateway and its URL.

    Leaving the context drains: newcomers get a 503, what is under way may take `shutdown_grace_seconds` more, then it is cut.
    Raises StartupError where the port cannot be had.
    """
    state_dir = config.server.state_dir or default_dir()
    await _check_port(config, state_dir)
    front = Front()
    async with _open(front, config, catalog, state_dir) as gateway, Tasks(LOG, gateway.problems) as tasks:
        aiohttp = WebServer(front.handle, config.server.send_timeout_seconds)
        listener = Listener(
            front.admit,
            aiohttp,
            gateway.clock.now,
            config.server.send_timeout_seconds,
            most=config.server.max_connections or most_clients(raise_limit()),
            refuse=front.refuse,
            elsewhere=aiohttp,
        )
        loop = asyncio.get_running_loop()
        complaints = loop.get_exception_handler()
        loop.set_exception_handler(_Complaints(complaints, listener.make_room))
        tasks.spawn(aiohttp.sweep, "close silent connections of aiohttp")
        tasks.spawn(listener.sweep, "close silent connections")
        try:
            url = await _bind(listener, config)
            gateway.store.announce(url)
            yield gateway, url
            listener.drain()
            await _drain(front, config.server.shutdown_grace_seconds)
        finally:
            front.close()
            front.cut()
            await _quiet(front, CUT_SECONDS)
            await listener.close(CUT_SECONDS)
            aiohttp.pre_shutdown()
            await aiohttp.shutdown(CUT_SECONDS)
            loop.set_exception_handler(complaints)


async def _drain(front: Front, grace: float) -> None:
    """Until nothing is under way, at most `grace` seconds.  The port stays open, so that newcomers are told to ask another."""
    front.close()
    await _quiet(front, grace)


async def _quiet(front: Front, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while front.busy:  # noqa: ASYNC110 - it happens once, and an event would cost every request something
                await asyncio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def _open(front: Front, config: Config, catalog: Catalog, state_dir: Path | None) -> AsyncIterator[Gateway]:
    async with open_gateway(config, catalog, state_dir) as gateway, Tasks(LOG, gateway.problems) as tasks:
        watch = Watch(config.server.stream_keepalive_seconds, gateway.clock.now, tasks.once, config.server.send_timeout_seconds)
        tasks.spawn(watch.run, "watch over open requests")
        front.open(gateway, watch)
        yield gateway


async def _bind(listener: Listener, config: Config) -> str:
    try:
        bound, port = await listener.bind(config.server.host, config.server.port)
    except OSError as error:
        raise _unbound(config, f"{os.strerror(error.errno).lower() if error.errno else error};") from None
    return f"http://[{bound}]:{port}" if ":" in bound else f"http://{bound}:{port}"


async def _check_port(config: Config, state_dir: Path) -> None:
    """Before anything is opened: who starts Nexus twice hears of the first one, and of nothing else.  Raises StartupError."""
    holder = await asyncio.to_thread(holder_of, config.server.host, config.server.port)
    if holder is not None:
        pid = pid_at(state_dir, config.server.port)
        runs = f"Nexus already runs at {holder.url}" + (f" (pid {pid})" if pid else "") + "; stop that one, or"
        raise _unbound(config, runs if holder.is_nexus else "address already in use;")


def _unbound(config: Config, why: str) -> StartupError:
    where = f"{config.server.host}:{config.server.port}"
    return StartupError(f"cannot listen on {where}: {why} set [server] port or --port to another")


class _Complaints:
    """What the loop has to complain of.  That a connection could not be accepted it says for each try: once a minute is enough, and
    `make_room` is called for the next one."""

    def __init__(
        self, others: Callable[[asyncio.AbstractEventLoop, dict[str, Any]], object] | None, make_room: Callable[[], object]
    ) -> None:
        self._others = others
        self._make_room = make_room
        self._told = -ACCEPT_TOLD_SECONDS

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        if "accept" not in context.get("message", "") or not is_shortage(context.get("exception")):
            self._others(loop, context) if self._others else loop.default_exception_handler(context)
            return
        self._make_room()
        if loop.time() - self._told >= ACCEPT_TOLD_SECONDS:
            self._told = loop.time()
            LOG.error("no connection can be accepted (%s): raise the limit of open files (ulimit -n)", context["exception"])


async def _later(http: web.Request) -> None:
    """Whether a client may send its body is said where the body is read."""


def _check_prefix(app: object, prefix: object) -> None:
    """Raises TypeError where the arguments of `attach` are in another order, or other things."""
    if not isinstance(app, web.Application):
        raise TypeError(f"app must be an aiohttp.web.Application, not {app!r:.100}")
    if not isinstance(prefix, str) or (prefix and not prefix.startswith("/")):
        raise TypeError(
            f"prefix must be a path such as '/llm', or '', not {prefix!r:.100}; the configuration comes after it (config=…)"
        )


def _loaded(config: Source, plugins: Sequence[object], *, discover: bool = True) -> tuple[Config, Catalog]:
    """`discover` says whether servers are looked for where nothing says so."""
    if not isinstance(config, _SOURCES):
        wanted = (
            "a mapping of tables, TOML text, a file (pathlib.Path, or a name that ends in .toml), a nexus.config.Config, or None"
        )
        raise TypeError(f"config must be {wanted}, not {config!r:.100}")
    if isinstance(config, Config):
        return config, Catalog.load(config.plugins, plugins, config.disabled, config.path)
    if isinstance(config, str) and NAME_OF_FILE.fullmatch(config):
        config = Path(config).expanduser()
    source: Path | str | Mapping[str, Any] = {} if config is None else config
    told = discover or "sources" in (read(source, env=os.environ).raw.get("discovery") or {})
    return load(source, env=os.environ, flags={} if told else {"discovery.sources": []}, extra=plugins)
