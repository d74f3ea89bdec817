"""From a path to the room that answers it.  Who may come in is the door's to say; nothing is answered here but "no such path"."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

import attrs
from aiohttp import web

from nexus.answer import Answerer, request_id
from nexus.api import EMPTY, Dialect, Endpoint, Route
from nexus.body import Bodies
from nexus.config import KeyConfig
from nexus.control import Control
from nexus.door import Door, Head
from nexus.errors import CRASHES, Problem
from nexus.gateway import Gateway
from nexus.hosted import HostedVisit, headers_of
from nexus.nearest import nearest
from nexus.pages import JSON, Asked, Maker, Page, Pages, dialect_of
from nexus.relay import error_of
from nexus.visit import Visit
from nexus.watch import Watch

LOG = logging.getLogger("nexus")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Answer = Callable[[Visit], Awaitable[None]]
TAIL = "/{tail}"
OLLAMAS = {f"/api/{word}" for word in ("chat", "generate", "tags", "show", "embed", "embeddings", "ps", "version")}
RETRY_STARTING = 1


class Incoming(Head, Protocol):
    """The head of a request.  `path` is decoded."""

    @property
    def method(self) -> str: ...
    @property
    def path(self) -> str: ...


Answering = Callable[[Incoming, Mapping[str, str]], Answer]


@attrs.frozen
class Entry:
    """Who answers a method of a path: `handler` on aiohttp's connections; `answering` on our own gives, for a head and the headers that
    its origin gets, who answers its visit, and raises Problem for who may not come in.  None leaves it to `handler`."""

    handler: Handler
    answering: Answering | None = None


class Front:
    """Every request under one prefix.  `open` fills its table from a running gateway, `close` turns newcomers away; `hosts` is the
    door's."""

    def __init__(self, prefix: str = "", *, hosts: bool = True) -> None:
        self.prefix = prefix
        self._hosts = hosts
        self._gateway: Gateway | None = None
        self._exact: dict[str, dict[str, Entry]] = {}
        self._under: dict[str, dict[str, Entry]] = {}
        self._endpoints: dict[str, tuple[Dialect, Endpoint]] = {}
        self._dialects: tuple[Dialect, ...] = ()
        self._door: Door | None = None
        self._watch: Watch | None = None

    # ------------------------------------------------------------ opening

    def open(self, gateway: Gateway, watch: Watch) -> None:
        """Take requests from now on."""
        server = gateway.config.server
        self._dialects = tuple(gateway.runtime.dialects.values())
        door = self._door = Door(server, gateway.runtime.keyring, hosts=self._hosts)
        answerer = Answerer(gateway, watch, Bodies(server.max_body_bytes, server.max_inflight_body_bytes), self.prefix)
        for dialect in self._dialects:
            for endpoint in dialect.endpoints:
                self._endpoints[endpoint.path] = dialect, endpoint
                self._add(endpoint.method, endpoint.path, self._serving(answerer, dialect, endpoint, door))
        for path, make, keyed in Pages(gateway, self._dialects, door.is_admin).routes():
            self._add("GET", path, self._showing(make, door.key if keyed else _anybody))
        self._routes(Control(gateway, self._dialects).routes(), door)
        for component in gateway.routes:
            self._routes(component.routes(), door)
        self._watch = watch
        self._gateway = gateway

    @property
    def busy(self) -> int:
        """How many requests of a dialect are under way."""
        return 0 if self._watch is None else len(self._watch)

    def cut(self) -> None:
        """End what is under way, in words where a client can still be told."""
        if self._watch is not None:
            self._watch.cut()

    def close(self) -> None:
        """Turn newcomers away with a 503; what is under way goes on."""
        if self._gateway is not None:
            self._gateway.draining = True

    def _add(self, method: str, path: str, entry: Entry) -> None:
        table, path = (self._under, path[: -len(TAIL)]) if path.endswith(TAIL) else (self._exact, path)
        table.setdefault(path, {}).setdefault(method, entry)

    def _routes(self, routes: Iterable[Route], door: Door) -> None:
        for route in routes:
            self._add(route.method, route.path, Entry(_let_in(door.admin if route.admin else door.host, route.handler)))

    def _serving(self, answerer: Answerer, dialect: Dialect, endpoint: Endpoint, door: Door) -> Entry:
        """The requests to an endpoint."""

        def answering(head: Incoming, cors: Mapping[str, str]) -> Answer:
            key = door.key(head)
            return lambda visit: answerer.answer(visit, dialect, endpoint, key, cors)

        async def handler(http: web.BaseRequest) -> web.StreamResponse:
            answer = answering(http, door.check(http))
            visit = HostedVisit(http, answerer.now)
            await answer(visit)
            assert visit.response is not None
            return visit.response

        return Entry(handler, answering)

    def _showing(self, make: Maker, key_of: Callable[[Incoming], KeyConfig | None]) -> Entry:
        """A page."""

        def answering(head: Incoming, cors: Mapping[str, str]) -> Answer:
            key = key_of(head)

            async def answer(visit: Visit) -> None:
                try:
                    page = await make(Asked(self._local(head), visit.query, visit.headers, key))
                except CRASHES as error:
                    page = self._failed(head, visit.headers, visit.peer, error)
                await visit.whole(page.status, {**page.headers, **cors}, page.body)

            return answer

        async def handler(http: web.BaseRequest) -> web.StreamResponse:
            asked = Asked(self._local(http), http.rel_url.raw_query_string, headers_of(http), key_of(http))
            return _response(await make(asked))

        return Entry(handler, answering)

    def _local(self, head: Incoming) -> str:
        path = head.path
        if not self.prefix:
            return path
        return "/" if path == self.prefix else path.removeprefix(self.prefix)

    # ------------------------------------------------------------ a request

    def admit(self, head: Incoming) -> Answer | None:
        """Who answers this request; None where `handle` is to have it."""
        answering, door = self._answering(head), self._door
        if answering is None or door is None or self._gateway is None or self._gateway.draining:
            return None
        cors: Mapping[str, str] = EMPTY
        try:
            if "origin" in head.headers:
                cors = door.check(head)
            return answering(head, cors)
        except Problem as problem:
            return self._refusal(head, problem, cors)

    def refuse(self, head: Incoming) -> Answer | None:
        """Who tells this request that there are too many; None where `handle` is to have it."""
        if head.path not in self._endpoints or self._answering(head) is None:
            return None
        problem = Problem(503, "overloaded", "all connections are busy ([server] max_connections); try again", retry_after=1)
        return self._refusal(head, problem)

    def _answering(self, head: Incoming) -> Answering | None:
        entry = (self._methods(head.path) or {}).get(head.method)
        return None if entry is None else entry.answering

    def _refusal(self, head: Incoming, problem: Problem, cors: Mapping[str, str] = EMPTY) -> Answer:
        """Who tells a client what is wrong with its head."""
        problem.__traceback__ = None

        async def answer(visit: Visit) -> None:
            page = self._failed(head, visit.headers, visit.peer, problem)
            await visit.whole(page.status, {**page.headers, **cors}, page.body)

        return answer

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer any request under the prefix."""
        cors: Mapping[str, str] = {}
        try:
            handler = self._find(http, self._local(http))
            assert self._door is not None
            cors = self._door.check(http)
            if cors and http.method == "OPTIONS":
                return web.Response(status=204, headers={**cors, **self._door.preflight(http)})
            response = await handler(http)
        except ConnectionError:
            return web.Response(status=499)  # nobody is there to read it; raised, it would be logged as an error of ours
        except web.HTTPException:
            raise
        except CRASHES as error:
            response = _response(self._failed(http, headers_of(http), http.remote, error))
            if not http.content.is_eof():  # the rest of a body that nobody will read is no next request
                response.force_close()
        if cors and not response.prepared:
            response.headers.update(cors)
        return response

    def _find(self, http: web.BaseRequest, path: str) -> Handler:
        gateway = self._gateway
        if gateway is None:
            raise Problem(503, "starting", "Nexus is starting", retry_after=RETRY_STARTING)
        if gateway.draining and not path.startswith("/health"):
            raise Problem(503, "stopping", "Nexus is stopping; ask another", retry_after=RETRY_STARTING)
        methods = self._methods(path)
        if methods is None:
            raise self._no_path(http, path)
        method = "GET" if http.method == "HEAD" else http.method
        entry = methods.get(method)
        if entry is None and http.method == "OPTIONS" and "Origin" in http.headers:
            return next(iter(methods.values())).handler
        if entry is None:
            raise Problem(405, "method_not_allowed", f"{self.prefix}{path} takes {', '.join(methods)}, not {http.method}")
        return entry.handler

    def _methods(self, path: str) -> dict[str, Entry] | None:
        exact = self._exact.get(path)
        if exact is not None:
            return exact
        return next((m for base, m in self._under.items() if path.startswith(base + "/") and len(path) > len(base) + 1), None)

    def _no_path(self, http: web.BaseRequest, path: str) -> Problem:
        here = self.prefix
        if path == "/v1/responses":
            # Codex asks for a WebSocket first and falls back at once on 426, but never on 404
            if http.headers.get("Upgrade", "").lower() == "websocket":
                return Problem(426, "upgrade_not_supported", "no WebSocket is offered here: use POST")
            return Problem(404, "unknown_path", f"{here}/v1/responses is not served: use POST {here}/v1/chat/completions")
        return Problem(404, "unknown_path", f"{http.method} {here + path[:200]!r} is not served here; {self._advice(path)}")

    def _advice(self, path: str) -> str:
        """What most likely went wrong: clients differ in whether their base URL ends in /v1."""
        if path.startswith("/v1/v1/"):
            return "your client adds /v1 itself: take it from the end of its base URL"
        if self._methods("/v1" + path) is not None:
            return "your client does not add /v1 itself: put it at the end of its base URL"
        if path in OLLAMAS:
            return f"clients of Ollama's own API are not served yet: use OpenAI's, under {self.prefix}/v1"
        near = nearest(path, self._exact, alike=0.8)
        return f"did you mean {self.prefix}{near[0]}?" if near else f"try GET {self.prefix}/v1/models"

    def _failed(self, head: Incoming, headers: Mapping[str, str], peer: str | None, error: BaseException) -> Page:
        """What a client is told of an error, in its dialect's form."""
        path = self._local(head)
        if isinstance(error, Problem):
            problem = error
            LOG.info("%s %r from %s refused: %s", head.method, path[:200], peer, problem.code)
            problem.under(self.prefix)
        else:
            problem = Problem(500, "internal_error", f"Nexus itself failed ({type(error).__name__})")
            LOG.error("%s %.200r failed inside Nexus", head.method, path, exc_info=error)
        id = request_id(headers)
        told = {**JSON, "X-Nexus-Request-Id": id, **problem.headers()}
        if problem.status == 405:
            told["Allow"] = ", ".join(self._methods(path) or ()).replace("GET", "GET, HEAD")
        owner = self._endpoints.get(path.removeprefix("/v1") if path.startswith("/v1/v1/") else path)
        dialect = owner[0] if owner else dialect_of(self._dialects, headers)
        bare = {"error": {"message": problem.message, "code": problem.code}}
        return Page(error_of(dialect, problem, id) if dialect else json.dumps(bare).encode(), problem.status, told)


def _anybody(head: Incoming) -> None:
    """Let everybody in: whoever checks the health calls by whatever name it has, and learns nothing."""


def _let_in(judge: Callable[[Incoming], None], inner: Handler) -> Handler:
    """`inner`, for those whom `judge` raises no Problem for."""

    def handler(http: web.BaseRequest) -> Awaitable[web.StreamResponse]:
        judge(http)
        return inner(http)

    return handler


def _response(page: Page) -> web.Response:
    return web.Response(status=page.status, body=page.body, headers=page.headers)
