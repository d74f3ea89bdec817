"""The pages about Nexus itself that are for people and admins: everything under `/nexus/`.  They read; nothing here changes traffic."""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from aiohttp import web

from nexus import __version__
from nexus.api import Dialect, Route
from nexus.aside import aside
from nexus.body import Bodies
from nexus.dialects.jsontext import dumps
from nexus.errors import Problem
from nexus.explaining import explained
from nexus.gateway import Gateway
from nexus.health import Record
from nexus.hosted import HostedVisit
from nexus.model import Health, Lane, State
from nexus.observers.feed import Feed, Subscription
from nexus.observers.history import History
from nexus.observers.stats import Stats
from nexus.pairs import Pair, Standing
from nexus.slices import in_slices
from nexus.suspension import Suspension
from nexus.unrecognised import NO_KEY
from nexus.waiters import Waiter

if TYPE_CHECKING:
    from aiohttp_sse import EventSourceResponse

MAX_EXPLAIN_BYTES = 8 * 1024 * 1024
PING_SECONDS = 15
BREATH_SECONDS = 0.05  # what happens meanwhile is told together: many readers must not cost what many requests do
ROW_ITEMS = 20  # of a row in a page about many, about
STORY_ITEMS = 80  # of the story of one request, its refusals not counted, about
MANY_ITEMS = 65_536  # which are better written aside
LIMIT = re.compile(r"[0-9]{1,4}")

T = TypeVar("T")


