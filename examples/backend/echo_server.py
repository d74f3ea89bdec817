"""A little inference server without a model: it says back what it is told.  Not a part of the plugin, only its other end.

python echo_server.py [PORT]
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Any

from aiohttp import web

PORT = 7077
MODEL = "parrot"
routes = web.RouteTableDef()


@routes.get("/echo")
async def about(request: web.Request) -> web.Response:
    """What no other server answers: the plugin recognises an echo server by it."""
    return web.json_response({"echo": {"version": "1.0", "slots": 4}, "models": [{"id": MODEL, "context": 4096}]})


@routes.get("/v1/models")
async def models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "echo"}]})


@routes.post("/v1/chat/completions")
async def chat(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    words = str(body["messages"][-1]["content"]).split()
    usage = {"prompt_tokens": len(words), "completion_tokens": len(words), "total_tokens": 2 * len(words)}
    if not body.get("stream"):
        message = {"role": "assistant", "content": " ".join(words)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return web.json_response(entry("chat.completion", choices=[choice], usage=usage))
    wants_usage = (body.get("stream_options") or {}).get("include_usage")
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for chunk in chunks(words, usage if wants_usage else None):
        await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
    await response.write(b"data: [DONE]\n\n")
    return response


def chunks(words: list[str], usage: dict[str, int] | None) -> Iterator[dict[str, Any]]:
    """The events of a stream: a word each, then why it ended, then the token counts where they are wanted."""
    for number, word in enumerate(words):
        delta = {"content": f" {word}" if number else word}
        yield entry("chat.completion.chunk", choices=[{"index": 0, "delta": delta, "finish_reason": None}])
    yield entry("chat.completion.chunk", choices=[{"index": 0, "delta": {}, "finish_reason": "stop"}])
    if usage:
        yield entry("chat.completion.chunk", choices=[], usage=usage)


def entry(kind: str, **fields: Any) -> dict[str, Any]:
    return {"id": "echo-1", "object": kind, "created": 0, "model": MODEL, **fields}


def main() -> None:
    app = web.Application()
    app.add_routes(routes)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else PORT)


if __name__ == "__main__":
    main()
