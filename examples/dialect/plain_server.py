"""A little server that speaks plain, without a model: it says back what it is told.  Not a part of the plugin, only its other end.

python plain_server.py [PORT]
"""

from __future__ import annotations

import json
import sys
from typing import Any

from aiohttp import web

PORT = 7078
MODEL = "starling"
routes = web.RouteTableDef()


@routes.get("/plain/models")
async def models(request: web.Request) -> web.Response:
    return web.json_response({"plain": 1, "models": [{"name": MODEL, "context": 4096}]})


@routes.post("/plain/chat")
async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    if body.get("model") != MODEL:
        return web.json_response({"wrong": f"there is no model but {MODEL}"}, status=404)
    words = str(body["ask"]).split()[: body.get("limit")]
    end = {"why": "end", "tokens": {"in": len(words), "out": len(words)}}
    if not body.get("stream"):
        return web.json_response({"model": MODEL, "say": " ".join(words), **end})
    response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
    await response.prepare(request)
    for number, word in enumerate(words):
        await response.write(line(say=f" {word}" if number else word))
    await response.write(line(done=True, **end))
    return response


def line(**fields: Any) -> bytes:
    return json.dumps(fields).encode() + b"\n"


def main() -> None:
    app = web.Application()
    app.add_routes(routes)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else PORT)


if __name__ == "__main__":
    main()