class Control:
    """The handlers, over one running gateway."""

    def __init__(self, gateway: Gateway, dialects: tuple[Dialect, ...]) -> None:
        self._gateway = gateway
        self._dialects = dialects

    def routes(self) -> Iterable[Route]:
        """What this is, is for everybody; `/nexus/` is for admins."""
        yield Route(path="/", handler=self.welcome, admin=False)
        yield Route(path="/nexus/backends", handler=self.backends)
        yield Route(path="/nexus/models", handler=self.all_models)
        yield Route(path="/nexus/explain", handler=self.explain, method="POST")
        yield Route(path="/nexus/requests", handler=self.requests)
        yield Route(path="/nexus/requests/{tail}", handler=self.request)
        yield Route(path="/nexus/stats", handler=self.stats)
        yield Route(path="/nexus/queue", handler=self.queue)
        yield Route(path="/nexus/events", handler=self.events)

    async def welcome(self, http: web.BaseRequest) -> web.Response:
        """For people who open the address in a browser."""
        told = http.headers.get("X-Forwarded-Proto", "")  # by a proxy that speaks TLS; who makes it up lies to nobody else
        scheme = told if told in ("http", "https") else http.scheme
        here = f"{scheme}://{http.headers.get('Host', '')}{http.path}".rstrip("/")
        clients = [f"Clients of OpenAI's API take {here}/v1 as their base URL."]
        if "anthropic" in self._gateway.runtime.dialects:
            clients.append(f"Clients of Anthropic's API take {here}.")
        if self._gateway.config.keys:
            clients.append("They need a key.")
        lines = [
            f"Nexus {__version__}: one address in front of LLM servers.",
            "",
            *clients,
            f"What is served: {here}/v1/models",
            "",
        ]
        return web.Response(text="\n".join(lines), headers={"X-Content-Type-Options": "nosniff"})

    # ------------------------------------------------------------ the fleet

    async def backends(self, http: web.BaseRequest) -> web.Response:
        standings = self._gateway.fleet.standings.values()
        items = sum(len(standing.pairs) + ROW_ITEMS for standing in standings)
        return await _long_json("backends", standings, self._backend, items=items)

    def _backend(self, standing: Standing) -> dict[str, Any]:
        member, report, now = standing.member, standing.report, self._gateway.clock.now()
        return {
            "name": member.name,
            "type": member.kind,
            "url": member.url,
            "source": member.source,
            "location": "cloud" if member.cloud else "local",
            "zone": member.zone.value,
            "zone_evidence": member.zone_evidence,
            "tier": member.tier,
            "priority": member.priority,
            "health": standing.pulse.health.value,
            "problem": standing.problem or None,
            **_ejection(standing.record, now),
            **_suspension(standing.suspension, now),
            "version": report.version if report else "",
            "last_probe_seconds_ago": _probed_ago(standing, now),
            "in_flight": standing.in_flight,
            "capacity": standing.capacity,
            "load": standing.load,
            "models": [pair.name for pair in standing.pairs.values()],
            "omitted": standing.omitted,
            "no_path": {f"{dialect} {task}": _left(known.until, now) for (dialect, task), known in sorted(standing.lacks.items())},
            "resting": [pair.name for pair in standing.pairs.values() if _rests(pair, now)],
        }

    async def all_models(self, http: web.BaseRequest) -> web.Response:
        pairs = [(standing, pair) for standing in self._gateway.fleet.standings.values() for pair in standing.pairs.values()]
        aliases = {alias: list(ids) for alias, ids in self._gateway.runtime.names.aliases.items()}
        return await _long_json("models", pairs, lambda both: self._pair(*both), items=len(pairs) * ROW_ITEMS, aliases=aliases)

    def _pair(self, standing: Standing, pair: Pair) -> dict[str, Any]:
        c, now = standing.photo(pair), self._gateway.clock.now()
        lacks = {**self._gateway.pipeline.lacking(c), **standing.cannot(pair, now)}
        return {
            "name": c.name,
            "id": c.model,
            "backend": c.backend,
            "health": c.health.value,
            "state": c.state.value if c.health is not Health.UNHEALTHY else State.OFF.value,
            "zone": c.zone.value,
            "location": "cloud" if c.cloud else "local",
            "tier": c.tier,
            "context": c.context,
            "context_max": c.context_max,
            "capabilities": dict(sorted(c.offers.items())),
            "lacks": {need: round(seconds, 1) for need, seconds in sorted(lacks.items())},
            "in_flight": c.in_flight,
            "capacity": c.domain_capacity,
            "first_byte_ms": None if c.first_byte is None else round(c.first_byte * 1000, 1),
            "tokens_per_second": None if c.speed is None else round(c.speed, 1),
            "failures": round(c.failures, 3),
            **_ejection(pair.record, now),
            **_suspension(pair.suspension or standing.suspension, now),
            "paused_seconds": _left(c.paused_until, now) or None,
        }

    # ------------------------------------------------------------ requests

    async def explain(self, http: web.BaseRequest) -> web.Response:
        """What would happen to a request now, without sending it: `{"request": {…}, "headers": {…}, "path": "/v1/…", "key": "name"}`."""
        visit = HostedVisit(http, self._gateway.clock.now)
        raw = await Bodies(MAX_EXPLAIN_BYTES, MAX_EXPLAIN_BYTES).read(visit)
        told = await explained(self._gateway, self._dialects, raw)
        return await _page(told, (len(told["choices"]) + len(told["refusals"])) * ROW_ITEMS)

    async def requests(self, http: web.BaseRequest) -> web.Response:
        limit = http.query.get("limit", "50")
        if not LIMIT.fullmatch(limit) or not 1 <= int(limit) <= 1000:
            raise Problem(400, "invalid_request", "limit must be a number from 1 to 1000", param="limit")
        history = self._history()
        entries = history.latest(int(limit))
        items = sum(entry.objections * ROW_ITEMS + STORY_ITEMS for entry in entries)
        return await _long_json("requests", entries, history.told, items=items)

    async def request(self, http: web.BaseRequest) -> web.Response:
        story = self._history().get(http.path.partition("/nexus/requests/")[2])
        if story is None:
            raise Problem(
                404,
                "request_not_found",
                "no request of that id is remembered; GET /nexus/requests lists those that are",
                see="GET /nexus/requests",
            )
        return _json(story)

    def _history(self) -> History:
        history: History = self._component("history", History)
        return history

    async def stats(self, http: web.BaseRequest) -> web.Response:
        """Totals, and how many tasks the event loop has now: at rest that number is always the same."""
        return _json({**self._component("stats", Stats).snapshot(), "tasks": len(asyncio.all_tasks())})

    def _component(self, name: str, kind: type[Any]) -> Any:
        component = self._gateway.components.get(name)
        if not isinstance(component, kind):
            raise Problem(404, "not_active", f"the observer {name!r} is not active")
        return component

    async def queue(self, http: web.BaseRequest) -> web.Response:
        waiting, waiters = self._gateway.waiting, self._gateway.waiting.waiters()
        told = {"depth": {lane.value: waiting.depth(lane) for lane in Lane}, "bytes": waiting.bytes}
        items = sum(len(w.condition.slots) + len(w.condition.backends) + ROW_ITEMS for w in waiters)
        return await _long_json("waiting", enumerate(waiters, start=1), lambda both: self._waiter(*both), items=items, **told)

    def _waiter(self, position: int, waiter: Waiter[Any]) -> dict[str, Any]:
        return {
            "position": position,
            "id": waiter.request.id,
            "model": waiter.request.model,
            "priority": waiter.lane.value,
            "key": waiter.request.key,
            "waited_seconds": round(self._gateway.clock.now() - waiter.since, 3),
            "for": sorted(waiter.condition.slots | waiter.condition.backends),
        }

    async def events(self, http: web.BaseRequest) -> web.StreamResponse:
        """What happens from now on, as server-sent events.  Whoever does not take them is cut off."""
        from aiohttp_sse import EventSourceResponse  # loaded where it is used

        feed: Feed = self._component("feed", Feed)
        seconds = self._gateway.config.server.send_timeout_seconds
        with feed.subscribe() as subscription:
            # it pings, so that proxies keep the connection; events are written as the bytes that all readers share
            response = EventSourceResponse(ping_interval=PING_SECONDS, send_timeout=seconds, sep="\n")
            await response.prepare(http)
            with contextlib.suppress(ConnectionError):
                async with response:
                    while frames := await _next(subscription, response, http):
                        await _told(http, response, frames, seconds)
                        await asyncio.sleep(BREATH_SECONDS)
        return response


