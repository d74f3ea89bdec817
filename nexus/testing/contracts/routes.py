"""What extra endpoints promise: paths that can be mounted under any prefix, and an answer to whoever asks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from nexus.api import Route, Routes, RoutesKind
from nexus.testing.contracts.opening import opened

METHODS = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE"})


class RoutesContract:
    """Subclass it and name `kind` (and `options`, where defaults will not do)."""

    kind: RoutesKind
    options: Any = None

    def opened(self) -> AbstractAsyncContextManager[Routes]:
        return opened(self.kind, self.options)

    @pytest.mark.asyncio
    async def test_routes_can_be_mounted(self) -> None:
        async with self.opened() as component:
            routes = tuple(component.routes())
        assert routes, "a component without a route is none"
        assert len({(route.method, route.path) for route in routes}) == len(routes), "a route is there twice"
        for route in routes:
            assert isinstance(route, Route)
            assert route.method in METHODS, route.method
            assert route.path.startswith("/"), route.path
            assert not route.path.startswith("/v1/"), "those paths belong to the dialects"

    @pytest.mark.asyncio
    async def test_every_get_is_answered(self) -> None:
        async with self.opened() as component:
            app = web.Application()
            asked = [route for route in component.routes() if route.method == "GET"]
            for route in asked:
                app.router.add_get(route.path, route.handler)
            async with TestClient(TestServer(app)) as client:
                for route in asked:
                    async with client.get(route.path.replace("{tail}", "x")) as answer:
                        assert answer.status < 500, await answer.text()
