"""From a path to the room that answers it.  Who may come in is the door's to say; nothing is answered here but "no such path"."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Protocol

from aiohttp import web

from nexus.answer import Answerer, request_id
from nexus.api import EMPTY, Dialect, Endpoint, Route
from nexus.body import Bodies
from nexus.config import KeyConfig
from nexus.context import RequestContext
from nexus.control import Control
from nexus.door import Door, Head
from nexus.errors import CRASHES, Problem
from nexus.gateway import Gateway
from nexus.hosted import HostedVisit, headers_of
from nexus.nearest import nearest
from nexus.relay import error_of, send_problem
from nexus.visit import Visit
from nexus.watch import Watch

LOG = logging.getLogger("nexus")
Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
Answer = Callable[[Visit], Awaitable[None]]
Answering = Callable[[KeyConfig | None, Mapping[str, str]], Answer]
TAIL = "/{tail}"
OLLAMAS = {f"/api/{word}" for word in ("chat", "generate", "tags", "show", "embed", "embeddings", "ps", "version")}
RETRY_STARTING = 1


class Incoming(Head, Protocol):
    """The head of a request."""

    @property
    def path(self) -> str: ...


class Front:
    """Every request under one prefix.  `open` fills its table from a running gateway, `close` turns newcomers away; `hosts` is the
    door's."""

    def __init__(self, prefix: str = "", *, hosts: bool = True) -> None:
        self.prefix = prefix
        self._hosts = hosts
        self._gateway: Gateway | None = None
        self._exact: dict[str, dict[str, Handler]] = {}
        self._under: dict[str, dict[str, Handler]] = {}
        self._endpoints: dict[str, tuple[Dialect, Endpoint]] = {}
        self._answers: dict[str, Answering] = {}
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
                self._add(endpoint.method, endpoint.path, self._dialect_handler(answerer, dialect, endpoint, door))
                if endpoint.method == "POST":
                    self._answers.setdefault(endpoint.path, answering(answerer, dialect, endpoint))
        control = Control(gateway, self._dialects, door.is_admin)
        self._add("GET", "/v1/models", self._keyed(control.models, door))
        self._add("GET", "/v1/models" + TAIL, self._keyed(control.model, door))
        self._routes(control.routes(), door)
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

    def _add(self, method: str, path: str, handler: Handler) -> None:
        table, path = (self._under, path[: -len(TAIL)]) if path.endswith(TAIL) else (self._exact, path)
        table.setdefault(path, {}).setdefault(method, handler)

    def _routes(self, routes: Iterable[Route], door: Door) -> None:
        for route in routes:
            self._add(route.method, route.path, (self._admin if route.admin else self._public)(route.handler, door))

    def _dialect_handler(self, answerer: Answerer, dialect: Dialect, endpoint: Endpoint, door: Door) -> Handler:
        now = answerer.now

        async def handler(http: web.BaseRequest) -> web.StreamResponse:
            cors = door.check(http) if "Origin" in http.headers else EMPTY
            key = door.key(http)
            visit = HostedVisit(http, now)
            await answerer.answer(visit, dialect, endpoint, key, cors)
            assert visit.response is not None
            return visit.response

        return handler

    def _keyed(self, inner: Callable[[web.BaseRequest, KeyConfig | None], Awaitable[web.StreamResponse]], door: Door) -> Handler:
        return lambda http: inner(http, door.key(http))

    def _admin(self, inner: Handler, door: Door) -> Handler:
        def handler(http: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            door.admin(http)
            return inner(http)

        return handler

    def _public(self, inner: Handler, door: Door) -> Handler:
        def handler(http: web.BaseRequest) -> Awaitable[web.StreamResponse]:
            if not self._local(http).startswith("/health"):  # a checker calls by whatever name it has, and learns nothing
                door.host(http)
            return inner(http)

        return handler

    def _local(self, http: web.BaseRequest) -> str:
        path = http.path
        if not self.prefix:
            return path
        return "/" if path == self.prefix else path.removeprefix(self.prefix)

    # ------------------------------------------------------------ a request

    def admit(self, head: Incoming) -> Answer | None:
        """Who answers this POST; None where it is for no dialect, or none is served now: then `handle` is to have it."""
        answering = self._answers.get(head.path)
        gateway, door = self._gateway, self._door
        if answering is None or gateway is None or gateway.draining or door is None:
            return None
        cors: Mapping[str, str] = EMPTY
        try:
            if "origin" in head.headers:
                cors = door.check(head)
            return answering(door.key(head), cors)
        except Problem as problem:
            return self._refusal(head.path, problem, cors)

    def refuse(self, head: Incoming) -> Answer | None:
        """Who tells this POST that there are too many; None where `handle` is to have it."""
        problem = Problem(503, "overloaded", "all connections are busy ([server] max_connections); try again", retry_after=1)
        return self._refusal(head.path, problem) if head.path in self._answers else None

    def _refusal(self, path: str, problem: Problem, cors: Mapping[str, str] = EMPTY) -> Answer:
        """Who tells a POST to an endpoint what is wrong with its head."""
        dialect, endpoint = self._endpoints[path]
        problem.__traceback__ = None
        problem.under(self.prefix)

        async def answer(visit: Visit) -> None:
            LOG.info("POST %r from %s refused: %s", path, visit.peer, problem.code)
            await send_problem(visit, RequestContext(request_id(visit.headers), dialect, endpoint, visit.now(), cors), problem)

        return answer

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer any request under the prefix."""
        path = self._local(http)
        cors: Mapping[str, str] = {}
        try:
            handler = self._find(http, path)
            assert self._door is not None
            cors = self._door.check(http)
            if cors and http.method == "OPTIONS":
                return web.Response(status=204, headers={**cors, **self._door.preflight(http)})
            response = await handler(http)
        except Problem as problem:
            LOG.info("%s %r from %s refused: %s", http.method, path[:200], http.remote, problem.code)
            problem.under(self.prefix)
            response = self._problem(http, path, problem)
        except ConnectionError:
            return web.Response(status=499)  # nobody is there to read it; raised, it would be logged as an error of ours
        except web.HTTPException:
            raise
        except CRASHES as error:
            LOG.exception("%s %.200r failed inside Nexus", http.method, path)
            response = self._problem(http, path, Problem(500, "internal_error", f"Nexus itself failed ({type(error).__name__})"))
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
        handler = methods.get(method)
        if handler is None and http.method == "OPTIONS" and "Origin" in http.headers:
            return next(iter(methods.values()))
        if handler is None:
            raise Problem(405, "method_not_allowed", f"{self.prefix}{path} takes {', '.join(methods)}, not {http.method}")
        return handler

    def _methods(self, path: str) -> dict[str, Handler] | None:
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

    def _problem(self, http: web.BaseRequest, path: str, problem: Problem) -> web.Response:
        id = request_id(headers_of(http))
        headers = {"Content-Type": "application/json", "X-Nexus-Request-Id": id, **problem.headers()}
        if problem.status == 405:
            headers["Allow"] = ", ".join(self._methods(path) or ()).replace("GET", "GET, HEAD")
        owner = self._endpoints.get(path.removeprefix("/v1") if path.startswith("/v1/v1/") else path)
        dialect = owner[0] if owner else self._dialect_of(http)
        body = (
            error_of(dialect, problem, id)
            if dialect
            else json.dumps({"error": {"message": problem.message, "code": problem.code}}).encode()
        )
        response = web.Response(status=problem.status, body=body, headers=headers)
        if not http.content.is_eof():  # the rest of a body that nobody will read is no next request
            response.force_close()
        return response

    def _dialect_of(self, http: web.BaseRequest) -> Dialect | None:
        headers = headers_of(http)
        return next((d for d in self._dialects if d.claims(headers)), self._dialects[0] if self._dialects else None)


def answering(answerer: Answerer, dialect: Dialect, endpoint: Endpoint) -> Answering:
    """For a client's key and the headers that its origin gets, who answers its visit."""
    return lambda key, cors: lambda visit: answerer.answer(visit, dialect, endpoint, key, cors)
