"""Nexus as a part of somebody's application: a prefix beside other routes, middlewares, two of it, and a clean end."""

import asyncio
import gc
import io
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from nexus.api import ObserverKind, hookimpl
from nexus.errors import ConfigError, StartupError
from nexus.server import GATEWAY, attach, create_app
from nexus.testing import Held, Respond, openai_server, until

from .asking import CHAT, a_backend, chats, fleet

MIB = 1024 * 1024


@asynccontextmanager
async def serving(app: web.Application, **options):
    """The application as its owner would run it: nothing is set for our sake."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=5, **options)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}") as client:
            yield client
    finally:
        await runner.cleanup()


def config(tmp_path, *servers, word: str = "state", **tables):
    backends = [a_backend(f"one-{index}", server) for index, server in enumerate(servers)]
    return fleet(*backends, **{"discovery": {"sources": []}, "server": {"state_dir": str(tmp_path / word)}, **tables})


async def chat(client, path: str, model: str = "tiny", text: str = "hello", **fields):
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    data = io.BytesIO(json.dumps(body).encode())  # aiohttp's client warns of large bytes
    async with client.post(path + CHAT, data=data) as answer:
        return answer.status, answer.headers.copy(), await answer.read()


async def known(gateway, model: str = "tiny") -> None:
    await until(lambda: gateway.fleet.find(model), timeout=20)


async def test_beside_own_routes_and_under_own_middlewares(tmp_path):
    seen = []

    @web.middleware
    async def note(request, handler):
        response = await handler(request)
        seen.append((request.path, response.status))
        return response

    async def own(request):
        return web.json_response({"ready": request.app[GATEWAY].ready, "sum": len(await request.text())})

    async def other(request):
        return web.Response(text="mine")

    async with openai_server() as server:
        app = web.Application(middlewares=[note])
        app.router.add_post("/own", own)
        key = attach(app, "/llm", config(tmp_path, server))
        app.router.add_get("/llm-not-ours", other)
        async with serving(app) as client:
            assert app[key] is app[GATEWAY]
            await known(app[key])
            for stream in (False, True):
                status, headers, body = await chat(client, "/llm", stream=stream)
                assert (status, headers["X-Nexus-Backend"]) == (200, "one-0")
                assert (b"[DONE]" in body) is stream
            async with client.post("/own", data=b"x" * 10) as answer:
                assert await answer.json() == {"ready": True, "sum": 10}
            async with client.get("/llm-not-ours") as answer:
                assert await answer.text() == "mine"
            for path, status in (
                ("/llm/health", 200),
                ("/llm/v1/models/tiny", 200),
                ("/llm/nope", 404),
                ("/v1/models", 404),
                ("/llm", 200),
            ):
                async with client.get(path) as answer:
                    assert (path, answer.status) == (path, status)
        assert ("/llm" + CHAT, 200) in seen
        assert ("/llm/nope", 404) in seen


async def test_the_applications_body_limit_does_not_decide(tmp_path):
    """aiohttp's `client_max_size` is 1 MiB unless somebody sets it; pictures are larger."""
    async with openai_server() as server:
        app = web.Application()
        attach(app, "/llm", config(tmp_path, server, server={"state_dir": str(tmp_path / "s"), "max_body_bytes": 6 * MIB}))
        async with serving(app) as client:
            await known(app[GATEWAY])
            assert (await chat(client, "/llm", text="x" * 5 * MIB))[0] == 200
            assert len(server.requests[-1].body) > 5 * MIB
            status, _, body = await chat(client, "/llm", text="x" * 7 * MIB)
            assert (status, b"request_too_large" in body) == (413, True)
        assert len(chats(server)) == 1


async def test_two_gateways_of_different_minds_in_one_application(tmp_path):
    async with openai_server(["tiny", "big"]) as server:
        app = web.Application()
        strict = attach(app, "/strict", config(tmp_path, server, word="a", policies=[{"models": ["*"], "zone": "restricted"}]))
        loose = attach(app, "/loose/er", config(tmp_path, server, word="b", routing={"aliases": {"tiny": "big"}}))
        async with serving(app) as client:
            assert app[GATEWAY] is app[strict] is not app[loose]
            await known(app[strict])
            await known(app[loose])
            assert (await chat(client, "/strict"))[0] == 503
            status, headers, _ = await chat(client, "/loose/er")
            assert (status, headers["X-Nexus-Model"]) == (200, "big")
            async with client.get("/strict/nexus/stats") as one, client.get("/loose/er/nexus/stats") as two:
                assert await one.json() != await two.json()


