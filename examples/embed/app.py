"""Nexus inside an aiohttp application: the application's own pages, and OpenAI's API under /llm.

python app.py
"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from nexus.server import GATEWAY, attach

PORT = 8090
routes = web.RouteTableDef()


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    """A page of the application.  The running gateway is at hand under its key."""
    ready = request.app[GATEWAY].ready
    return web.Response(text=f"Welcome.  The models under /llm/v1 are {'ready' if ready else 'not there yet'}.\n")


def make_app() -> web.Application:
    app = web.Application()
    app.add_routes(routes)
    # Last: what is not the application's own and begins with /llm is Nexus's.  It opens and closes with the application.
    attach(app, "/llm", Path(__file__).with_name("nexus.toml"))
    return app


if __name__ == "__main__":
    web.run_app(make_app(), host="127.0.0.1", port=PORT, handler_cancellation=True)
