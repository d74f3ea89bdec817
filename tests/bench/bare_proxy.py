"""The yardstick: a streaming reverse proxy as people write it with aiohttp, in 40 lines.  It does nothing but relay."""

import sys
from collections.abc import AsyncIterator

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

BACKEND = sys.argv[2]
SESSION = web.AppKey("session", ClientSession)
HOP_BY_HOP = {"host", "connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = TCPConnector(limit=0)
    async with ClientSession(connector=connector, timeout=ClientTimeout(total=None), auto_decompress=False) as app[SESSION]:
        yield


async def relay(request: web.Request) -> web.StreamResponse:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP}
    body = await request.read()
    async with request.app[SESSION].request(
        request.method, BACKEND + request.path_qs, headers=headers, data=body, allow_redirects=False
    ) as answer:
        headers = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=headers)
        await response.prepare(request)
        async for piece in answer.content.iter_any():
            await response.write(piece)
        await response.write_eof()
        return response


app = web.Application(client_max_size=64 * 1024 * 1024)
app.cleanup_ctx.append(session)
app.router.add_route("*", "/{path:.*}", relay)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), access_log=None, print=None)