def under(prefix: str, tmp_path, server) -> tuple[web.Application, web.Application]:
    """Nexus under the prefix: the whole application, and that which has the gateway."""
    app = web.Application()
    if prefix == "/sub":
        sub = create_app(config(tmp_path, server))
        app.add_subapp(prefix, sub)
        return app, sub
    attach(app, prefix, config(tmp_path, server))
    return app, app


@pytest.mark.parametrize("prefix", ["/llm", "/llm/api", "/sub", "/llm/"])
async def test_errors_name_paths_as_they_are_in_the_application(tmp_path, prefix):
    async with openai_server() as server:
        app, inner = under(prefix, tmp_path, server)
        here = prefix.rstrip("/")
        async with serving(app) as client:
            await known(inner[GATEWAY])

            async def said(method: str, path: str, **body) -> str:
                async with client.request(method, here + path, **({"json": body} if body else {})) as answer:
                    return (await answer.json())["error"]["message"]

            unknown = "§§§§§§§§"
            message = {"messages": [{"role": "user", "content": "hello"}]}
            told = {
                "/v1/models": (
                    await said("GET", f"/v1/models/{unknown}"),
                    await said("POST", CHAT, model=unknown, **message),
                    await said("POST", CHAT, **message),
                    await said("POST", CHAT, model="", **message),
                    await said("GET", "/§§§"),
                ),
                "/nexus/requests": (await said("GET", "/nexus/requests/none"),),
                CHAT: (
                    await said("GET", CHAT),
                    await said("POST", "/v1/responses", x=1),
                    await said("POST", "/v1/chat/completion", x=1),
                ),
                "/v1": (await said("GET", "/api/tags"),),
                "/nope": (await said("GET", "/nope"),),
            }
            for path, messages in told.items():
                for words in messages:
                    assert here + path in words
                    assert words.count(path) == words.count(here + path), words


async def test_a_servers_own_words_are_left_as_they_are(tmp_path):
    async with openai_server() as server:
        app, inner = under("/llm", tmp_path, server)
        async with serving(app) as client:
            await known(inner[GATEWAY])
            server.next(Respond(400, json={"error": {"message": "see GET /v1/models"}}), path=CHAT)
            assert b'"see GET /v1/models"' in (await chat(client, "/llm"))[2]


@pytest.mark.parametrize("prefix", ["/llm", "/sub"])
async def test_the_prefix_by_itself_is_the_first_page(tmp_path, prefix):
    async with openai_server() as server:
        app, _ = under(prefix, tmp_path, server)
        async with serving(app) as client:
            for path in (prefix, prefix + "/"):
                async with client.get(path) as answer:
                    assert answer.status == 200
                    assert f"{prefix}/v1/models" in await answer.text()
            async with client.post(prefix, json={}) as answer:
                assert (answer.status, (await answer.json())["error"]["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("/llm", 5), "config must be a mapping of tables, TOML text"),
        (("/llm", ["backends"]), "config must be"),
        (("/llm", b"[server]"), "config must be"),
        (("nexus.toml",), "prefix must be a path such as '/llm'"),
        (({"backends": []},), "prefix must be a path"),
    ],
)
def test_what_is_no_configuration_and_no_prefix_is_told_so(arguments, told):
    with pytest.raises(TypeError, match=told):
        attach(web.Application(), *arguments)


def test_what_is_no_application_or_no_configuration_is_told_so():
    with pytest.raises(TypeError, match="app must be an aiohttp"):
        attach("/llm", web.Application())
    with pytest.raises(TypeError, match="config must be"):
        create_app(5)