async def _next(subscription: Subscription, response: EventSourceResponse, http: web.BaseRequest) -> bytes:
    """What there is to tell; b"" at the end.  Raises ConnectionError where the reader has gone, which an application may not tell."""
    while True:
        try:
            async with asyncio.timeout(1):
                return await subscription.take()
        except TimeoutError:
            if not response.is_connected() or http.transport is None or http.transport.is_closing():
                raise ConnectionResetError("the reader has gone") from None


async def _told(http: web.BaseRequest, response: EventSourceResponse, frames: bytes, seconds: float) -> None:
    """Raises ConnectionError where the reader has gone, or takes nothing for so long."""
    try:
        async with asyncio.timeout(seconds):
            await response.write(frames)
    except TimeoutError:
        if http.transport is not None:
            http.transport.abort()
        raise ConnectionResetError("the reader takes nothing") from None


def _ejection(record: Record | None, now: float) -> dict[str, Any]:
    """How long what keeps failing is left out yet, and why; both null where it is not."""
    if record is None or not record.ejected_until:
        return {"ejected_seconds": None, "ejected_reason": None}
    return {"ejected_seconds": _left(record.ejected_until, now), "ejected_reason": record.reason}


def _left(until: float, now: float) -> float:
    """Seconds until then."""
    return max(0.0, round(until - now, 1))


def _rests(pair: Pair, now: float) -> bool:
    """Whether others go first for a while, for what this very model has answered."""
    record = pair.record
    return pair.paused_until > now or pair.suspension is not None or (record is not None and record.ejected_until > 0)


def _probed_ago(standing: Standing, now: float) -> float | None:
    """Seconds since its server was asked; None where it was not, as it is not while its key is missing."""
    if standing.last_probe is None or (standing.report is not None and standing.report.code == NO_KEY):
        return None
    return round(now - standing.last_probe, 1)


def _suspension(held: Suspension | None, now: float) -> dict[str, Any]:
    """How long nobody is sent there yet whose account or key was refused, and what was said; both null where it was not."""
    if held is None:
        return {"suspended_seconds": None, "suspended_reason": None}
    return {"suspended_seconds": _left(held.until, now), "suspended_reason": held.reason}


def _json(value: Any) -> web.Response:
    return _raw(dumps(value))


async def _long_json(
    name: str, things: Iterable[T], told: Callable[[T], dict[str, Any]], *, items: int, **more: Any
) -> web.Response:
    """`more`, and what is told of each of the things, however many they are; `items` is about how many fields that makes."""
    rows: list[dict[str, Any]] = []
    await in_slices(things, lambda thing: rows.append(told(thing)))
    return await _page({**more, name: rows}, items)


async def _page(page: dict[str, Any], items: int) -> web.Response:
    """`items` is about how many fields it has."""
    return _raw(dumps(page) if items < MANY_ITEMS else await aside(dumps, page))


def _raw(body: bytes) -> web.Response:
    return web.Response(body=body, content_type="application/json")