async def test_as_a_sub_application_of_another(tmp_path):
    async with openai_server(["org/tiny"]) as server:
        app, sub = web.Application(), create_app(config(tmp_path, server))
        app.add_subapp("/deep/er", sub)
        async with serving(app) as client:
            await known(sub[GATEWAY], "org/tiny")
            assert (await chat(client, "/deep/er", "org/tiny"))[0] == 200
            async with client.get("/deep/er/v1/models/org%2Ftiny") as answer:
                assert answer.status == 200


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_leaves_ends_the_exchange_though_handlers_are_not_cancelled(tmp_path, stream):
    async with openai_server() as server:
        app = create_app(config(tmp_path, server))
        async with serving(app, handler_cancellation=False) as client:
            await known(app[GATEWAY])
            server.next(Held(asyncio.Event(), Respond()), path=CHAT)
            asking = asyncio.get_running_loop().create_task(chat(client, "", stream=stream))
            await server.until(lambda: server.in_flight == 1)
            asking.cancel()
            await server.until(lambda: server.in_flight == 0)
            await until(lambda: not app[GATEWAY].fleet.standings["one-0"].in_flight)


async def test_the_end_of_the_application_lets_what_runs_finish_and_closes_all(tmp_path, recwarn):
    tasks_before = len(asyncio.all_tasks())
    async with openai_server() as server:
        app = web.Application()
        attach(app, "/llm", config(tmp_path, server))
        gate = asyncio.Event()
        async with aiohttp.ClientSession() as client:
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=5)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/llm"
            await known(app[GATEWAY])
            server.next(Held(gate, Respond(json={"choices": [{"message": {}}]})), path=CHAT)
            asking = asyncio.get_running_loop().create_task(chat(client, url))
            await server.until(lambda: server.in_flight == 1)
            ending = asyncio.get_running_loop().create_task(runner.cleanup())
            await until(lambda: app[GATEWAY].draining)
            gate.set()
            assert (await asking)[0] == 200
            await ending
        await server.until(lambda: not server.open_connections)
    await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


async def test_what_cannot_start_says_so_at_once_or_at_the_start(tmp_path):
    app = web.Application()
    with pytest.raises(ConfigError, match="polcies"):
        attach(app, "/llm", {"polcies": []})
    attach(app, "/one", config(tmp_path))
    attach(app, "/two", config(tmp_path), plugins=[Unopenable()])
    with pytest.raises(StartupError, match="it cannot be opened today"):
        async with serving(app):
            pass


class Unopenable:
    """A plugin whose observer does not open."""

    @asynccontextmanager
    async def open(self, options, scope):
        raise StartupError("it cannot be opened today")
        yield

    @hookimpl
    def nexus_observers(self):
        yield ObserverKind(name="unopenable", open=self.open)


@pytest.mark.parametrize(
    ("hosts", "listed", "status"), [(None, [], 200), (None, ["mine.example"], 403), (True, [], 403), (False, ["mine.example"], 200)]
)
async def test_an_application_knows_its_own_names(tmp_path, hosts, listed, status):
    async with openai_server() as server:
        app = web.Application()
        tables = config(tmp_path, server)
        tables["server"]["hosts"] = listed
        key = attach(app, "/llm", tables, hosts=hosts)
        async with serving(app) as client:
            await known(app[key])
            for host, expected in (("app.example.org", status), ("mine.example", 200 if listed else status), ("localhost", 200)):
                async with client.get("/llm/v1/models", headers={"Host": host}) as answer:
                    assert answer.status == expected, host
                async with client.post("/llm" + CHAT, data=b'{"model":"tiny","messages":[]}', headers={"Host": host}) as answer:
                    assert answer.status == expected, host


async def test_an_application_that_says_what_it_wants_gets_nothing_else(tmp_path):
    """Loopback is looked at only where nothing was said, or where it was said."""
    (tmp_path / "nexus.toml").write_text("[queue]\nmax_requests = 7\n")
    found = {}
    for name, config in {
        "mapping": {"queue": {"max_requests": 7}},
        "text": "[queue]\nmax_requests = 7\n",
        "file": tmp_path / "nexus.toml",
        "name": str(tmp_path / "nexus.toml"),
        "listed": {"queue": {"max_requests": 7}, "discovery": {"sources": ["loopback"]}},
        "alone": str(tmp_path / "nexus.toml"),
    }.items():
        app = web.Application() if name != "alone" else create_app(config)
        key = attach(app, "/llm", config) if name != "alone" else GATEWAY
        async with serving(app):
            assert app[key].config.queue.max_requests == 7, name
            found[name] = app[key].config.discovery.sources
    assert found == {"mapping": (), "text": (), "file": (), "name": (), "listed": ("loopback",), "alone": ("loopback",)}
    with pytest.raises(ConfigError, match="no such file"):
        create_app("nowhere/nexus.toml")
